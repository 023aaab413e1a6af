"""Losses of drawn classes and of pairs, compared with their matrix products, NumPy and PyTorch.

``python benchmarks/bench_sampled.py`` prints times and ratios to the products, on one thread.
Set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax import info_nce_with_grad, sampled_softmax_loss_with_grad
from boltzmax.cli.timing import Task, interleave

if TYPE_CHECKING:
    from conftest import Measure

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Calls = dict[str, Callable[[], Any]]

CLASSES, FEATURES, ROWS, CANDIDATES = 1_000_000, 256, 512, 1024
PAIRS = 4096


class Batch:
    """A layer, and a batch with its candidates."""

    def __init__(self, classes: int = CLASSES) -> None:
        rng = np.random.default_rng(0)
        self.weight = rng.standard_normal((classes, FEATURES), dtype=np.float32)
        self.hidden = rng.standard_normal((ROWS, FEATURES), dtype=np.float32) * np.float32(0.1)
        self.target = rng.integers(classes, size=ROWS)
        self.ids = rng.integers(classes, size=CANDIDATES)
        self.log_q = np.full(CANDIDATES, np.log(CANDIDATES / classes))

    def ours(self) -> Any:
        draws = self.ids, self.log_q
        return sampled_softmax_loss_with_grad(self.hidden, self.weight, self.target, draws)

    def products(self) -> None:
        """The three products: the logits of the candidates, and both gradients."""
        logits = self.hidden @ self.candidates.T
        _ = logits @ self.candidates, logits.T @ self.hidden

    @property
    def candidates(self) -> Floats:
        if not hasattr(self, "_candidates"):
            self._candidates = self.weight[self.ids]
        return self._candidates

    def numpy(self) -> Any:
        """The same loss and gradients, with a sparse gradient of the weights."""
        candidates, of_target = self.weight[self.ids], self.weight[self.target]
        s = self.hidden @ candidates.T - self.log_q.astype(np.float32)
        s[self.ids == self.target[:, None]] = -np.inf
        own = np.einsum("nd,nd->n", self.hidden, of_target)
        s = np.concatenate([own[:, None], s], axis=1)
        top = s.max(axis=1, keepdims=True)
        p = np.exp(s - top)
        total = p.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) + top[:, 0] - own).mean()
        p /= total * len(s)
        p[:, 0] -= np.float32(1 / len(s))
        d_hidden = p[:, 1:] @ candidates + p[:, :1] * of_target
        rows = np.concatenate([p[:, 1:].T @ self.hidden, p[:, :1] * self.hidden])
        unit_ids, place = np.unique(np.concatenate([self.ids, self.target]), return_inverse=True)
        d_weight = np.zeros((len(unit_ids), FEATURES), np.float32)
        np.add.at(d_weight, place, rows)
        return loss, d_hidden, unit_ids, d_weight

    def torch(self) -> Callable[[], Any]:
        """PyTorch's, with the sparse gradient of an embedding."""
        torch: Any = pytest.importorskip("torch")
        torch.set_num_threads(1)
        functional = torch.nn.functional
        weight = torch.from_numpy(self.weight).requires_grad_()
        hidden = torch.tensor(self.hidden, requires_grad=True)
        target, ids = torch.from_numpy(self.target), torch.from_numpy(self.ids)
        log_q = torch.tensor(self.log_q, dtype=torch.float32)

        def run() -> None:
            hidden.grad = weight.grad = None
            some = functional.embedding(ids, weight, sparse=True)
            of_target = functional.embedding(target, weight, sparse=True)
            s = (hidden @ some.T - log_q).masked_fill(ids == target[:, None], -torch.inf)
            own = (hidden * of_target).sum(1, keepdim=True)
            zeros = torch.zeros(ROWS, dtype=torch.long)
            functional.cross_entropy(torch.cat([own, s], 1), zeros).backward()
            weight.grad.coalesce()

        return run


class Pairs:
    """Two sets of unit vectors."""

    def __init__(self, n: int = PAIRS) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, n, FEATURES), dtype=np.float32)
        self.query, self.key = x / np.linalg.norm(x, axis=2, keepdims=True)
        self.scores, self.out = np.empty((n, n), np.float32), np.empty((n, FEATURES), np.float32)

    def products(self) -> None:
        """Four products: scores twice, since they are not kept, and both gradients."""
        for _ in range(2):
            np.matmul(self.query, self.key.T, out=self.scores)
        np.matmul(self.scores, self.key, out=self.out)
        np.matmul(self.scores.T, self.query, out=self.out)

    def ours(self, **options: Any) -> Any:
        return info_nce_with_grad(self.query, self.key, **options)

    def torch(self, *, symmetric: bool = False) -> Callable[[], Any]:
        """PyTorch's, with the matrix of scores."""
        torch: Any = pytest.importorskip("torch")
        torch.set_num_threads(1)
        functional = torch.nn.functional
        leaves = [torch.tensor(x, requires_grad=True) for x in (self.query, self.key)]
        labels = torch.arange(len(self.query))

        def run() -> None:
            leaves[0].grad = leaves[1].grad = None
            s = leaves[0] @ leaves[1].T / 0.07
            loss = functional.cross_entropy(s, labels)
            if symmetric:
                loss = (loss + functional.cross_entropy(s.T, labels)) / 2
            loss.backward()

        return run


def test_sampled_softmax(measure: Measure) -> None:
    measure("sampled softmax", Task(Batch(20_000).ours))


def test_numpy(measure: Measure) -> None:
    measure("sampled softmax", Task(Batch(20_000).numpy))


def test_three_products(measure: Measure) -> None:
    measure("sampled softmax", Task(Batch(20_000).products))


def test_torch(measure: Measure) -> None:
    measure("sampled softmax", Task(Batch(20_000).torch()))


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce(measure: Measure, symmetric: bool) -> None:
    measure("info_nce", Task(partial(Pairs(1024).ours, symmetric=symmetric)))


def test_four_products(measure: Measure) -> None:
    measure("info_nce", Task(Pairs(1024).products))


def report(title: str, calls: Calls, rounds: int) -> None:
    """Print the median time of each call, and the median of its ratio to the first one's."""
    times = interleave({name: Task(call) for name, call in calls.items()}, rounds)
    reference = next(iter(times.values()))
    print(title)
    for name, seconds in times.items():
        ratio = median(a / b for a, b in zip(seconds, reference, strict=True))
        print(f"  {name:24}{1e3 * median(seconds):8.2f} ms {ratio:7.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=("sampled", "pairs", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-torch", action="store_true")
    given = parser.parse_args()
    boltzmax.set_num_threads(1)
    if given.case != "pairs":
        batch = Batch()
        calls: Calls = {"three products": batch.products, "boltzmax": batch.ours}
        calls["NumPy"] = batch.numpy
        if not given.no_torch:
            calls["PyTorch"] = batch.torch()
        shape = f"V={CLASSES} D={FEATURES} rows={ROWS} n={CANDIDATES} float32"
        report(f"sampled_softmax_loss_with_grad, {shape}", calls, 4 * given.rounds)
    if given.case != "sampled":
        pairs = Pairs()
        calls = {"four products": pairs.products, "boltzmax": pairs.ours}
        calls["boltzmax, symmetric"] = partial(pairs.ours, symmetric=True)
        if not given.no_torch:
            calls |= {"PyTorch": pairs.torch(), "PyTorch, symmetric": pairs.torch(symmetric=True)}
        report(f"info_nce_with_grad, {PAIRS} x {PAIRS} D={FEATURES} float32", calls, given.rounds)


if __name__ == "__main__":
    main()

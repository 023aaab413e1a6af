"""Adaptive softmax, compared with its matrix products and PyTorch's layer of the same weights.

``python benchmarks/bench_adaptive.py`` prints the loss, the loss with gradients, and a step. Set
OPENBLAS_NUM_THREADS=1. The bare products write whole matrices into arrays that exist already; the
layer computes the logits of a large tail twice for gradients, tile by tile.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax import AdaptiveSoftmax
from boltzmax.cli.timing import Task, interleave

if TYPE_CHECKING:
    from conftest import Measure

Floats = NDArray[np.float32]
Call = Callable[[], Any]

V, D, N = 100_000, 256, 512
CUTOFFS = [(2_000, 20_000), (4_000, 20_000), None]  # None: those of the cost model
RATE = 0.01


def task(cutoffs: Any, v: int = V) -> tuple[AdaptiveSoftmax, Floats, NDArray[np.int64]]:
    """Return a layer, hidden vectors, and classes with Zipf's frequencies."""
    rng = np.random.default_rng(0)
    layer = AdaptiveSoftmax(D, v, cutoffs, seed=0)
    p = 1 / np.arange(1, v + 1)
    target = rng.choice(v, N, p=p / p.sum())
    return layer, rng.standard_normal((N, D), dtype=np.float32), target


def products(
    layer: AdaptiveSoftmax, hidden: Floats, target: NDArray[np.int64], gradients: bool
) -> Call:
    """Return a function that multiplies what the layer has to multiply, into existing arrays."""
    pairs: list[tuple[Any, Any, Any]] = []

    def plan(a: Any, b: Any) -> Any:
        out = np.zeros((a.shape[0], b.shape[1]), np.float32)
        pairs.append((a, b, out))
        return out

    bounds = (*layer.cutoffs, layer.n_classes)
    scores = plan(hidden, layer.weight.T)
    if gradients:
        plan(scores, layer.weight)
        plan(scores.T, hidden)
    for tail, begin, end in zip(layer.tails, bounds, bounds[1:], strict=False):
        x = hidden[(target >= begin) & (target < end)]
        h = plan(x, tail.projection.T)
        s = plan(h, tail.weight.T)
        if gradients:
            d_h = plan(s, tail.weight)
            plan(s.T, h)
            plan(d_h, tail.projection)
            plan(d_h.T, x)

    def run() -> None:
        for a, b, out in pairs:
            np.matmul(a, b, out=out)

    return run


def in_torch(
    layer: AdaptiveSoftmax, hidden: Floats, target: NDArray[np.int64]
) -> tuple[Call, Call, Call]:
    """Return PyTorch's loss, its gradients, and a step of SGD."""
    torch: Any = pytest.importorskip("torch")
    torch.set_num_threads(1)
    module, t = layer.to_torch().module, torch.tensor(target)
    h = torch.tensor(hidden, requires_grad=True)
    optimizer = torch.optim.SGD(module.parameters(), RATE / len(target))

    def loss() -> float:
        with torch.no_grad():
            return float(module(h, t).loss)

    def gradients() -> None:
        h.grad = None
        optimizer.zero_grad()
        module(h, t).loss.backward()

    def step() -> None:
        gradients()
        optimizer.step()

    return loss, gradients, step


def test_boltzmax(measure: Measure) -> None:
    measure("adaptive", Task(partial(_step, *task((500, 2_000), 10_000))))


def test_products(measure: Measure) -> None:
    measure("adaptive", Task(products(*task((500, 2_000), 10_000), gradients=True)))


def test_torch(measure: Measure) -> None:
    measure("adaptive", Task(in_torch(*task((500, 2_000), 10_000))[2]))


def _step(layer: AdaptiveSoftmax, hidden: Floats, target: NDArray[np.int64]) -> None:
    layer.sgd_step(hidden, target, RATE / N)


def report(cutoffs: Any, rounds: int) -> None:
    """Print the median times of a layer, and their ratios."""
    layer, hidden, target = task(cutoffs)
    bare, bare_all = (products(layer, hidden, target, gradients=g) for g in (False, True))
    loss, gradients, step = in_torch(layer, hidden, target)
    calls: dict[str, tuple[Call, Call, Call]] = {
        "loss": (partial(layer.loss, hidden, target), bare, loss),
        "gradients": (partial(layer.loss_with_grad, hidden, target), bare_all, gradients),
        "step": (partial(_step, layer, hidden, target), bare_all, step),
        "adagrad": (partial(layer.adagrad_step, hidden, target, RATE / N), bare_all, step),
    }
    shares = np.diff(np.searchsorted(np.sort(target), [*layer.cutoffs, layer.n_classes]))
    print(f"V={V} D={D} N={N} cutoffs={list(layer.cutoffs)}, rows in tails {shares}")
    for name, (ours, multiplied, theirs) in calls.items():
        tasks = {"ours": Task(ours), "products": Task(multiplied), "torch": Task(theirs)}
        times = interleave(tasks, rounds).values()
        mine, least, peer = (1e3 * float(np.median(seconds)) for seconds in times)
        print(
            f"  {name:10} {mine:7.2f} ms, products {least:7.2f} ms ({mine / least:.2f}x), "
            f"torch {peer:7.2f} ms ({peer / mine:.2f}x as long)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", type=int, choices=range(len(CUTOFFS)), help="one of the cutoffs")
    args = parser.parse_args()
    boltzmax.set_num_threads(1)
    for i, cutoffs in enumerate(CUTOFFS):
        if args.case in (None, i):
            report(cutoffs, args.rounds)


if __name__ == "__main__":
    main()

"""The cost of small calls in microseconds, compared with PyTorch or SciPy.

    python benchmarks/small_calls.py
    python benchmarks/small_calls.py --only tree --json small.json

On one thread, interleaved in one process. np.exp of 40 numbers and a bare call of compiled code
come first, as lower bounds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import boltzmax
import row_tasks
from boltzmax import HierarchicalSoftmax, Tree
from boltzmax._lib.console import print_table, progress, write_json
from boltzmax.cli.peers import OURS, Array, Case
from boltzmax.cli.timing import Task, interleave

Calls = dict[str, Callable[[], object]]

CASE = Case("softmax", (4, 10))
FEATURES, VOCABULARY, K = 32, 1000, 5
SAMPLE = 1e-3  # seconds per sample of calls
PEERS = ("torch", "scipy")


@dataclass(frozen=True)
class Result:
    """Microseconds of a call."""

    call: str
    by: str
    least: float
    median: float


def floors() -> Iterator[tuple[str, Calls]]:
    """Yield the lower bounds: minimal calls of Python and NumPy."""
    yield "np.exp of 40 numbers", {"numpy": partial(np.exp, CASE.data())}
    yield "a bare call", {"python": partial(math.hypot, 3.0, 4.0)}


def softmaxes() -> Iterator[tuple[str, Calls]]:
    """Yield calls of softmax or logsumexp with their options."""
    x = CASE.data()
    mask, temperature = x > -2, np.full((len(x), 1), 2.0)
    ours = partial(boltzmax.softmax, x)
    torch, scipy = _torch_softmaxes(x, mask, temperature), _scipy_softmaxes(x, mask)
    calls: Calls = {
        "softmax": ours,
        "softmax where=": partial(ours, where=mask),
        "softmax temperature=array": partial(ours, temperature=temperature),
        "softmax dtype=": partial(ours, dtype=np.float64),
        "softmax of a list": partial(boltzmax.softmax, x.tolist()),
        "softmax axis=(0, 1)": partial(ours, axis=(0, 1)),
        "logsumexp": partial(boltzmax.logsumexp, x),
        "logsumexp b=": partial(boltzmax.logsumexp, x, b=np.abs(x)),
        "logsumexp b=, return_sign": partial(boltzmax.logsumexp, x, b=x, return_sign=True),
    }
    for name, call in calls.items():
        peers = {"torch": torch.get(name), "scipy": scipy.get(name)}
        yield name, {OURS: call, **{peer: c for peer, c in peers.items() if c is not None}}


def _torch_softmaxes(x: Array, mask: Array, temperature: Array) -> Calls:
    if not find_spec("torch"):
        return {}
    import torch

    tensor, hidden, divisor = torch.tensor(x), torch.tensor(~mask), torch.tensor(temperature)
    return {
        "softmax": partial(torch.softmax, tensor, -1),
        "softmax where=": lambda: tensor.masked_fill(hidden, -math.inf).softmax(-1),
        "softmax temperature=array": lambda: (tensor / divisor).softmax(-1),
        "softmax dtype=": partial(torch.softmax, tensor, -1, dtype=torch.float64),
        "softmax axis=(0, 1)": lambda: tensor.flatten().softmax(0).view(tensor.shape),
        "logsumexp": partial(torch.logsumexp, tensor, -1),
    }


def _scipy_softmaxes(x: Array, mask: Array) -> Calls:
    if not find_spec("scipy"):
        return {}
    from scipy import special

    return {
        "softmax": partial(special.softmax, x, axis=-1),
        "softmax where=": lambda: special.softmax(np.where(mask, x, -np.inf), axis=-1),
        "softmax of a list": partial(special.softmax, x.tolist(), axis=-1),
        "softmax axis=(0, 1)": partial(special.softmax, x, axis=(0, 1)),
        "logsumexp": partial(special.logsumexp, x, axis=-1),
        "logsumexp b=": partial(special.logsumexp, x, axis=-1, b=np.abs(x)),
        "logsumexp b=, return_sign": partial(special.logsumexp, x, axis=-1, b=x, return_sign=True),
    }


def losses() -> Iterator[tuple[str, Calls]]:
    """Yield losses of four rows of ten classes."""
    for operation in row_tasks.LOSSES:
        tasks = row_tasks.prepare(Case(operation, CASE.shape))
        yield operation, {name: t.call for name, t in tasks.items() if name in (OURS, *PEERS)}
    rows = row_tasks.Rows.of(CASE)
    log_prob = boltzmax.log_softmax(rows.x)
    nll: Calls = {OURS: partial(boltzmax.nll_loss, log_prob, rows.target)}
    if find_spec("torch"):
        import torch

        loss = torch.nn.functional.nll_loss
        nll["torch"] = partial(loss, torch.tensor(log_prob), torch.tensor(rows.target))
    yield "nll_loss", nll
    yield "focal_loss", {OURS: partial(boltzmax.focal_loss, rows.x, rows.target)}


def _vectors() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((CASE.shape[0], FEATURES), np.float32)
    weight = rng.standard_normal((VOCABULARY, FEATURES), np.float32) / np.float32(FEATURES**0.5)
    return hidden, weight, rng.integers(VOCABULARY, size=len(hidden))


def linear() -> Iterator[tuple[str, Calls]]:
    """Yield calls of a linear layer with a thousand classes."""
    hidden, weight, target = _vectors()
    loss: Calls = {OURS: partial(boltzmax.linear_cross_entropy, hidden, weight, target)}
    top: Calls = {OURS: partial(boltzmax.linear_topk, hidden, weight, K)}
    if find_spec("torch"):
        import torch
        from torch.nn import functional

        h, w, t = torch.tensor(hidden), torch.tensor(weight), torch.tensor(target)
        loss["torch"] = lambda: functional.cross_entropy(h @ w.T, t)
        top["torch"] = lambda: torch.log_softmax(h @ w.T, -1).topk(K)
    yield "linear_cross_entropy", loss
    yield f"linear_topk({K})", top


def trees() -> Iterator[tuple[str, Calls]]:
    """Yield calls of a layer on a tree of a thousand classes, which no peer has."""
    hidden, _, target = _vectors()
    for kind, tree in (
        ("balanced", Tree.balanced(VOCABULARY)),
        ("Huffman", Tree.huffman(1 / np.arange(1, VOCABULARY + 1))),
    ):
        layer = HierarchicalSoftmax(tree, FEATURES, seed=0)
        yield f"{kind} tree log_prob", {OURS: partial(layer.log_prob, hidden, target)}
        yield f"{kind} tree topk({K})", {OURS: partial(layer.topk, hidden, K)}
        yield f"{kind} tree sgd_step", {OURS: partial(layer.sgd_step, hidden, target, 1e-6)}


def measure(name: str, calls: Calls, rounds: int) -> list[Result]:
    """Return the times of a call and of its peers'."""
    times = interleave({by: Task(call) for by, call in calls.items()}, rounds, SAMPLE)
    return [
        Result(name, by, 1e6 * float(t.min()), 1e6 * float(np.median(t))) for by, t in times.items()
    ]


def print_results(results: list[Result]) -> None:
    """Print one row for each call, with its time as a multiple of np.exp's."""
    exp = results[0].least
    rows = []
    for name in dict.fromkeys(r.call for r in results):
        least = {r.by: r.least for r in results if r.call == name}
        first = next(iter(least.values()))
        peers = (f"{least[peer]:.2f}" if peer in least else "" for peer in PEERS)
        rows.append((name, f"{first:.2f}", f"{first / exp:.1f}x", *peers))
    header = ("call", ">us", ">np.exp", *(f">{peer}" for peer in PEERS))
    print_table("microseconds per call, the minimum of all rounds", header, [rows])


def set_threads(n: int) -> None:
    boltzmax.set_num_threads(n)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(n)


def main() -> None:
    """Measure the chosen calls."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="calls whose name has this")
    parser.add_argument("--rounds", type=int, default=41, help="41 by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="- for standard output")
    args = parser.parse_args()

    groups = (softmaxes(), losses(), linear(), trees())
    chosen = [(n, c) for group in groups for n, c in group if args.only in n]
    set_threads(1)
    results: list[Result] = []
    with progress("calls", len(chosen)) as advance:
        for name, calls in [*floors(), *chosen]:
            results += measure(name, calls, args.rounds)
            advance(1, name)
    if args.json != Path("-"):
        print_results(results)
    if args.json:
        write_json(args.json, row_tasks.environment(), "results", map(asdict, results))


if __name__ == "__main__":
    main()

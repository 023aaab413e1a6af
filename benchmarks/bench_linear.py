"""Cross-entropy of a linear layer with gradients, compared with its matrix products and PyTorch.

``python benchmarks/bench_linear.py`` prints the time, the ratio to the four products that are
needed if the logits are not stored, and the peak of extra memory.  Set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax import linear_cross_entropy_with_grad, linear_logsumexp, linear_sample, linear_topk
from boltzmax.cli.timing import Task, least

if TYPE_CHECKING:
    from conftest import Measure

Floats = NDArray[np.float32]

N, D, V = 2048, 256, 50000
SMALL = (512, 128, 10000)


def layer(n: int, d: int, v: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((n, d), dtype=np.float32)
    weight = rng.standard_normal((v, d), dtype=np.float32) * np.float32(0.1)
    return hidden, weight, rng.integers(0, v, n)


def four_products(hidden: Floats, weight: Floats) -> Callable[[], None]:
    """Return a function that computes logits twice, and both gradients from them."""
    logits = np.empty((len(hidden), len(weight)), np.float32)
    d_hidden, d_weight = np.empty_like(hidden), np.empty_like(weight)

    def run() -> None:
        np.matmul(hidden, weight.T, out=logits)
        np.matmul(hidden, weight.T, out=logits)
        np.matmul(logits, weight, out=d_hidden)
        np.matmul(logits.T, hidden, out=d_weight)

    return run


def in_torch(
    hidden: Floats, weight: Floats, target: NDArray[np.int64], *, chunked: bool = False
) -> Callable[[], None]:
    """Return PyTorch's loss and gradients: unfused, or chunked if this PyTorch supports it."""
    torch: Any = pytest.importorskip("torch")
    functional = torch.nn.functional
    if chunked and not hasattr(functional, "linear_cross_entropy"):
        pytest.skip("this PyTorch has no linear_cross_entropy")
    torch.set_num_threads(1)
    h, w = (torch.tensor(a, requires_grad=True) for a in (hidden, weight))
    t = torch.tensor(target)

    def run() -> None:
        h.grad = w.grad = None
        if chunked:
            options = torch.nn.LinearCrossEntropyOptions()
            functional.linear_cross_entropy(h, w, t, options=options).backward()
        else:
            functional.cross_entropy(h @ w.T, t).backward()

    return run


def test_boltzmax(measure: Measure) -> None:
    measure("linear", Task(partial(linear_cross_entropy_with_grad, *layer(*SMALL))))


def test_four_products(measure: Measure) -> None:
    measure("linear", Task(four_products(*layer(*SMALL)[:2])))


def test_torch(measure: Measure) -> None:
    measure("linear", Task(in_torch(*layer(*SMALL))))


def report(title: str, calls: Mapping[str, Callable[[], Any]]) -> None:
    """Print the time of each call, and as a multiple of the first one's."""
    seconds = least({name: Task(call) for name, call in calls.items()}, rounds=3)
    reference = next(iter(seconds.values()))
    print(title)
    for name, value in seconds.items():
        print(f"{name:20}{value:7.3f} s {value / reference:7.3f}x")


def extra_memory(hidden: Floats, weight: Floats, target: NDArray[np.int64]) -> int:
    """Return the peak memory besides arguments and results."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    linear_cross_entropy_with_grad(hidden, weight, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before - hidden.nbytes - weight.nbytes


def main() -> None:
    boltzmax.set_num_threads(1)
    hidden, weight, target = layer(N, D, V)
    calls: dict[str, Callable[[], Any]] = {
        "four products": four_products(hidden, weight),
        "boltzmax": partial(linear_cross_entropy_with_grad, hidden, weight, target),
    }
    for chunked in False, True:
        name = "torch chunked" if chunked else "torch eager"
        try:
            calls[name] = in_torch(hidden, weight, target, chunked=chunked)
        except pytest.skip.Exception as reason:
            print(f"{name:20}{reason}")
    report(f"N={N} D={D} V={V} float32", calls)
    logits = np.empty((N, V), np.float32)
    queries = {
        "one product": partial(np.matmul, hidden, weight.T, out=logits),
        "linear_logsumexp": partial(linear_logsumexp, hidden, weight),
        "linear_topk, k = 10": partial(linear_topk, hidden, weight, 10),
        "linear_sample": partial(linear_sample, hidden, weight, np.random.default_rng(0)),
    }
    report("queries", queries)
    share = extra_memory(hidden, weight, target) / logits.nbytes
    print(f"extra memory   {100 * share:6.2f} % of the logits")


if __name__ == "__main__":
    main()

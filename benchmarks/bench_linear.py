"""Cross-entropy of a linear layer with gradients, compared with its matrix products and PyTorch.

``python benchmarks/bench_linear.py`` prints the time, the ratio to the four products that are
needed if the logits are not stored, and the peak of extra memory.  Set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from boltzmax import linear_cross_entropy_with_grad, linear_logsumexp, linear_sample, linear_topk
from boltzmax.cli.timing import Task

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


def best(run: Callable[[], Any], repeats: int = 4) -> float:
    """Return the seconds of the fastest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def report(name: str, run: Callable[[], Any], reference: float) -> None:
    """Print the time of `run`, also as a multiple of a reference."""
    seconds = best(run)
    print(f"{name:20}{seconds:7.3f} s {seconds / reference:7.3f}x")


def extra_memory(hidden: Floats, weight: Floats, target: NDArray[np.int64]) -> int:
    """Return the peak memory besides arguments and results."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    linear_cross_entropy_with_grad(hidden, weight, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before - hidden.nbytes - weight.nbytes


def main() -> None:
    hidden, weight, target = layer(N, D, V)
    products = best(four_products(hidden, weight))
    share = extra_memory(hidden, weight, target) / (N * V * hidden.itemsize)
    print(f"N={N} D={D} V={V} float32, as a multiple of four products, {products:.3f} s")
    report("boltzmax", partial(linear_cross_entropy_with_grad, hidden, weight, target), products)
    for chunked in False, True:
        name = "torch chunked" if chunked else "torch eager"
        try:
            report(name, in_torch(hidden, weight, target, chunked=chunked), products)
        except pytest.skip.Exception as reason:
            print(f"{name:20}{reason}")
    print("queries, as a multiple of one product")
    one = best(partial(np.matmul, hidden, weight.T, out=np.empty((N, V), np.float32)))
    report("linear_logsumexp", partial(linear_logsumexp, hidden, weight), one)
    report("linear_topk, k = 10", partial(linear_topk, hidden, weight, 10), one)
    report("linear_sample", partial(linear_sample, hidden, weight, np.random.default_rng(0)), one)
    print(f"extra memory   {100 * share:6.2f} % of the logits")


if __name__ == "__main__":
    main()

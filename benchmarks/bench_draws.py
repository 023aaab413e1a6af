"""Softmax with Gumbel noise and draws of classes, compared with our softmax and with PyTorch.

``python benchmarks/bench_draws.py`` prints the ratios, measured interleaved in one process on one
thread. ``--distribution`` instead draws 10^8 ids, also among 2^26 classes, and tests how they are
distributed, which takes some minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax.cli.timing import Task, interleave

Calls = dict[str, Callable[[], object]]
SHAPES = ((256, 10_000), (100_000, 10))
DRAWS, CLASSES = 10**8, 2**26


def torch_calls(x: NDArray[np.float32]) -> Calls:
    """Return PyTorch's calls, if it is installed."""
    try:
        torch: Any = pytest.importorskip("torch")
    except pytest.skip.Exception:
        return {}
    torch.set_num_threads(1)
    logits = torch.tensor(x)
    p = torch.softmax(logits, -1)
    return {
        "torch gumbel_softmax": partial(torch.nn.functional.gumbel_softmax, logits, dim=-1),
        "torch.multinomial": partial(torch.multinomial, p, 1),
    }


def speed() -> None:
    """Print the times, also as multiples of softmax's and logsumexp's."""
    for shape in SHAPES:
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        out = np.empty_like(x)
        calls: Calls = {
            "softmax": partial(boltzmax.softmax, x, out=out),
            "logsumexp": partial(boltzmax.logsumexp, x),
            "gumbel_softmax": partial(boltzmax.gumbel_softmax, x, out=out, rng=1),
            "gumbel_softmax, hard": partial(boltzmax.gumbel_softmax, x, hard=True, out=out, rng=1),
            "gumbel_max": partial(boltzmax.gumbel_max, x, rng=1),
            "gumbel_topk, k = 10": partial(boltzmax.gumbel_topk, x, 10, rng=1),
        } | torch_calls(x)
        times = interleave({name: Task(call) for name, call in calls.items()}, rounds=9)
        least = {name: min(seconds) for name, seconds in times.items()}
        print(f"{shape} float32")
        for name, seconds in least.items():
            of_softmax, of_sum = seconds / least["softmax"], seconds / least["logsumexp"]
            print(f"  {name:24} {1e3 * seconds:9.3f} ms {of_softmax:7.2f}x softmax "
                  f"{of_sum:7.2f}x logsumexp")  # fmt: skip


def chi_square(title: str, observed: NDArray[Any], p: NDArray[Any]) -> None:
    """Print the test of counts against probabilities."""
    stats: Any = pytest.importorskip("scipy.stats")
    expected = p / p.sum() * observed.sum()
    test = stats.chisquare(observed, expected)
    print(f"{title:48} chi-square {test.statistic:12.1f}  p = {test.pvalue:.4f}")


def distribution() -> None:
    """Test draws of few and of many classes, with and without noise of their own."""
    logits = np.log(np.array([1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]))
    p = np.exp(logits) / np.exp(logits).sum()
    ids = boltzmax.gumbel_max(logits, n=DRAWS, rng=1)
    chi_square("10^8 draws from a row, tail of 1e-7", np.bincount(ids, minlength=8), p)
    counts, hard = np.zeros(8, np.int64), np.zeros(8)
    rows = np.broadcast_to(logits.astype(np.float32), (DRAWS // 100, 8))
    for part in range(100):
        first = part * len(rows)
        counts += np.bincount(boltzmax.gumbel_max(rows, rng=2, first_row=first), minlength=8)
        hard += boltzmax.gumbel_softmax(rows, hard=True, rng=3, first_row=first).sum(axis=0)
    chi_square("a draw from each of 10^8 rows", counts, p)
    chi_square("the largest of 10^8 rows with noise", hard, p)
    x = np.zeros(CLASSES, np.float32)
    x[::1024] = np.log(np.float32(100))
    ids = boltzmax.gumbel_max(x, n=DRAWS // 10, rng=4)
    likely = ids % 1024 == 0
    chi_square("10^7 draws of 2^26 classes, likely or not",
               np.array([likely.sum(), (~likely).sum()]), np.array([100.0, 1023.0]))  # fmt: skip
    parts = np.bincount(ids // (CLASSES // 4096), minlength=4096)
    chi_square("10^7 draws of 2^26 classes, in 4096 parts", parts, np.ones(4096))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distribution", action="store_true", help="test 10^8 draws instead")
    boltzmax.set_num_threads(1)
    distribution() if parser.parse_args().distribution else speed()


if __name__ == "__main__":
    main()

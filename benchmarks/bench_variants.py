"""Other forms of softmax, compared with our softmax, PyTorch and NumPy.

``python benchmarks/bench_variants.py`` prints the ratios, measured interleaved in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax.cli.timing import Task, interleave

Floats = NDArray[np.float32]
Calls = dict[str, Callable[[], object]]

ROWS = (256, 10_000)
WINDOWS = (3, 33, 101, 1001, 5001)
SEGMENTS = 1_000_000
MIXTURE = (64, 8, 10_000)


def logits(*shape: int) -> Floats:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def add_torch(calls: Calls, call: Callable[[Any], Callable[[], object]]) -> None:
    """Add PyTorch's call on one thread, if it is installed."""
    try:
        torch: Any = pytest.importorskip("torch")
    except pytest.skip.Exception:
        print("torch is not installed")
        return
    torch.set_num_threads(1)
    calls["torch"] = call(torch)


def compare(title: str, calls: Calls) -> None:
    """Print the time of each call, also as a multiple of the first one's."""
    times = interleave({name: Task(call) for name, call in calls.items()}, rounds=15)
    first = min(times[next(iter(calls))])
    print(title)
    for name, seconds in times.items():
        print(f"  {name:36} {1e3 * min(seconds):9.2f} ms {min(seconds) / first:7.2f}x")


def by_reduceat(x: Floats, offsets: NDArray[np.int64]) -> Floats:
    """Return the softmax of segments in NumPy."""
    lengths, starts = np.diff(offsets), offsets[:-1]
    e = np.exp(x - np.repeat(np.maximum.reduceat(x, starts), lengths))
    result: Floats = e / np.repeat(np.add.reduceat(e, starts), lengths)
    return result


def compare_scans() -> None:
    """Running sums, windows, segments and mixtures."""
    x = logits(*ROWS)
    out = np.empty_like(x)
    calls: Calls = {"softmax": partial(boltzmax.softmax, x, out=out)}
    calls["logcumsumexp"] = partial(boltzmax.logcumsumexp, x, out=out)
    for window in WINDOWS:
        name = f"windowed_softmax, window {window}"
        calls[name] = partial(boltzmax.windowed_softmax, x, window, out=out)
    add_torch(calls, lambda torch: partial(torch.logcumsumexp, torch.from_numpy(x), 1))
    compare("256 x 10,000", calls)

    lengths = np.random.default_rng(0).integers(1, 21, SEGMENTS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    z, tens = logits(int(offsets[-1])), logits(SEGMENTS, 10)
    compare(
        f"{SEGMENTS} segments of 1 to 20",
        {
            "softmax of rows of 10": partial(boltzmax.softmax, tens, out=np.empty_like(tens)),
            "segment_softmax": partial(boltzmax.segment_softmax, z, offsets, out=np.empty_like(z)),
            "NumPy's reduceat": partial(by_reduceat, z, offsets),
        },
    )

    z, a = logits(*MIXTURE), logits(*MIXTURE[:2])
    calls = {"softmax": partial(boltzmax.softmax, z, out=np.empty_like(z))}
    calls["mixture_log_softmax"] = partial(boltzmax.mixture_log_softmax, z, a)

    def of_torch(torch: Any) -> Callable[[], object]:
        t, weights = torch.from_numpy(z), torch.log_softmax(torch.from_numpy(a), -1)[..., None]
        return lambda: torch.logsumexp(torch.log_softmax(t, -1) + weights, -2)

    add_torch(calls, of_torch)
    compare("64 x 8 x 10,000", calls)


def main() -> None:
    boltzmax.set_num_threads(1)
    compare_scans()


if __name__ == "__main__":
    main()

"""Other forms of softmax, each compared with our softmax of the same array, PyTorch and NumPy.

    python benchmarks/bench_variants.py [sparse | shapes | gumbel | scans | segments | mixture ...]

prints times and ratios to the first call of each table, measured interleaved in one process, on one
thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import boltzmax
from boltzmax.cli.timing import Task, interleave

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment,unused-ignore]

Floats = NDArray[np.float32]
Calls = dict[str, Callable[[], object]]

ROWS, SHORT = (256, 10_000), (100_000, 10)
WINDOWS = (3, 33, 101, 1001, 5001)
SEGMENTS = 1_000_000
MIXTURE = (64, 8, 10_000)


def logits(*shape: int) -> Floats:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def compare(title: str, calls: Calls, goals: dict[str, float] | None = None) -> None:
    """Print the time of each call, also as a multiple of the first one's, and its goal."""
    times = interleave({name: Task(call) for name, call in calls.items()}, rounds=15)
    first = times[next(iter(calls))]
    print(title)
    for name, seconds in times.items():
        ratio = float(np.median(seconds / first))
        goal = f"   goal {goals[name]:g}x" if goals and name in goals else ""
        print(f"  {name:36} {1e3 * float(seconds.min()):9.3f} ms {ratio:7.2f}x{goal}")


def into(out: Floats, names: tuple[str, ...], x: Floats, **options: Any) -> Calls:
    """Return calls of functions of one array."""
    return {name: partial(getattr(boltzmax, name), x, out=out, **options) for name in names}


def sparse() -> None:
    """Compare sparsemax and entmax with softmax."""
    goals = {"sparsemax": 1.1, "entmax15": 1.3, "entmax(1.3)": 3.0}
    in_support = dict.fromkeys(goals, 2.0)
    normal = logits(*ROWS)
    for title, x, wanted in (
        ("256 x 10,000, normal", normal, goals),
        ("256 x 10,000, all in the support", normal * np.float32(1e-5), in_support),
        ("100,000 x 10, normal", logits(*SHORT), None),
    ):
        out = np.empty_like(x)
        calls = into(out, ("softmax", "sparsemax", "entmax15"), x)
        calls["entmax(1.3)"] = partial(boltzmax.entmax, x, 1.3, out=out)
        compare(title, calls, wanted)


def shapes() -> None:
    """Compare other functions in place of the exponential with softmax."""
    for shape in (ROWS, (20_000, 100), SHORT):
        x, dy = logits(*shape), logits(*shape)[::-1].copy()
        y, out = boltzmax.softmax(x), np.empty_like(x)
        maps = ("taylor_softmax", "spherical_softmax", "sigsoftmax")
        logs = ("log_softmax", "log_taylor_softmax", "log_sigsoftmax")
        calls = into(out, ("softmax", *maps, *logs), x)
        calls["taylor_softmax, order 6"] = partial(boltzmax.taylor_softmax, x, order=6, out=out)
        calls["softmax_backward"] = partial(boltzmax.softmax_backward, dy, y, out=out)
        for name in maps:
            backward = getattr(boltzmax, f"{name}_backward")
            calls[f"{name}_backward"] = partial(backward, dy, x, out=out)
        compare(f"{shape[0]:,} x {shape[1]:,}", calls)


def gumbel() -> None:
    """Compare noisy softmax with softmax, and draws with logsumexp."""
    for shape, goals in ((ROWS, {"gumbel_softmax": 3.2}), (SHORT, None)):
        x = logits(*shape)
        out, title = np.empty_like(x), f"{shape[0]:,} x {shape[1]:,}"
        calls = into(out, ("softmax",), x) | into(out, ("gumbel_softmax",), x, rng=1)
        if torch is not None:
            noisy = partial(torch.nn.functional.gumbel_softmax, torch.from_numpy(x))
            calls["torch gumbel_softmax"] = noisy
        compare(title, calls, goals)
        calls = {"logsumexp": partial(boltzmax.logsumexp, x)}
        calls["gumbel_max"] = partial(boltzmax.gumbel_max, x, rng=1)
        calls["gumbel_topk, k = 10"] = partial(boltzmax.gumbel_topk, x, 10, rng=1)
        if torch is not None:
            p = torch.from_numpy(boltzmax.softmax(x))
            calls["torch multinomial"] = partial(torch.multinomial, p, 1)
        wanted = {"gumbel_max": 1.5, "gumbel_topk, k = 10": 7.0}
        compare(f"{title}, draws", calls, wanted if shape == ROWS else None)


def scans() -> None:
    """Compare running sums and windows with softmax."""
    x = logits(*ROWS)
    out = np.empty_like(x)
    calls = into(out, ("softmax", "logcumsumexp"), x)
    windowed = [f"windowed_softmax, window {window}" for window in WINDOWS]
    for name, window in zip(windowed, WINDOWS, strict=True):
        calls[name] = partial(boltzmax.windowed_softmax, x, window, out=out)
    if torch is not None:
        calls["torch logcumsumexp"] = partial(torch.logcumsumexp, torch.from_numpy(x), 1)
    compare("256 x 10,000", calls, dict.fromkeys(("logcumsumexp", *windowed), 4.0))


def by_reduceat(x: Floats, offsets: NDArray[np.int64]) -> Floats:
    """Return the softmax of segments in NumPy."""
    lengths, starts = np.diff(offsets), offsets[:-1]
    e = np.exp(x - np.repeat(np.maximum.reduceat(x, starts), lengths))
    result: Floats = e / np.repeat(np.add.reduceat(e, starts), lengths)
    return result


def segments() -> None:
    """Compare ragged rows with rows of one length."""
    lengths = np.random.default_rng(0).integers(1, 21, SEGMENTS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    z, tens = logits(int(offsets[-1])), logits(SEGMENTS, 10)
    calls: Calls = {
        "softmax of rows of 10": partial(boltzmax.softmax, tens, out=np.empty_like(tens)),
        "segment_softmax": partial(boltzmax.segment_softmax, z, offsets, out=np.empty_like(z)),
        "NumPy's reduceat": partial(by_reduceat, z, offsets),
    }
    compare(f"{SEGMENTS:,} segments of 1 to 20", calls, {"segment_softmax": 1.5})


def mixture() -> None:
    """Compare a mixture of softmaxes with the softmax of its components."""
    z, a = logits(*MIXTURE), logits(*MIXTURE[:2])
    calls: Calls = {
        "softmax": partial(boltzmax.softmax, z, out=np.empty_like(z)),
        "mixture_log_softmax": partial(boltzmax.mixture_log_softmax, z, a),
    }
    if torch is not None:
        t, weights = torch.from_numpy(z), torch.log_softmax(torch.from_numpy(a), -1)[..., None]
        calls["torch"] = lambda: torch.logsumexp(torch.log_softmax(t, -1) + weights, -2)
    compare("64 x 8 x 10,000", calls, {"mixture_log_softmax": 1.2})


FAMILIES = {f.__name__: f for f in (sparse, shapes, gumbel, scans, segments, mixture)}


def main() -> None:
    boltzmax.set_num_threads(1)
    if torch is not None:
        torch.set_num_threads(1)
    for name in sys.argv[1:] or FAMILIES:
        FAMILIES[name]()


if __name__ == "__main__":
    main()

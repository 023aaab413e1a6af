"""Time conformal prediction against softmax: ``bench_conformal.py [ROWS CLASSES]``.

All runs are interleaved in one process on one thread; the table has medians, and multiples of the
time of softmax. The sets are also written by themselves, which nothing can save.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import boltzmax
from boltzmax.conformal import APS, LAC, RAPS, SAPS

Array = np.ndarray[Any, Any]

REPEATS = 5


def timed(f: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def copy_of(array: Array) -> Array:
    """Write an array of the same size."""
    new = np.empty_like(array)
    new[:] = array
    return new


def measure(z: Array, y: Array) -> tuple[dict[str, list[float]], int]:
    """Return the seconds of every call, and the number of classes in all sets of APS."""
    out = np.empty_like(z)
    predictors = {kind.__name__: kind().fit(z, y) for kind in (LAC, APS, RAPS, SAPS)}
    sets = predictors["APS"].predict(z)
    calls: dict[str, Callable[[], Any]] = {"softmax": partial(boltzmax.softmax, z, out=out)}
    for name, predictor in predictors.items():
        calls[f"{name}.fit"] = partial(predictor.fit, z, y)
        calls[f"{name}.predict"] = partial(predictor.predict, z)
    calls["writing the sets of APS"] = lambda: (copy_of(sets.ids), copy_of(sets.probs))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            times[name].append(timed(call))
    return times, len(sets.ids)


def main(rows: int, classes: int) -> None:
    """Print the table for peaked and for flat rows."""
    boltzmax.set_num_threads(1)
    rng = np.random.default_rng(0)
    for scale in (4, 1):
        z = rng.standard_normal((rows, classes), np.float32)
        z *= scale
        times, total = measure(z, boltzmax.gumbel_max(z, rng=0))
        base = statistics.median(times["softmax"])
        print(f"{rows} x {classes}, logits N(0, {scale}^2): {total / rows:.0f} classes in a set")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"  {name:24s} {1e3 * median:9.1f} ms {median / base:8.2f}")


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (10_000, 10_000)))

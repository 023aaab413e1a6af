"""Time conformal prediction against softmax: ``python benchmarks/bench_conformal.py [ROWS CLASSES]``.

All runs are interleaved in one process on one thread; the table has medians, and multiples of the
time of softmax. The sets are also written by themselves, which nothing can save.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import boltzmax
from boltzmax.conformal import APS, LAC, RAPS, SAPS

REPEATS = 5


def timed(f: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def copy_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Write an array of the same size."""
    new = np.empty_like(array)
    new[:] = array
    return new


def main(rows: int, classes: int) -> None:
    """Print the table for peaked and for flat rows."""
    boltzmax.set_num_threads(1)
    rng = np.random.default_rng(0)
    for scale in (4, 1):
        z = rng.standard_normal((rows, classes), np.float32)
        z *= scale
        y = boltzmax.gumbel_max(z, rng=0)
        out = np.empty_like(z)
        predictors = [kind().fit(z, y) for kind in (LAC, APS, RAPS, SAPS)]
        times: dict[str, list[float]] = {"softmax": []}
        for _ in range(REPEATS):
            times["softmax"].append(timed(lambda: boltzmax.softmax(z, out=out)))
            for p in predictors:
                name = type(p).__name__
                times.setdefault(f"{name}.fit", []).append(timed(lambda p=p: p.fit(z, y)))
                times.setdefault(f"{name}.predict", []).append(timed(lambda p=p: p.predict(z)))
        sets = predictors[1].predict(z)
        times["writing the sets of APS"] = [
            timed(lambda: (copy_of(sets.ids), copy_of(sets.probs))) for _ in range(REPEATS)
        ]
        base = statistics.median(times["softmax"])
        print(f"{rows} x {classes}, logits N(0, {scale}^2): {len(sets.ids) / rows:.0f} classes in a set")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"  {name:24s} {1e3 * median:9.1f} ms {median / base:8.2f}")


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (10_000, 10_000)))

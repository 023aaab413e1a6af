"""Other forms of softmax, each compared with our softmax of the same array.

``python benchmarks/bench_variants.py`` prints times and ratios, measured interleaved in one
process, on one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import boltzmax
from boltzmax.cli.timing import Task, interleave

Floats = NDArray[np.float32]


def compare(title: str, tasks: dict[str, Callable[[], object]], goals: dict[str, float]) -> None:
    """Print the time of each task, also as a multiple of the first one's, and its goal."""
    times = interleave({name: Task(call) for name, call in tasks.items()}, rounds=15)
    first = times[next(iter(tasks))]
    print(title)
    for name, seconds in times.items():
        ratio = float(np.median(seconds / first))
        goal = f"   goal {goals[name]:g}x" if name in goals else ""
        print(f"  {name:24} {1e3 * float(seconds.min()):9.3f} ms {ratio:7.2f}x{goal}")


def sparse_maps() -> None:
    """Compare sparsemax and entmax with softmax."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((256, 10_000), np.float32)
    cases: dict[str, tuple[Floats, dict[str, float]]] = {
        "256 x 10,000, normal": (
            normal, {"sparsemax": 1.1, "entmax15": 1.3, "entmax(1.3)": 3.0},
        ),
        "256 x 10,000, all in the support": (
            normal * np.float32(1e-5), {"sparsemax": 2.0, "entmax15": 2.0},
        ),
        "100,000 x 10, normal": (rng.standard_normal((100_000, 10), np.float32), {}),
    }  # fmt: skip
    for title, (x, goals) in cases.items():
        out = np.empty_like(x)
        functions: dict[str, Callable[..., Any]] = {
            "softmax": boltzmax.softmax,
            "sparsemax": boltzmax.sparsemax,
            "entmax15": boltzmax.entmax15,
            "entmax(1.3)": partial(boltzmax.entmax, alpha=1.3),
        }
        compare(title, {name: partial(f, x, out=out) for name, f in functions.items()}, goals)


def main() -> None:
    boltzmax.set_num_threads(1)
    sparse_maps()


if __name__ == "__main__":
    main()

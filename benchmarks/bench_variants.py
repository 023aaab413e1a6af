"""Times of other forms of softmax, as ratios to softmax of the same array.

    python benchmarks/bench_variants.py

On one thread, interleaved in one process: the least of the times of all rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

import boltzmax
from boltzmax._lib.console import print_table
from boltzmax.cli.timing import Task, least

SHAPES = ((256, 10_000), (20_000, 100), (100_000, 10))
OURS = "softmax"


def ratios(
    title: str, tasks: dict[str, Callable[[], object]], goals: dict[str, float], to: str = OURS
) -> None:
    """Print the time of each task in that of the task `to`, and the goal if there is one."""
    times = least({name: Task(call) for name, call in tasks.items()})
    rows = [
        (name, f"{time * 1e3:.3f}", f"{time / times[to]:.2f}", str(goals.get(name, "")))
        for name, time in times.items()
    ]
    print_table(title, ("function", "ms", f"{to} = 1", "goal"), [rows])


def shapes() -> None:
    """Functions in place of the exponential."""
    maps = ("softmax", "taylor_softmax", "spherical_softmax", "sigsoftmax")
    logs = ("log_softmax", "log_taylor_softmax", "log_sigsoftmax")
    for shape in SHAPES:
        rng = np.random.default_rng(0)
        x, dy = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
        y, out = boltzmax.softmax(x), np.empty_like(x)
        tasks: dict[str, Callable[[], object]] = {
            name: partial(getattr(boltzmax, name), x, out=out) for name in (*maps, *logs)
        }
        tasks["taylor_softmax, order 6"] = partial(boltzmax.taylor_softmax, x, order=6, out=out)
        tasks["softmax_backward"] = partial(boltzmax.softmax_backward, dy, y, out=out)
        for name in maps[1:]:
            backward = getattr(boltzmax, f"{name}_backward")
            tasks[f"{name}_backward"] = partial(backward, dy, x, out=out)
        ratios(f"{shape} float32", tasks, {})


def main() -> None:
    """Measure every family."""
    boltzmax.set_num_threads(1)
    shapes()


if __name__ == "__main__":
    main()

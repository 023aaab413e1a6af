"""Time calls side by side, interleaved in one process, so that noise affects all equally."""

from __future__ import annotations

import math
import time
import timeit
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def _nothing() -> None:
    pass


class Task(NamedTuple):
    """A call to time, and its untimed setup."""

    call: Callable[[], object]
    setup: Callable[[], object] = _nothing


def interleave(
    tasks: Mapping[str, Task], rounds: int = 15, sample: float = 5e-3, rest: float = 0.0
) -> dict[str, NDArray[np.float64]]:
    """Return the seconds per call of every task in every round.

    Parameters
    ----------
    tasks : mapping of str to Task
        In every round, each is timed once over as many calls as fill `sample` seconds, after
        one untimed call that brings its code and data back into the caches.
    rounds : int
        The number of rounds; times of one round can be compared with each other.
    sample : float
        Seconds per task and round, at least.
    rest : float
        Seconds of sleep before each sample, so that the previous task's thread pool goes idle.
    """
    timers = {name: _timer(task, rest) for name, task in tasks.items()}
    numbers = {name: _calibrate(timer, sample) for name, timer in timers.items()}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    names = list(tasks)
    for _ in range(rounds):
        for name in names:
            times[name].append(timers[name].timeit(numbers[name]) / numbers[name])
        names.reverse()  # no task always runs after the same one
    return {name: np.array(values) for name, values in times.items()}


def least(
    tasks: Mapping[str, Task], rounds: int = 15, sample: float = 5e-3, rest: float = 0.0
) -> dict[str, float]:
    """Return the least of what `interleave` measures for each task.

    Other load on the machine can only add to a time.
    """
    times = interleave(tasks, rounds, sample, rest)
    return {name: float(values.min()) for name, values in times.items()}


def fastest(times: Mapping[str, NDArray[np.float64]], names: Iterable[str]) -> str:
    """Return which of the named tasks has the smallest median time."""
    return min(names, key=lambda name: float(np.median(times[name])))


def _timer(task: Task, rest: float) -> timeit.Timer:
    def warm_up() -> None:
        time.sleep(rest)
        task.setup()
        task.call()

    return timeit.Timer(task.call, warm_up)  # which also keeps the garbage collector away


def _calibrate(timer: timeit.Timer, sample: float) -> int:
    """Return how many calls last `sample` seconds."""
    number = 1
    while (seconds := timer.timeit(number)) < sample / 4:
        number *= 4
    return max(number, math.ceil(number * sample / seconds))

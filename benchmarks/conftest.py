"""The benchmark suites; run them with ``python -m pytest benchmarks --benchmark-only``.

A group is one case with boltzmax, its peers and the yardsticks. The tasks of a group run one after
the other, so comparisons are rough; ``goals.py`` interleaves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import boltzmax
from boltzmax.cli.timing import Task

Measure = Callable[[str, Task], None]


@pytest.fixture
def measure(benchmark: Any) -> Iterator[Measure]:
    """Return ``measure(group, task)``; the number of threads is restored."""

    def run(group: str, task: Task) -> None:
        benchmark.group = group
        task.setup()
        benchmark(task.call)

    before = boltzmax.get_num_threads()
    yield run
    boltzmax.set_num_threads(before)

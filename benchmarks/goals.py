"""Measure the speed goals and report which of them this machine reaches.

    python benchmarks/goals.py
    python benchmarks/goals.py --only "64x1000 float32" --json goals.json
    python benchmarks/goals.py --update-docs

Each goal is a ratio of times measured interleaved in one process: the median over all rounds of our
time against the rival's in the same round. One thread, unless the goal says two. All caches and
thread pools are warm.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

import boltzmax
import pages
import row_tasks
from boltzmax._lib.console import print_table, progress, write_json
from boltzmax.cli import bench, peers
from boltzmax.cli.peers import FUNCTIONS, OURS, Array, Case
from boltzmax.cli.timing import Task, fastest, interleave

Tasks = dict[str, Task]
Contest = Callable[[Case], Tasks]  # our task, named OURS, and those of one rival or more

NOISE = 1.03  # the tolerance of "no slower"


def ours(case: Case, x: Array, out: Array | None = None) -> Task:
    """Return our task, with the result in `out` if given."""
    call = partial(getattr(boltzmax, case.function), x, case.axis, out=out)
    return Task(call, partial(boltzmax.set_num_threads, case.threads))


def against_the_fastest_library(case: Case) -> Tasks:
    """Compare whole calls."""
    tasks = row_tasks.prepare(case)
    del tasks[row_tasks.YARDSTICK]
    return tasks


def against_torch(case: Case) -> Tasks:
    """Compare whole calls; PyTorch works on its own tensors."""
    tasks = peers.prepare(case)
    return {name: tasks[name] for name in (OURS, "torch") if name in tasks}


def against_np_exp(case: Case) -> Tasks:
    """Compare whole calls, both with a new result."""
    return {OURS: peers.prepare(case)[OURS], "np.exp": Task(partial(np.exp, case.data()))}


def against_np_copyto(case: Case) -> Tasks:
    """Compare both writing into the same array; logsumexp writes hardly anything."""
    x = case.data()
    y = np.ones_like(x)
    out = None if case.function == "logsumexp" else y
    return {OURS: ours(case, x, out), "np.copyto": Task(partial(np.copyto, y, x))}


def against_the_last_axis(case: Case) -> Tasks:
    """Compare with ourselves on the same number and length of rows along the last axis."""
    shape = list(case.shape)
    shape.append(shape.pop(case.axis))
    last = Case(case.function, tuple(shape), case.dtype)
    return {OURS: ours(case, case.data()), "last axis": ours(last, last.data())}


def against_one_thread(case: Case) -> Tasks:
    """Compare with ourselves; the time excludes a new result."""
    x = case.data()
    out = None if case.function == "logsumexp" else np.ones_like(x)
    alone = Case(case.function, case.shape, case.dtype)
    return {OURS: ours(case, x, out), "1 thread": ours(alone, x, out)}


def against_a_given_result(case: Case) -> Tasks:
    """Compare a new result with an array passed as ``out=``."""
    x = case.data()
    return {OURS: ours(case, x), "out=": ours(case, x, np.ones_like(x))}


@dataclass(frozen=True)
class Goal:
    """A bound on the rival's time / ours (`at_least`) or on our time / the rival's (`at_most`)."""

    case: Case
    contest: Contest
    at_least: float = 0.0
    at_most: float = math.inf

    def __str__(self) -> str:
        contest = self.contest.__name__.replace("_", " ").replace(" np ", " np.")
        return f"{self.case} {contest}"

    @property
    def wanted(self) -> str:
        """The bound in words."""
        faster = f">= {self.at_least:g}x as fast"
        return faster if self.at_least else f"<= {self.at_most:g}x the time"


@dataclass(frozen=True)
class Verdict:
    """The measurement of a goal."""

    goal: str
    wanted: str
    rival: str
    measured: float
    reached: bool
    seconds: dict[str, float]


Shape = tuple[int, ...]
SMALL: Shape = (10,)
CACHED: Shape = (64, 1000)
LARGE: Shape = (256, 32000)
ONE_ROW: Shape = (10_000_000,)
HUGE: Shape = (512, 32000)  # above the 32 MiB from which malloc always maps new memory


ROWS_OF_10: Shape = (100_000, 10)


def short_row_goals() -> Iterator[Goal]:
    """Yield the goals of many short rows, and of short columns."""
    for function in "softmax", "log_softmax":
        for n, at_least in (
            (2, 3),
            (10, 3),
            (16, 2),
            (32, 2),
            (49, 2),
            (64, 1.3),
            (128, 1.3),
            (256, 1.3),
        ):
            rows = 100_000 if n <= 10 else 1_000_000 // n
            yield Goal(Case(function, (rows, n)), against_the_fastest_library, at_least=at_least)
    for n in 2, 10, 32, 100:
        yield Goal(Case("logsumexp", (1_000_000 // n, n)), against_torch, at_least=4)
    for dtype in sorted({"float16", "bfloat16", "float64"}.intersection(peers.available_dtypes())):
        yield Goal(Case("softmax", ROWS_OF_10, dtype), against_torch, at_least=2)
    yield Goal(Case("softmax", ROWS_OF_10), against_np_exp, at_most=1.3)

    for function in "softmax_backward", "log_softmax_backward":
        for shape, at_least in (
            ((100_000, 2), 2),
            (ROWS_OF_10, 2),
            ((10_000, 100), 2),
            ((1000, 1000), 1),
        ):
            yield Goal(Case(function, shape), against_the_fastest_library, at_least=at_least)
    for function in "cross_entropy", "cross_entropy_with_grad":
        wanted = (((100_000, 2), 4), (ROWS_OF_10, 6), ((10_000, 100), 2.5), ((1000, 1000), 2.5))
        for shape, at_least in wanted:
            yield Goal(Case(function, shape), against_the_fastest_library, at_least=at_least)
    for shape in (100_000, 2), ROWS_OF_10, (10_000, 100):
        yield Goal(Case("row_stats", shape), against_the_fastest_library, at_least=2.5)

    for function, at_least in ("softmax", 2.5), ("log_softmax", 1.5), ("logsumexp", 2.5):
        for shape, axis in ((8, 21, 128, 128), 1), ((10, 100_000), 0):
            yield Goal(Case(function, shape, axis=axis), against_torch, at_least=at_least)
    for function in FUNCTIONS:
        for shape in ROWS_OF_10, (10_000, 100):
            yield Goal(Case(function, shape, threads=2), against_one_thread, at_least=1.8)


def all_goals() -> Iterator[Goal]:
    """Yield the goals in the order of the published table."""
    for function in FUNCTIONS:
        yield Goal(Case(function, SMALL), against_np_exp, at_most=1)
        yield Goal(Case(function, SMALL), against_torch, at_least=5)

    yield Goal(Case("softmax", CACHED), against_the_fastest_library, at_least=3.5)
    yield Goal(Case("log_softmax", CACHED), against_the_fastest_library, at_least=3.5)
    yield Goal(Case("logsumexp", CACHED), against_the_fastest_library, at_least=5)
    yield Goal(Case("softmax", LARGE), against_np_copyto, at_most=1.05)
    yield Goal(Case("logsumexp", LARGE), against_np_copyto, at_most=0.6)

    for function in FUNCTIONS:
        for case in Case(function, (1000, 1000), axis=0), Case(function, (64, 50, 100), axis=1):
            yield Goal(case, against_the_fastest_library, at_least=3)
            yield Goal(case, against_the_last_axis, at_most=1.5)

    for function in FUNCTIONS:
        yield Goal(Case(function, CACHED, "float64"), against_the_fastest_library, at_least=3)
        for dtype in sorted({"float16", "bfloat16"}.intersection(peers.available_dtypes())):
            yield Goal(Case(function, CACHED, dtype), against_torch, at_least=2)

    for function in FUNCTIONS:
        for shape in LARGE, ONE_ROW:
            yield Goal(Case(function, shape, threads=2), against_one_thread, at_least=1.8)
        for shape in SMALL, (8, 100), CACHED:
            yield Goal(Case(function, shape, threads=2), against_one_thread, at_most=NOISE)

    for function in "softmax", "log_softmax":
        for shape in LARGE, HUGE:
            yield Goal(Case(function, shape), against_a_given_result, at_most=1.5)
    yield from short_row_goals()


def judge(goal: Goal, rounds: int) -> Verdict | None:
    """Measure a goal; None if there is no rival to compare with."""
    tasks = goal.contest(goal.case)
    rivals = [name for name in tasks if name != OURS]
    if not rivals:
        return None
    times = interleave(tasks, rounds, sample=1e-2 if goal.case.threads > 1 else 2e-3)
    rival = fastest(times, rivals)
    speedup = float(np.median(times[rival] / times[OURS]))
    return Verdict(
        goal=str(goal),
        wanted=goal.wanted,
        rival=rival,
        measured=speedup if goal.at_least else 1 / speedup,
        reached=goal.at_least <= speedup and 1 / speedup <= goal.at_most,
        seconds={name: float(np.median(values)) for name, values in times.items()},
    )


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print one row per goal."""
    rows = [
        (v.goal, v.wanted, f"{v.measured:.2f}x", v.rival, "yes" if v.reached else "no")
        for v in verdicts
    ]
    reached = sum(v.reached for v in verdicts)
    header = ("goal", "wanted", ">measured", "rival", "reached")
    print_table(f"{reached} of {len(verdicts)} goals reached", header, [rows], bold="no")


def markdown(verdicts: Sequence[Verdict]) -> str:
    """Return the table of the documentation."""
    reached = sum(v.reached for v in verdicts)
    lines = [
        f"{bench.conditions(row_tasks.environment())}; {os.cpu_count()} shared cores, one thread "
        f"unless stated. {reached} of {len(verdicts)} goals reached.",
        "",
        "| case | goal | measured | rival |",
        "| --- | --- | --- | --- |",
    ]
    for v in verdicts:
        note = "" if v.reached else " (not reached)"
        lines.append(f"| {v.goal} | {v.wanted} | {v.measured:.2f}x{note} | {v.rival} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the chosen goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="goals whose name has this")
    parser.add_argument("--rounds", type=int, default=41, help="41 by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="- for standard output")
    parser.add_argument("--update-docs", action="store_true", help="write the table there")
    args = parser.parse_args()

    cores = os.cpu_count() or 1
    goals = [g for g in all_goals() if args.only in str(g) and g.case.threads <= cores]
    verdicts = []
    with progress("goals", len(goals)) as advance:
        for goal in goals:
            advance(0, str(goal))
            if verdict := judge(goal, args.rounds):
                verdicts.append(verdict)
            advance(1)
    if args.json != Path("-"):
        print_verdicts(verdicts)
    if args.update_docs:
        pages.update(pages.PERFORMANCE, "speed", markdown(verdicts))
    if args.json:
        write_json(args.json, row_tasks.environment(), "goals", map(asdict, verdicts))


if __name__ == "__main__":
    main()

"""Time per row against the length of the rows, for every operation on rows, beside the peers.

    python benchmarks/bench_rows.py --output rows
    python benchmarks/bench_rows.py --output rows --quick
    python benchmarks/bench_rows.py --output rows --rows 100000 --dtype float64

On one thread, all in one process and in turns. The rows of a length fill a part of the second-level
cache unless --rows says how many there are. Writes rows.json and rows.png to a folder, and says
where a peer is faster, and where one element more costs the most.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import boltzmax
import row_tasks
from boltzmax._lib.console import print_table, progress, require, write_json
from boltzmax.cli import peers
from boltzmax.cli.peers import OURS, Case
from boltzmax.cli.timing import interleave
from row_tasks import OPERATIONS, YARDSTICK

DENSE = 40  # every length up to here
LONGEST = 4096
ELEMENTS, MOST_ROWS = 1 << 16, 1 << 12  # of a run: float32's input and output are half a megabyte
MOST_ELEMENTS = 1 << 25  # where --rows says how many rows: longer ones are left out
NAMES = (*(peer.name for peer in peers.PEERS), YARDSTICK)
SAMPLE = 3e-4  # seconds that a sample of calls takes


@dataclass(frozen=True)
class Point:
    """What a row of a length takes."""

    operation: str
    n: int
    rows: int
    peer: str
    least: float  # ns per row
    median: float


def lengths(few: bool) -> list[int]:
    """Return all lengths up to DENSE; then by steps, with powers of two and their neighbours."""
    if few:
        return [1, 2, 3, 4, 8, 9, 16, 17, 32, 33, 100, 256, 1024, LONGEST]
    powers = [2**k + d for k in range(6, 12) for d in (-1, 0, 1)]
    by_steps = np.rint(np.geomspace(DENSE, LONGEST, 61)).astype(int).tolist()
    return sorted({*range(1, DENSE + 1), *powers, *by_steps, LONGEST - 1})


def measure(case: Case, rounds: int) -> list[Point]:
    """Return the times of ours and of all peers."""
    rows, n = case.shape
    times = interleave(row_tasks.prepare(case), rounds, SAMPLE)
    return [
        Point(case.function, n, rows, name, *(1e9 / rows * np.array([t.min(), np.median(t)])))
        for name, t in times.items()
    ]


def curve(points: Iterable[Point], operation: str, peer: str) -> dict[int, float]:
    """Return the least time of every length."""
    return {p.n: p.least for p in points if (p.operation, p.peer) == (operation, peer)}


def rivals(points: Sequence[Point], operation: str) -> list[str]:
    names = dict.fromkeys(p.peer for p in points if p.operation == operation)
    return [name for name in names if name not in (OURS, YARDSTICK)]


def slower(points: Sequence[Point], operation: str) -> dict[int, tuple[str, float]]:
    """Return the fastest peer, and our time over its, of the lengths where it beats us."""
    curves = {name: curve(points, operation, name) for name in rivals(points, operation)}
    found = {}
    for n, ours in curve(points, operation, OURS).items():
        best = min(curves, key=lambda name: curves[name][n], default=None)
        if best is not None and ours > curves[best][n]:
            found[n] = (best, ours / curves[best][n])
    return found


def largest_step(points: Sequence[Point], operation: str) -> tuple[int, float]:
    """Return the n at which one element more costs the most, and the ratio of the two times."""
    ours = curve(points, operation, OURS)
    steps = {n: ours[n + 1] / ours[n] for n in ours if n + 1 in ours and n < DENSE}
    at = max(steps, key=lambda n: steps[n])
    return at, steps[at]


def print_points(points: Sequence[Point], operations: Sequence[str]) -> None:
    """Print the time of every length, and what it is in terms of the fastest peer."""
    for operation in operations:
        names = [OURS, *rivals(points, operation), YARDSTICK]
        curves = [curve(points, operation, name) for name in names]
        body = [[str(n), *(f"{times[n]:.1f}" for times in curves)] for n in curves[0]]
        header = (">n", *(f">{name}" for name in names))
        print_table(f"{operation}: ns per row", header, [body])


def print_verdict(points: Sequence[Point], operations: Sequence[str]) -> None:
    """Print where we are slower than the fastest peer, and the largest step."""
    rows = []
    for operation in operations:
        behind = slower(points, operation)
        worst = max(behind, key=lambda n: behind[n][1], default=0)
        note = f"{behind[worst][1]:.2f}x {behind[worst][0]} at {worst}" if behind else ""
        n, step = largest_step(points, operation)
        rows.append((operation, " ".join(map(str, behind)), note, f"{n} to {n + 1}: {step:.2f}x"))
    header = ("operation", "slower at", "worst", "largest step")
    print_table("against the fastest peer", header, [rows])


def plot(points: Sequence[Point], operations: Sequence[str], title: str, path: Path) -> None:
    """Draw a panel for every operation."""
    from matplotlib.figure import Figure

    across = min(4, len(operations))
    down = -(-len(operations) // across)
    figure = Figure(figsize=(5 * across, 4 * down), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
    for panel, operation in zip(panels, operations, strict=False):
        for name in (OURS, *rivals(points, operation), YARDSTICK):
            times = curve(points, operation, name)
            width, color = 2.0 if name == OURS else 1.0, f"C{NAMES.index(name)}"
            panel.plot(list(times), list(times.values()), color, linewidth=width, label=name)
        panel.set(title=operation, xscale="log", yscale="log", xlabel="n", ylabel="ns per row")
        panel.legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure the chosen operations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=OPERATIONS)
    parser.add_argument("--dtype", choices=peers.available_dtypes(), default="float32")
    parser.add_argument("--rows", type=int, help="of every length; else as many as fit in cache")
    parser.add_argument("--rounds", type=int, default=21, help="21 by default")
    parser.add_argument("--quick", action="store_true", help="few lengths, 3 rounds")
    args = parser.parse_args()
    require("matplotlib")  # an error now rather than after the measurements
    args.output.mkdir(parents=True, exist_ok=True)

    shapes = [(args.rows or min(MOST_ROWS, -(-ELEMENTS // n)), n) for n in lengths(args.quick)]
    cases = [
        Case(operation, shape, args.dtype)
        for operation in args.operations
        for shape in shapes
        if shape[0] * shape[1] <= MOST_ELEMENTS
    ]
    points: list[Point] = []
    before = boltzmax.get_num_threads()
    with progress("rows", len(cases)) as advance:
        for case in cases:
            advance(0, str(case))
            points += measure(case, 3 if args.quick else args.rounds)
            advance(1)
    boltzmax.set_num_threads(before)

    print_points(points, args.operations)
    print_verdict(points, args.operations)
    found = {"dtype": args.dtype, "points": [asdict(point) for point in points]}
    write_json(args.output / "rows.json", {**row_tasks.environment(), **found})
    title = f"{args.dtype}, {boltzmax.isa()}, one thread"
    plot(points, args.operations, title, args.output / "rows.png")


if __name__ == "__main__":
    main()

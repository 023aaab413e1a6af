"""Time per row against the length of the rows, for every operation on rows, with the peers.

    python benchmarks/bench_rows.py --output rows
    python benchmarks/bench_rows.py --output rows --quick
    python benchmarks/bench_rows.py --output rows --rows 100000 --dtype float64
    python benchmarks/bench_rows.py --update-docs      # the pictures of the documentation

On one thread, interleaved in one process. The rows of one length fill a part of the second-level
cache unless --rows sets their number. Writes rows.json and its plots rows.png and speed.png to a
folder, and prints where a peer is faster, and where one more element costs the most.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pages
import row_tasks
from boltzmax._lib.console import print_table, require
from boltzmax.cli import bench, peers, sweep
from boltzmax.cli.peers import OURS, Case
from boltzmax.cli.sweep import Curve
from row_tasks import OPERATIONS, YARDSTICK

MOST_ELEMENTS = 1 << 25  # with --rows, longer rows are left out


def slower(of: dict[str, Curve]) -> dict[int, tuple[str, float]]:
    """Return, for the lengths where a peer beats us, the fastest one and our time over its."""
    times = {name: curve.times for name, curve in of.items() if name not in (OURS, YARDSTICK)}
    found = {}
    for n, ours in of[OURS].times.items():
        best = min(times, key=lambda name: times[name][n], default=None)
        if best is not None and ours > times[best][n]:
            found[n] = (best, ours / times[best][n])
    return found


def largest_step(of: dict[str, Curve]) -> tuple[int, float]:
    """Return the n at which one more element costs the most, and the ratio of the two times."""
    ours = of[OURS].times
    steps = {n: ours[n + 1] / ours[n] for n in ours if n + 1 in ours and n < sweep.DENSE}
    at = max(steps, key=lambda n: steps[n])
    return at, steps[at]


def print_verdict(curves: Sequence[Curve]) -> None:
    """Print where we are slower than the fastest peer, and the largest step."""
    rows = []
    for (operation, _), of in sweep.panels(curves).items():
        behind = slower(of)
        worst = max(behind, key=lambda n: behind[n][1], default=0)
        note = f"{behind[worst][1]:.2f}x {behind[worst][0]} at {worst}" if behind else ""
        n, step = largest_step(of)
        rows.append((operation, " ".join(map(str, behind)), note, f"{n} to {n + 1}: {step:.2f}x"))
    header = ("operation", "slower at", "worst", "largest step")
    print_table("against the fastest peer", header, [rows])


def measure(args: argparse.Namespace) -> list[Curve]:
    """Return the curves of the chosen operations."""
    shapes = [(args.rows or rows, n) for rows, n in sweep.shapes(args.quick)]
    cases = [
        Case(operation, shape, args.dtype)
        for operation in args.operations
        for shape in shapes
        if shape[0] * shape[1] <= MOST_ELEMENTS
    ]
    return sweep.measure(cases, 3 if args.quick else args.rounds, row_tasks.prepare)


def draw(folder: Path) -> str:
    """Plot rows.json: all of it in rows.png, and only the softmax family in speed.png.

    Return the environment of the measurement.
    """
    curves, found = sweep.read(folder / "rows.json")
    conditions = bench.conditions(found)
    sweep.draw(curves, conditions, folder / "rows.png")
    family = [curve for curve in curves if curve.operation in peers.FUNCTIONS]
    if family:
        sweep.draw(family, conditions, folder / "speed.png")
    return conditions


def main() -> None:
    """Measure the chosen operations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=Path, metavar="FOLDER")
    where.add_argument("--update-docs", action="store_true", help="write to docs/_static")
    parser.add_argument("--redraw", action="store_true", help="only plot rows.json again")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=OPERATIONS)
    parser.add_argument("--dtype", choices=peers.available_dtypes(), default="float32")
    parser.add_argument("--rows", type=int, help="per length; by default as many as fit in cache")
    parser.add_argument("--rounds", type=int, default=21, help="21 by default")
    parser.add_argument("--quick", action="store_true", help="few lengths, 3 rounds")
    args = parser.parse_args()
    require("matplotlib")  # an error now rather than after the measurements
    folder = pages.STATIC if args.update_docs else args.output
    if not args.redraw:
        folder.mkdir(parents=True, exist_ok=True)
        curves = measure(args)
        sweep.print_curves(curves)
        print_verdict(curves)
        sweep.write(curves, row_tasks.environment(), folder / "rows.json")
    conditions = draw(folder)
    if args.update_docs:
        pages.update(pages.PERFORMANCE, "rows", f"{conditions}.")


if __name__ == "__main__":
    main()

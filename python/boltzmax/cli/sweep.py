"""``bench --sweep``: the time of a row against its length.

On one thread, interleaved in one process. The rows of one length fill a part of the second-level
cache.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.console import print_table, write_json
from boltzmax.cli import peers
from boltzmax.cli.peers import OURS, Case
from boltzmax.cli.timing import Task, interleave

DENSE = 40  # every length up to here
LONGEST = 4096
ELEMENTS, MOST_ROWS = 1 << 16, 1 << 12  # of a run: float32's input and output are half a megabyte
SAMPLE = 3e-4  # seconds that a sample of calls takes
COLORS = {OURS: "#d6336c", "numpy": "#1c7ed6", "scipy": "#2f9e44", "torch": "#f08c00"}
COLORS |= {"onnxruntime": "#7048e8", "np.exp": "#868e96"}

Panel = tuple[str, str]  # an operation and a dtype


@dataclass
class Curve:
    """The time of a row by its length: one library in one operation."""

    operation: str
    dtype: str
    peer: str
    n: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    least: list[float] = field(default_factory=list)  # ns per row
    median: list[float] = field(default_factory=list)

    def add(self, n: int, rows: int, seconds: NDArray[np.float64]) -> None:
        """Record the times of calls on `rows` rows of length `n`."""
        self.n.append(n)
        self.rows.append(rows)
        for column, time in (self.least, seconds.min()), (self.median, np.median(seconds)):
            column.append(float(f"{1e9 / rows * time:.4g}"))

    @property
    def times(self) -> dict[int, float]:
        """The least time of every length."""
        return dict(zip(self.n, self.least, strict=True))


def lengths(few: bool) -> list[int]:
    """Return all lengths up to DENSE, then some, including powers of two and their neighbours."""
    if few:
        return [1, 2, 3, 4, 8, 9, 16, 17, 32, 33, 100, 256, 1024, LONGEST]
    powers = [2**k + d for k in range(6, 12) for d in (-1, 0, 1)]
    by_steps = np.rint(np.geomspace(DENSE, LONGEST, 61)).astype(int).tolist()
    return sorted({*range(1, DENSE + 1), *powers, *by_steps, LONGEST - 1})


def shapes(few: bool) -> list[tuple[int, int]]:
    """Return the shapes of matrices of all row lengths, with as many rows as fit in the cache."""
    return [(min(MOST_ROWS, -(-ELEMENTS // n)), n) for n in lengths(few)]


def measure(
    cases: Sequence[Case], rounds: int, prepare: Callable[[Case], dict[str, Task]] = peers.prepare
) -> list[Curve]:
    """Return a curve for every operation, dtype and library in the cases, which are matrices."""
    curves: dict[tuple[str, str, str], Curve] = {}

    def work(case: Case) -> None:
        rows, n = case.shape
        for name, seconds in interleave(prepare(case), rounds, SAMPLE).items():
            key = case.function, case.dtype, name
            curves.setdefault(key, Curve(*key)).add(n, rows, seconds)

    peers.work_through("sweep", cases, work)
    return list(curves.values())


def panels(curves: Iterable[Curve]) -> dict[Panel, dict[str, Curve]]:
    """Return the curves by operation and dtype, and then by library."""
    found: dict[Panel, dict[str, Curve]] = {}
    for curve in curves:
        found.setdefault((curve.operation, curve.dtype), {})[curve.peer] = curve
    return found


def print_curves(curves: Iterable[Curve]) -> None:
    """Print the times of every length."""
    for (operation, dtype), of in panels(curves).items():
        times = [curve.times for curve in of.values()]
        body = [[str(n), *(f"{t[n]:.1f}" for t in times)] for n in times[0]]
        print_table(f"{operation}, {dtype}: ns per row", (">n", *(f">{p}" for p in of)), [body])


def write(curves: Iterable[Curve], environment: dict[str, Any], path: Path) -> None:
    """Write a JSON file, one curve per line."""
    write_json(path, environment, "curves", map(asdict, curves))


def read(path: Path) -> tuple[list[Curve], dict[str, Any]]:
    """Return the curves of a file, and the environment of the measurement."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return [Curve(**curve) for curve in found.pop("curves")], found


def draw(curves: Iterable[Curve], title: str, path: Path) -> None:
    """Draw a panel for every operation and dtype, both axes logarithmic."""
    from matplotlib.figure import Figure

    drawn = panels(curves)
    across = min(4, len(drawn))
    down = -(-len(drawn) // across)
    figure = Figure(figsize=(3.3 * across, 3.2 * down), layout="constrained")
    axes = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
    for axis, ((operation, dtype), of) in zip(axes, drawn.items(), strict=False):
        for peer, curve in of.items():
            style = "-" if peer in peers.NAMES else ":"
            width, order = (2.5, 3) if peer == OURS else (1.2, 2)
            axis.plot(
                curve.n, curve.least, style, color=COLORS[peer], lw=width, label=peer, zorder=order
            )
        axis.set(title=f"{operation}, {dtype}", xscale="log", yscale="log")
        axis.set(xlabel="length of the row", ylabel="ns per row")
        axis.grid(alpha=0.3)
    for axis in axes[len(drawn) :]:
        axis.remove()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.suptitle(textwrap.fill(title, 45 * across), fontsize="small")
    figure.savefig(path, dpi=120)

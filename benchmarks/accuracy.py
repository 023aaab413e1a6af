"""Measure the worst error of every operation x dtype x instruction set, and of other libraries.

    python benchmarks/accuracy.py                    # the worst errors, and their inputs
    python benchmarks/accuracy.py --quick            # fewer rows
    python benchmarks/accuracy.py --markdown         # the table of the documentation
    python benchmarks/accuracy.py --update-docs      # write it there, with its plot

The rows, the exact results and the bounds (budgets) are those of the tests: tests/rows.py,
oracle.py, ulp.py.
"""

from __future__ import annotations

import argparse
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import boltzmax
import boltzmax.testing
import oracle
import pages
import rows
import ulp
from boltzmax.cli.peers import OURS
from boltzmax.cli.sweep import COLORS

ROOT = Path(__file__).resolve().parent.parent
Array = npt.NDArray[Any]
# Takes the name of an operation and a matrix, and works over the last axis.
Implementation = Callable[[str, Array], Array]


# ---- implementations


def ours(isa: str) -> Implementation:
    def run(op: str, x: Array) -> Array:
        with boltzmax.testing.use_isa(isa):
            return np.asarray(getattr(boltzmax, op)(x))

    return run


def numpy_form(op: str, x: Array) -> Array:
    """A careful NumPy version: shifted, in at least float32, log1p without the largest term."""
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    first = np.argmax(wide, axis=-1, keepdims=True)
    top = np.take_along_axis(wide, first, axis=-1)
    e = np.exp(wide - top)
    if op == "softmax":
        return np.asarray(e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)
    np.put_along_axis(e, first, 0, axis=-1)
    log_sum = np.log1p(e.sum(axis=-1, keepdims=True))
    result = (wide - top) - log_sum if op == "log_softmax" else (top + log_sum)[..., 0]
    return np.asarray(result).astype(x.dtype)


def scipy_form(op: str, x: Array) -> Array:
    special = import_module("scipy.special")
    return np.asarray(getattr(special, op)(x, axis=-1))


def torch_form(op: str, x: Array) -> Array:
    torch = import_module("torch")
    half = x.dtype.itemsize == 2
    tensor = torch.from_numpy(x.astype(np.float32) if half else x)
    result = getattr(torch, op)(tensor.to(getattr(torch, x.dtype.name)), -1)
    return np.asarray((result.float() if half else result).numpy().astype(x.dtype))


def implementations() -> dict[str, Implementation]:
    found = {isa: ours(isa) for isa in boltzmax.available_isas()}
    found["NumPy"] = numpy_form
    for name, module, form in (
        ("SciPy", "scipy.special", scipy_form),
        ("PyTorch", "torch", torch_form),
    ):
        try:
            import_module(module)
        except ImportError:
            continue
        found[name] = form
    return found


# ---- measuring


@dataclass
class Worst:
    """The worst result of one implementation, as a fraction of the budget and in units."""

    share: float = -1.0
    units: float = -1.0
    what: str = ""

    def see(self, share: Array, units: Array, name: str, x: Array, step: int) -> None:
        """Record results: a matrix, or a vector for logsumexp; every `step`-th of a row."""
        self.units = max(self.units, float(units.max()))
        at = np.unravel_index(int(np.argmax(share)), share.shape)
        if share[at] > self.share:
            self.share = float(share[at])
            row = x[at[0]]
            place = f"row {at[0]}, " if len(x) > 1 else ""
            if share.ndim == 2:
                distance = float(row[at[1]]) - float(row.max())
                place += f"[{at[1] * step}], x - max = {distance:.6g}"
            else:
                place += f"max = {float(row.max()):.6g}"
            self.what = f"{name}: {place}"

    def __str__(self) -> str:
        if self.share < 0:
            return "-"
        return f"{number(self.units)} ({number(self.share)})"


def number(value: float) -> str:
    if not np.isfinite(value):
        return "inf"
    return f"{value:.2f}" if value < 99.5 else f"{value:.0e}"


@dataclass
class Table:
    """(operation, dtype, implementation) -> the worst result."""

    cells: dict[tuple[str, str, str], Worst] = field(default_factory=dict)

    def measure(self, name: str, x: Array, run: dict[str, Implementation]) -> None:
        """Measure all operations of all implementations on a matrix of rows."""
        exact = oracle.exact(x)
        # In the longest rows only every seventh result is checked, which is slower than computing.
        part = slice(None, None, 7 if x.shape[-1] >= 1_000_000 else 1)
        shown, some = x[..., part], exact.columns(part)
        for label, implementation in run.items():
            for op in ulp.OPS:
                worst = self.cells.setdefault((op, x.dtype.name, label), Worst())
                try:
                    with np.errstate(all="ignore"):
                        got = implementation(op, x)
                except (TypeError, ValueError, NotImplementedError):
                    continue  # unsupported dtype
                if got.dtype != x.dtype:
                    continue
                got = got if op == "logsumexp" else got[..., part]
                share, units = (f(op, got, some, x.dtype) for f in (ulp.of_budget, ulp.in_units))
                worst.see(share, units, name, shown, part.step)


def cases(dtype: np.dtype[Any], quick: bool) -> Iterator[tuple[str, Array]]:
    """Names (as ``rows.make`` takes them) and matrices."""
    tails = rows.TAILS[:40:3] if quick else rows.TAILS
    lengths = [*tails, *rows.LENGTHS, *(() if quick else rows.LONG)]
    for kind in rows.KINDS:
        for n in lengths:
            for seed in range(1 if quick or n > 130 else 3):
                if oracle.usable(n, dtype):
                    name = f"{kind}, n = {n}" + (f", seed {seed}" if seed else "")
                    yield name, rows.make(kind, n, dtype, seed)[None]
    for n in (2, 3, 5, 8, 17, 33):
        yield f"many_short, n = {n}", rows.many_short(n, dtype, count=2_000 if quick else 20_000)
    for n in () if quick else rows.LONGEST:
        for kind in ("normal", "far_constant", "vanishing"):
            if oracle.usable(n, dtype):
                yield f"{kind}, n = {n:,}", rows.make(kind, n, dtype)[None]


def dtypes() -> Iterator[np.dtype[Any]]:
    for name in ulp.DTYPES:
        try:
            yield ulp.dtype_of(name)
        except ImportError:
            print(f"without {name}: ml_dtypes is not installed", file=sys.stderr)


def measure(quick: bool) -> Table:
    table = Table()
    run = implementations()
    for dtype in dtypes():
        for count, (name, x) in enumerate(cases(dtype, quick), 1):
            table.measure(name, x, run)
            if sys.stderr.isatty() and count % 50 == 0:
                print(f"\r{dtype}: {count} inputs", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            print(file=sys.stderr)
    return table


# ---- output


def columns(table: Table) -> list[str]:
    return list(dict.fromkeys(label for _, _, label in table.cells))


def summary(table: Table) -> list[list[str]]:
    """One line per operation and dtype, one column per implementation."""
    labels = columns(table)
    lines = [["operation", "dtype", *labels]]
    for op, dtype in dict.fromkeys((op, dtype) for op, dtype, _ in table.cells):
        lines.append([op, dtype, *(str(table.cells[op, dtype, label]) for label in labels)])
    order = {op: i for i, op in enumerate(ulp.OPS)}
    return [lines[0], *sorted(lines[1:], key=lambda line: order[line[0]])]


def inputs(table: Table) -> list[list[str]]:
    """The input of our worst result for every operation, dtype and instruction set."""
    lines = [["operation", "dtype", "ISA", "fraction of the bound", "input"]]
    for op in ulp.OPS:
        for (name, dtype, label), worst in table.cells.items():
            if name == op and label in boltzmax.available_isas():
                lines.append([op, dtype, label, number(worst.share), worst.what])
    return lines


def as_text(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows_of_text = (
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines
    )
    return "\n".join(line.rstrip() for line in rows_of_text)


def as_markdown(lines: list[list[str]]) -> str:
    rule = ["---"] * len(lines[0])
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def versions() -> str:
    found = [f"NumPy {np.__version__}"]
    for name, module in (("SciPy", "scipy"), ("PyTorch", "torch")):
        try:
            found.append(f"{name} {import_module(module).__version__}")
        except ImportError:
            continue
    return f"boltzmax {boltzmax.__version__}, {', '.join(found)}, {platform.machine()}"


EXPLANATION = (
    "Worst error over all inputs: in eps (relative) for softmax, in ULP of the result for the "
    "others and for 16-bit types; in parentheses the largest fraction of the bound, at most 1 "
    "where the bound holds. NumPy is the shifted formula with log1p, 16-bit types in float32."
)


def markdown(table: Table) -> str:
    details = as_markdown(inputs(table))
    return (
        f"{as_markdown(summary(table))}\n\n{EXPLANATION} {versions()}.\n\n"
        f"<details><summary>Inputs of the worst errors</summary>\n\n{details}\n\n</details>"
    )


PEER_COLORS = {"NumPy": COLORS["numpy"], "SciPy": COLORS["scipy"], "PyTorch": COLORS["torch"]}


def draw(table: Table, path: Path) -> None:
    """Draw the worst errors in float32 and float64: a point for each implementation."""
    from matplotlib.figure import Figure

    lines = [(op, dtype) for op in ulp.OPS for dtype in ("float32", "float64")]
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axis = figure.subplots()
    for i, label in enumerate(reversed(columns(table))):
        ours = label in boltzmax.available_isas()
        name = f"boltzmax, {label}" if ours else label
        units = [table.cells[op, dtype, label].units for op, dtype in lines]
        color = COLORS[OURS] if ours else PEER_COLORS[label]
        alpha, marker = (0.4 + 0.15 * (i - 2), "D") if ours else (0.9, "o")
        shift = [y + 0.1 * (2.5 - i) for y in range(len(lines))]
        axis.scatter(units, shift, 36, color, marker=marker, alpha=alpha, label=name)
    axis.axvline(1, color="gray", lw=0.8, ls=":")
    axis.set_yticks(range(len(lines)), [f"{op}, {dtype}" for op, dtype in lines])
    axis.set(xscale="log", xlabel="worst error found, in eps (softmax) or ULP (the others)")
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside right upper", reverse=True)
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer rows, seconds instead of minutes"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--update-docs", action="store_true", help="write and draw it there")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = measure(options.quick)
    if options.update_docs:
        pages.update(pages.ACCURACY, "accuracy", markdown(table))
        draw(table, pages.STATIC / "accuracy.png")
    if options.markdown:
        print(markdown(table))
    elif not options.update_docs:
        print(as_text(summary(table)), EXPLANATION, as_text(inputs(table)), versions(), sep="\n\n")
    over = [
        f"{op} {dtype} {label}"
        for (op, dtype, label), worst in table.cells.items()
        if label in boltzmax.available_isas() and worst.share > 1
    ]
    if over:
        print("above the bound:", ", ".join(over), file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())

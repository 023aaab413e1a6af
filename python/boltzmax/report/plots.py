"""The figures of a report, in SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from boltzmax._lib.console import require
from boltzmax.calibration.plots import plot_reliability
from boltzmax.report.numbers import Quality, Report, Sets
from boltzmax.selective.curves import risk_coverage_curve

# Colours that stand for variables of the page, which differ between light and dark.
INK, BEFORE, AFTER, WRONG = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {INK: "ink", BEFORE: "before", AFTER: "after", WRONG: "wrong"}

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "savefig.facecolor": "none",
}
_POINTS = 1000  # of a curve
_BINS = 40  # of a histogram


class Figure(NamedTuple):
    """A figure: its title, what it shows in words, and SVG."""

    title: str
    alt: str
    svg: str


def figures(report: Report) -> list[Figure]:
    """Return all figures."""
    before, after = report.before, report.after
    most = max(report.sets, key=lambda sets: sets.mean_size)
    return [
        Figure(
            "Reliability",
            f"Share of right answers against confidence, in bins. The calibration error is "
            f"{before.ece.value:.3f} as given, and {after.ece.value:.3f} at the temperature "
            f"{report.temperature:.3g}; on the diagonal it would be 0.",
            _drawn("reliability", lambda ax: _reliability(ax, before, after)),
        ),
        Figure(
            "Risk and coverage",
            f"Share of wrong answers against the share of rows that are answered, the surest "
            f"first; {1 - float(before.answers.right.mean()):.2%} are wrong if all are answered.",
            _drawn("risk", lambda ax: _risk(ax, report)),
        ),
        Figure(
            "Confidence",
            "Histograms of the confidence of right and of wrong answers, as given.",
            _drawn("confidence", lambda ax: _confidence(ax, before)),
        ),
        Figure(
            "Sizes of prediction sets",
            "How many sets have each number of classes: on average "
            + ", ".join(f"{s.mean_size:.2f} with {s.method}" for s in report.sets)
            + f"; the largest are those of {most.method}.",
            _drawn("sizes", lambda ax: _sizes(ax, report.sets)),
        ),
    ]


def _drawn(name: str, draw: Callable[[Any], None]) -> str:
    """Return what a function draws on axes."""
    figure_module, matplotlib = require("matplotlib.figure"), require("matplotlib")
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = figure_module.Figure(figsize=(5.2, 3.6), layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _for_page(file.getvalue())


def _for_page(svg: str) -> str:
    """Return the element alone, without ids that another figure has, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.S)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    # The caption and the label of the figure around it say what it shows.
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _reliability(ax: Any, before: Quality, after: Quality) -> None:
    for quality, colour, label in ((before, BEFORE, "as given"), (after, AFTER, "after scaling")):
        pairs = quality.answers.confidence, quality.answers.right
        text = f"{label}, ECE {quality.ece.value:.3f}"
        plot_reliability(*pairs, from_probs=True, ax=ax, label=text, color=colour)


def _risk(ax: Any, report: Report) -> None:
    curves = ((report.before, BEFORE, "as given"), (report.after, AFTER, "after scaling"))
    for quality, colour, label in curves:
        curve = risk_coverage_curve(quality.answers.confidence, ~quality.answers.right)
        # A thousand of the points, evenly spread, but no noise of the first few rows.
        wanted = np.linspace(min(20 / report.measured_on, 1.0), 1.0, _POINTS)
        shown = np.unique(np.searchsorted(curve.coverage, wanted).clip(0, len(curve.risk) - 1))
        ax.plot(curve.coverage[shown], curve.risk[shown], color=colour, label=label, linewidth=1.3)
    found = report.abstention
    ax.axhline(found.target_risk, color=WRONG, linewidth=0.9, linestyle="--", label="wanted risk")
    if found.coverage > 0:
        ax.plot(found.coverage, found.risk, "o", color=WRONG, markersize=5, label="answered")
    ax.set(xlim=(0, 1), xlabel="share of rows answered", ylabel="share of wrong answers")
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper left")


def _confidence(ax: Any, before: Quality) -> None:
    found = before.answers
    edges = np.linspace(0, 1, _BINS + 1)
    right = np.histogram(found.confidence[found.right], edges)[0]
    wrong = np.histogram(found.confidence[~found.right], edges)[0]
    for count, colour, label in ((right, BEFORE, "right"), (wrong, WRONG, "wrong")):
        ax.stairs(count, edges, fill=True, color=colour, alpha=0.45, label=label)
        ax.stairs(count, edges, color=colour, linewidth=1.1)
    ax.set_yscale("symlog", linthresh=1)
    ax.set(xlim=(0, 1), xlabel="confidence", ylabel="rows")
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper left")


def _sizes(ax: Any, all_sets: tuple[Sets, ...]) -> None:
    most = max(int(np.flatnonzero(sets.counts)[-1]) for sets in all_sets)
    edges = np.arange(most + 2) - 0.5
    if most > 60:
        edges = np.unique(np.geomspace(1, most + 1, 40).astype(int)) - 0.5
        edges = np.append(-0.5, edges)
    styles = ((BEFORE, "-"), (AFTER, "-"), (WRONG, "--"))  # one may hide another
    for sets, (colour, line) in zip(all_sets, styles, strict=True):
        sizes = np.arange(most + 1)
        count = np.histogram(sizes, edges, weights=sets.counts[: most + 1])[0]
        ax.stairs(count, edges, color=colour, linestyle=line, linewidth=1.4, label=sets.method)
    if most > 60:
        ax.set_xscale("symlog", linthresh=1)
    elif most <= 12:
        ax.set_xticks(range(most + 1))
    ax.set(xlabel="classes in a set", ylabel="rows")
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper right")

"""The numbers of a report as text: tables, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from boltzmax._lib.console import Row
from boltzmax.report.numbers import LEVEL, Abstention, Estimate, Report

_WORST = 5  # classes in a summary


class Table(NamedTuple):
    """A table; a column whose name starts with ``>`` is aligned on the right."""

    title: str
    header: Row
    rows: Sequence[Row]


def share(value: float) -> str:
    """Return 0.9312 as 93.12%; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.2%}"


def with_interval(estimate: Estimate) -> str:
    """Return a number and its interval."""
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def over_sure(report: Report) -> str:
    """Return what the temperature tells, in words."""
    if report.temperature > 1.05:
        return "above 1: the classifier is too sure of itself"
    if report.temperature < 0.95:
        return "below 1: the classifier is not sure enough of itself"
    return "near 1: the classifier is about as sure as it should be"


def where_measured(report: Report) -> str:
    """Return which rows are used for what."""
    return (
        f"The temperature and all thresholds were fitted on every other row "
        f"({report.fitted_on:,}, from the first on), and all figures but those of errors and "
        f"classes measured on the rest ({report.measured_on:,}), held out from the fit. Intervals "
        f"have a confidence of {LEVEL:.0%}."
    )


def calibration_table(report: Report) -> Table:
    """Return the quality of the probabilities, before and after temperature scaling."""
    before, after = report.before, report.after
    rows = [
        ("negative log-likelihood", f"{before.nll:.4f}", f"{after.nll:.4f}"),
        ("Brier score", f"{before.brier:.4f}", f"{after.brier:.4f}"),
        ("calibration error (ECE)", with_interval(before.ece), with_interval(after.ece)),
        ("mean confidence", *(share(float(q.answers.confidence.mean())) for q in (before, after))),
        ("accuracy", *(share(float(q.answers.right.mean())) for q in (before, after))),
    ]
    header = ("held-out rows", ">as given", f">at T = {report.temperature:.4g}")
    return Table("Calibration", header, rows)


def abstention_table(found: Abstention) -> Table:
    """Return what answering only where sure comes to."""
    rows = [
        ("wanted risk", f"{found.target_risk:g}"),
        ("confidence from", f"{found.threshold:.6g}" if found.threshold < np.inf else "none"),
        ("guarantee", guarantee_of(found)),
        ("answered", share(found.coverage)),
        ("uncertain", share(1 - found.coverage)),
        ("wrong among the answered", share(found.risk)),
    ]
    return Table("Answers only where sure", ("answers", "held-out rows"), rows)


def guarantee_of(found: Abstention) -> str:
    """Return the promise in words."""
    if math.isnan(found.guaranteed_risk):
        return "none can be given: too few rows, or too many errors"
    return f"at most {found.guaranteed_risk:g} {found.guarantee}"


def sets_table(report: Report) -> Table:
    """Return the coverage and sizes of prediction sets."""
    rows = []
    for sets in report.sets:
        cumulated = np.cumsum(sets.counts)
        middle, most = (int(np.searchsorted(cumulated, n)) for n in (
            -(-report.measured_on // 2), report.measured_on
        ))  # fmt: skip
        sizes = (f"{sets.mean_size:.2f}", str(middle), str(most))
        rows.append((sets.method, share(sets.coverage), *sizes))
    header = ("method", ">contain the label", ">mean size", ">median", ">largest")
    title = f"Prediction sets that contain the label in {1 - report.alpha:.6g} of the rows"
    return Table(title, header, rows)


def nodes_table(report: Report) -> Table | None:
    """Return the answers with nodes of the tree, by depth."""
    nodes = report.nodes
    if nodes is None:
        return None
    rows = [
        ("guarantee", f"at most {nodes.guaranteed_risk:g} {nodes.guarantee}"),
        ("a node's probability above", f"{nodes.threshold:.6g}"),
        ("wrong among all", share(nodes.risk)),
        ("answered with a class", share(nodes.to_class)),
        *(
            (f"at depth {depth}" + (", the root: uncertain" if depth == 0 else ""), share(part))
            for depth, part in enumerate(nodes.shares.tolist())
        ),
    ]
    return Table("Answers with a node of the tree", ("answers", "held-out rows"), rows)


def errors_table(report: Report, names: Sequence[str]) -> Table:
    """Return the most confident errors."""
    rows = [
        (str(e.row), names[e.label], names[e.predicted], f"{e.confidence:.6f}")
        for e in report.errors
    ]
    return Table("Most confident errors", (">row", "label", "answer", ">confidence"), rows)


def classes_table(report: Report, names: Sequence[str], most: int = _WORST) -> Table:
    """Return the worst classes, the worst first."""
    c = report.classes
    rows = [
        (
            names[i],
            str(c.rows[i]),
            share(c.accuracy[i]),
            share(c.precision[i]),
            share(c.confidence[i]),
            names[c.mistaken_for[i]] if c.mistaken_for[i] >= 0 else "-",
        )
        for i in c.worst[:most].tolist()
    ]
    header = ("class", ">rows", ">accuracy", ">precision", ">mean confidence", "mistaken for")
    return Table("Worst classes", header, rows)


def tables(report: Report, names: Sequence[str]) -> list[Table]:
    """Return the tables of a summary."""
    found = [
        calibration_table(report),
        abstention_table(report.abstention),
        sets_table(report),
        nodes_table(report),
        errors_table(report, names),
        classes_table(report, names),
    ]
    return [table for table in found if table is not None and table.rows]


def headline(report: Report) -> str:
    """Return the size of the data, and the accuracy."""
    low, high = share(report.accuracy.low), share(report.accuracy.high)
    return (
        f"{report.rows:,} rows, {report.n_classes:,} classes; accuracy "
        f"{share(report.accuracy.value)} ({low} to {high})"
    )


def as_json(report: Report, names: Sequence[str]) -> str:
    """Return the numbers in JSON, with null for those that are not finite."""
    found = asdict(report)
    for quality in (found["before"], found["after"]):
        del quality["answers"]  # as long as the file
    for key in ("accuracy",):
        found[key] = found[key]._asdict()
    for quality in (found["before"], found["after"]):
        quality["ece"] = quality["ece"]._asdict()
    found["classes"]["name"] = list(names)
    return json.dumps(_plain(found), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

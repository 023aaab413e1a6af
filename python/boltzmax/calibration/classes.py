"""Bins of the probabilities of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.scored import Scored
from boltzmax.calibration.binning import (
    Bins,
    Sums,
    bins_of,
    equal_width_edges,
    equal_width_index,
)
from boltzmax.calibration.events import class_events, class_probabilities

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_CHUNK = 1 << 15  # of the probabilities that are counted together


def bins_of_classes(rows: Scored, n_bins: int, binning: str) -> Bins:
    """Return a row of bins for each class.

    Bins of equal width take one read of the scores, those of equal mass one for each group of
    classes.
    """
    if binning == "equal_width":
        edges = equal_width_edges(n_bins)
        return _equal_width_sums(rows, edges).bins(edges)
    return _stacked([bins_of(found.events, n_bins, binning) for found in class_events(rows)])


@quietly
def _equal_width_sums(rows: Scored, edges: Doubles) -> Sums:
    n, k = len(edges) - 1, rows.n_classes
    cells = n * k
    totals = np.zeros((5, cells))  # in the order of Sums
    offsets = n * np.arange(k)
    assert rows.labels is not None
    step = max(1, max(_CHUNK, 4 * cells) // k)
    for block in rows.blocks():
        p = class_probabilities(rows, block)
        for start in range(0, len(p), step):
            chunk = p[start : start + step]
            part = slice(block.start + start, block.start + start + len(chunk))
            label = rows.labels[part]
            cell = equal_width_index(chunk, edges) + offsets
            weight = rows.weight(part)
            _add(totals, cell, chunk, weight if rows.weights is not None else None)
            at_label = cell[np.arange(len(chunk)), label]
            totals[4] += np.bincount(at_label, weights=weight, minlength=cells)
    if rows.weights is None:
        totals[1] = totals[2] = totals[0]
    return Sums(*totals.reshape(5, k, n))


def _add(totals: Doubles, cell: Array, p: Array, weight: Doubles | None) -> None:
    """Add what does not depend on the labels."""
    flat, cells = cell.reshape(-1), totals.shape[1]

    def sum_of(values: Array) -> Doubles:
        spread = np.broadcast_to(values, p.shape).reshape(-1)
        return np.asarray(np.bincount(flat, weights=spread, minlength=cells), np.float64)

    totals[0] += np.bincount(flat, minlength=cells)
    if weight is None:
        totals[3] += sum_of(p)
        return
    w = weight[:, None]
    totals[1] += sum_of(w)
    totals[2] += sum_of(np.square(w))
    totals[3] += sum_of(w * p)


def _stacked(bins: Sequence[Bins]) -> Bins:
    """Return the bins of all classes, in rows that are filled up with empty ones."""
    n = max(len(each.count) for each in bins)

    def rows_of(name: str, fill: float, length: int) -> Array:
        first = getattr(bins[0], name)
        out = np.full((len(bins), length), fill, first.dtype)
        for row, each in zip(out, bins, strict=True):
            values = getattr(each, name)
            row[: len(values)] = values
        return out

    return Bins(
        edges=rows_of("edges", np.nan, n + 1),
        count=rows_of("count", 0, n),
        weight=rows_of("weight", 0.0, n),
        confidence=rows_of("confidence", np.nan, n),
        accuracy=rows_of("accuracy", np.nan, n),
        effective_count=rows_of("effective_count", 0.0, n),
    )

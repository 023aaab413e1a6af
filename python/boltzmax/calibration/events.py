"""Probabilities of events, and whether they happened, from rows of scores with labels.

For two classes given as single numbers, the event is class 1. For rows of K scores it is that the
likeliest class is right, or for each class that it is the label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.scored import Scored
from boltzmax.arrays.row_stats import row_stats

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]

_GROUP_BYTES = 1 << 26  # of a group of columns


class Events(NamedTuple):
    """The probability of an event in each row, whether it happened, and the weight of the row."""

    p: Array
    happened: Bools
    weight: Doubles | None

    @property
    def total_weight(self) -> float:
        """The sum of the weights."""
        return float(len(self.p)) if self.weight is None else float(self.weight.sum())


@quietly
def event_probabilities(rows: Scored) -> Array:
    """Return the probabilities of class 1 of two."""
    if rows.from_probs:
        whole = slice(0, rows.n_rows)
        return rows.probabilities(whole)
    x = np.asarray(rows.array).astype(loss_dtype(rows.array.dtype), copy=False)
    p = 1 / (1 + np.exp(-x))
    if np.isnan(p).any():
        rows.check_finite()
    return np.asarray(p)


@quietly
def class_probabilities(rows: Scored, part: slice) -> Array:
    """Return the probabilities of all classes of some rows, (n, K), at least in float32."""
    if rows.from_probs and not rows.is_binary:
        return rows.probabilities(part)
    z = rows.logits(part)
    p: Array = _core.softmax(z, -1, dtype=loss_dtype(z.dtype))
    if np.isnan(p[:, 0]).any():
        rows.check_finite()
    return p


def top_label_events(rows: Scored) -> Events:
    """Return the confidence in the likeliest class of each row, and whether it is the label.

    Equal scores go to the lower class. Single numbers are events already: class 1.
    """
    labels = _labels(rows)
    if rows.is_binary:
        return Events(event_probabilities(rows), labels == 1, rows.weights)
    p = np.empty(rows.n_rows, loss_dtype(rows.array.dtype))
    hit = np.empty(rows.n_rows, np.bool_)
    for part in rows.blocks():
        p[part], likeliest = top_label(rows, part)
        np.equal(likeliest, labels[part], out=hit[part])
    return Events(p, hit, rows.weights)


@quietly
def top_label(rows: Scored, part: slice) -> tuple[Array, NDArray[np.int64]]:
    """Return the confidence of some rows, and their likeliest classes."""
    if rows.from_probs:
        given = rows.probabilities(part)
        likeliest = given.argmax(axis=1)
        return given[np.arange(len(given)), likeliest], likeliest
    found = row_stats(rows.logits(part), k=1, entropy=False)
    assert found.max_log_prob is not None
    assert found.argmax is not None
    p = np.exp(found.max_log_prob)
    if np.isnan(p).any():
        rows.check_finite()
    return p, found.argmax


class ClassEvents(NamedTuple):
    """The events of one class."""

    class_id: int
    events: Events


def class_events(rows: Scored) -> Iterator[ClassEvents]:
    """Yield the events of each class: its probability in every row, and whether it is the label."""
    labels = _labels(rows)
    dtype = loss_dtype(rows.array.dtype)
    for c, p in columns(rows, class_probabilities, rows.n_classes, dtype):
        yield ClassEvents(c, Events(p, labels == c, rows.weights))


def columns(
    rows: Scored, function: Callable[[Scored, slice], Array], width: int, dtype: np.dtype[Any]
) -> Iterator[tuple[int, Array]]:
    """Yield the columns of a function of rows, (n, width), each with its number.

    They come in groups of limited size, each of which takes a read of all rows.
    """
    step = max(1, min(width, _GROUP_BYTES // (rows.n_rows * dtype.itemsize)))
    for first in range(0, width, step):
        last = min(width, first + step)
        group = np.empty((last - first, rows.n_rows), dtype)
        for part in rows.blocks():
            group[:, part] = function(rows, part)[:, first:last].T
        yield from zip(range(first, last), group, strict=True)


def _labels(rows: Scored) -> NDArray[np.int64]:
    assert rows.labels is not None
    return rows.labels

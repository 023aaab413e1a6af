"""Temperature 0: the limit of the functions as T falls to 0.

The softmax of x / T tends to 1/k at each of the k largest elements of a row, and to 0 elsewhere.
A row without a finite maximum has the same answer at every T.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax.arrays.calls import Call

Array = NDArray[Any]
Ints = NDArray[np.int64]


def quotient(x: Array) -> Array:
    """Return the limit of x / T: 0, or an infinity with the sign of `x`; NaN stays."""
    return np.where(x == 0, np.zeros_like(x), x * x.dtype.type(np.inf))


def distances(x: Array, axes: tuple[int, ...], where: NDArray[np.bool_] | None) -> Array:
    """Return the limit of (x - max x) / T along `axes`: 0 at the largest elements, -inf elsewhere.

    Rows without a finite maximum stay as they are, and `where` leaves elements out.
    """
    # float32 represents narrower types exactly, and NumPy is faster with it.
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    low = wide.dtype.type(-np.inf)
    counts = True if where is None else where
    largest = wide.max(axis=axes, keepdims=True, initial=low, where=counts)
    limit = _core.empty_like(x, x.dtype)  # recycled memory
    limit.fill(-np.inf)
    np.copyto(limit, 0.0, where=wide == largest)
    is_finite = np.isfinite(largest)
    return limit if is_finite.all() else np.where(is_finite, limit, x)


def at_temperature_0(function: str, call: Call) -> Call:
    """Return a call with the same result, without temperatures of 0.

    Where T is 0, the limit replaces the scores, and 1 replaces T.
    """
    t = call.temperature
    assert t is not None
    x, is_cold = call.converted, np.expand_dims(t == 0.0, call.axes)
    with np.errstate(all="ignore"):
        limit = quotient(x) if function == "logsumexp" else distances(x, call.axes, call.mask)
    t = np.where(t == 0.0, 1.0, t)
    return call._replace(
        x=limit if is_cold.all() else np.where(is_cold, limit, x),
        temperature=None if (t == 1.0).all() else t,
    )


class Largest:
    """The largest score of each row, which is read tile by tile, and how many elements equal it."""

    def __init__(self, rows: int, dtype: np.dtype[Any], label: Ints | None = None) -> None:
        self.score = np.full(rows, -np.inf, dtype)
        self.count, self.first = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self._label = label
        self._own = np.empty(0 if label is None else rows, dtype)

    def add(self, scores: Array, start: int) -> None:
        """Read the scores for the classes from `start` on."""
        top = scores.max(axis=1)
        is_top = scores == top[:, None]
        count, surpassed = is_top.sum(axis=1), top > self.score
        self.first = np.where(surpassed, start + is_top.argmax(axis=1), self.first)
        before = np.where(surpassed, 0, self.count)
        self.score = np.maximum(self.score, top)
        self.count = before + np.where(top == self.score, count, 0)
        if self._label is not None:
            column = self._label - start
            rows = np.flatnonzero((column >= 0) & (column < scores.shape[1]))
            self._own[rows] = scores[rows, column[rows]]

    @property
    def log_sum(self) -> Array:
        """The limit of log(sum(exp(score / T)))."""
        return quotient(self.score) + np.log(self.count)

    @property
    def log_prob(self) -> Array:
        """The limit of the log-probability of the label."""
        return quotient(self._own - self.score) - np.log(self.count)

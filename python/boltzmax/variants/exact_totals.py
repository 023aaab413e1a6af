r"""Softmax of rows that come in parts, with the same bits for any parts in any order.

The total of a row, :math:`\sum_i e^{x_i / T}`, is kept as its maximum, how often that occurs, and
the sum of all other terms in whole numbers (``cpp/core/weighted/exact_totals.hpp``).  A term
depends on its element alone, and whole numbers are added exactly, so totals do not depend on how a
row was divided, on the order of merges, or on the instruction set.  Elements are mapped one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

# What a row's total is made of, 64 bytes; and a sum of numbers with signs, 48 bytes.
TOTAL = np.dtype(
    [("max", "f8"), ("argmax", "i8"), ("count", "i8"), ("unit", "i8"), ("digit", "i8", 4)]
)
SIGNED_SUM = np.dtype([("unit", "i8"), ("digit", "i8", 4), ("special", "f8")])
_NO_UNIT = -(2**62)
_MOST_ELEMENTS = 2**31  # of a row: beyond, the whole numbers might overflow


def check_n_classes(n: int) -> int:
    """Return the number of classes of whole rows if their totals have room for them."""
    if not 1 <= n <= _MOST_ELEMENTS:
        raise ValueError(f"there must be from 1 to 2**31 classes in all, got {n}")
    return n


def empty_totals(shape: int | tuple[int, ...]) -> Array:
    """Return the totals of rows without elements."""
    totals = np.zeros(shape, TOTAL)
    totals["max"], totals["unit"] = -np.inf, _NO_UNIT
    return totals


def empty_sums(shape: int | tuple[int, ...]) -> Array:
    """Return sums of no numbers."""
    sums = np.zeros(shape, SIGNED_SUM)
    sums["unit"] = _NO_UNIT
    return sums


def totals_of(x: Array, first: int = 0, temperature: float = 1.0) -> Array:
    """Return the totals of the parts of rows in a matrix, whose first column is class `first`."""
    totals = empty_totals(len(x))
    _core.exact_totals_add(_computed(x), first, temperature, _words(totals))
    return totals


def merge_totals(totals: Array, other: Array, temperature: float = 1.0) -> None:
    """Add other parts of the same rows to their totals, which are contiguous."""
    _core.exact_totals_merge(_words(totals), _words(np.ascontiguousarray(other)), temperature)


def sums_of(x: Array) -> Array:
    """Return the sums of the rows of a matrix of numbers; -inf and NaN are sums of their own."""
    sums = empty_sums(len(x))
    _core.signed_sums_add(np.require(x, np.float64, ("C", "A")), _words(sums))
    return sums


def merge_sums(sums: Array, other: Array) -> None:
    """Add other parts of the same rows to their sums."""
    _core.signed_sums_merge(_words(sums), _words(np.ascontiguousarray(other)))


def rounded_sums(sums: Array) -> tuple[Doubles, Doubles]:
    """Return the sums in twice the precision of float64."""
    high, low = np.empty(len(sums)), np.empty(len(sums))
    _core.signed_sums_round(_words(np.ascontiguousarray(sums)), high, low)
    return high, low


class Normalizer:
    """What makes probabilities of the elements of rows with known totals.

    Parameters
    ----------
    totals : ndarray of TOTAL, shape (N,)
        The totals of whole rows.
    temperature : float
        The temperature that they were made with.
    """

    def __init__(self, totals: Array, temperature: float = 1.0) -> None:
        self.totals = np.ascontiguousarray(totals)
        self.max: Doubles = np.ascontiguousarray(self.totals["max"])
        self.temperature = temperature
        # log_sum = lse - max / T, and the sum of which this is the logarithm.
        self.log_sum, self.sum = np.empty(len(totals)), np.empty(len(totals))
        _core.exact_totals_finish(_words(self.totals), temperature, self.log_sum, self.sum)

    @property
    def argmax(self) -> Integers:
        """The first class with the largest score."""
        return np.asarray(self.totals["argmax"])

    @property
    @quietly
    def lse(self) -> Doubles:
        """The logarithms of the totals; infinite where the maximum is."""
        scaled = self.max / self.temperature
        return np.where(np.isinf(self.max), self.max, scaled + self.log_sum)

    @quietly
    def log_prob(self, x: Any) -> Doubles:
        """Return the log-probability of one element of each row."""
        return np.asarray((x - self.max) / self.temperature - self.log_sum)

    def softmax(self, x: Array) -> Array:
        """Return the probabilities of parts of the rows, (N, n), in their dtype."""
        return self._map(x, False)

    def log_softmax(self, x: Array) -> Array:
        """Return the log-probabilities of parts of the rows, (N, n), in their dtype."""
        return self._map(x, True)

    @quietly
    def _map(self, x: Array, wants_log: bool) -> Array:
        given = _computed(x)
        y = np.empty_like(given)
        _core.exact_totals_map(
            given, self.temperature, self.max, self.log_sum, self.sum, wants_log, y
        )
        is_bad = ~np.isfinite(self.max)
        if is_bad.any():
            y[is_bad] = np.nan
            if wants_log:  # as log_softmax has it
                above = np.isposinf(self.max)
                y[above] = np.where(np.isposinf(given[above]), np.nan, -np.inf)
        return y.astype(x.dtype, copy=False)


def _computed(x: Array) -> Array:
    """Return rows in float32 or float64, in C order."""
    wide = np.float64 if x.dtype.itemsize > 4 or x.dtype.kind in "biu" else np.float32
    return np.require(x, wide, ("C", "A"))


def _words(states: Array) -> Integers:
    """Return a view of states as 64-bit words, which compiled code reads and writes."""
    return states.reshape(-1).view(np.int64).reshape(-1, states.dtype.itemsize // 8)

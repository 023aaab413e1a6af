"""Classes that are never drawn, for all candidates or for each row of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.numbers import unmasked_ids
from boltzmax._lib.ragged import integers, read_indptr

Ints = NDArray[np.int64]


class Exclusion(NamedTuple):
    """The excluded classes of rows, each once, in ascending order."""

    ids: Ints
    indptr: Ints
    per_row: bool  # whether each row has its own

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.indptr) - 1

    def of(self, row: int) -> Ints:
        """Return the classes that a row excludes."""
        return self.ids[self.indptr[row] : self.indptr[row + 1]]

    def row(self, row: int) -> Exclusion:
        """Return a row by itself."""
        ids = self.of(row)
        return Exclusion(ids, np.array([0, len(ids)]), self.per_row)

    def for_rows(self, rows: int) -> Exclusion:
        """Return the same classes for each of several rows."""
        counts = np.full(rows, len(self.ids))
        return Exclusion(np.tile(self.ids, rows), _offsets(counts), True)

    def only(self, kept: NDArray[np.bool_]) -> Exclusion:
        """Return the same rows, of which the others exclude nothing."""
        counts = np.diff(self.indptr)
        of_kept = np.repeat(kept, counts)
        return Exclusion(self.ids[of_kept], _offsets(np.where(kept, counts, 0)), self.per_row)

    def sums(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the numbers of each row's classes."""
        row = np.repeat(np.arange(self.rows), np.diff(self.indptr))
        return np.asarray(np.bincount(row, weights=numbers, minlength=self.rows))

    def has(self, ids: Ints) -> NDArray[np.bool_]:
        """Return which ids, a row of them for each row, are excluded."""
        if not len(self.ids):
            return np.zeros(ids.shape, np.bool_)
        row = np.repeat(np.arange(self.rows), np.diff(self.indptr))
        span = max(int(self.ids.max()), int(ids.max(initial=0))) + 1
        keys = row * span + self.ids
        wanted = np.arange(self.rows)[:, None] * span + ids
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.asarray(keys[at] == wanted)


def read_exclude(exclude: Any, n_classes: int) -> Exclusion:
    """Read a list of ids, or ``(values, indptr)``; one row without classes for None."""
    if exclude is None:
        return Exclusion(np.empty(0, np.int64), np.zeros(2, np.int64), False)
    if not isinstance(exclude, tuple):
        ids = check_classes(integers(exclude, "exclude"), n_classes, "exclude")
        ids = np.unique(ids)
        return Exclusion(ids, np.array([0, len(ids)]), False)
    if len(exclude) != 2:
        raise ValueError(f"exclude must be ids or (values, indptr), got a tuple of {len(exclude)}")
    values = check_classes(integers(exclude[0], "exclude[0], values,"), n_classes, "exclude")
    counts = np.diff(read_indptr(exclude[1], len(values)))
    row = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((values, row))
    row, values = row[order], values[order]
    is_first = np.ones(len(row), np.bool_)
    is_first[1:] = (row[1:] != row[:-1]) | (values[1:] != values[:-1])
    counts = np.bincount(row[is_first], minlength=len(counts))
    return Exclusion(values[is_first], _offsets(counts), True)


def read_classes(ids: ArrayLike, n_classes: int, name: str = "ids") -> Ints:
    """Return ids of any integer dtype and shape as int64."""
    array = unmasked_ids(ids, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    return check_classes(array, n_classes, name).astype(np.int64, copy=False)


def check_classes(ids: NDArray[Any], n_classes: int, name: str) -> NDArray[Any]:
    """Return ids if they are from 0 to n_classes - 1."""
    bad = (ids < 0) | (ids >= n_classes)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f" at position {index[0] if len(index) == 1 else index}" if index else ""
        raise IndexError(f"{name} {ids[index]}{place} is out of range for {n_classes} classes")
    return ids


def _offsets(counts: NDArray[Any]) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

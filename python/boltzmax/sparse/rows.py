"""Read sparse arrays as ragged rows: their stored entries, one row after the other."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import class_axis
from boltzmax._lib.ragged import Ints, read_indptr

Array = NDArray[Any]

FORMATS = ("csr", "csc", "coo")
IMPLICIT = ("masked", "zero")


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Filled:
    """A sparse array whose entries that are not stored have a value too: one for each row.

    Attributes
    ----------
    stored : sparse array or matrix
        The stored entries.
    implicit : ndarray
        The value of every other entry of a row.
    axis : int
        The class axis: 1, or 0 if columns are the rows.

    Examples
    --------
    >>> import boltzmax.sparse, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    >>> y = boltzmax.sparse.softmax(x, implicit="zero")
    >>> y.implicit.round(3)
    array([0.107, 0.333])
    >>> y.toarray().round(3)
    array([[0.107, 0.787, 0.107],
           [0.333, 0.333, 0.333]])
    """

    stored: Any
    implicit: Array
    axis: int

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the dense array."""
        rows, classes = self.stored.shape
        return rows, classes

    def toarray(self) -> Array:
        """Return the dense array.

        Returns
        -------
        ndarray
            Of the shape `shape`.
        """
        dense = np.empty(self.shape, self.stored.dtype)
        dense[...] = np.expand_dims(self.implicit, self.axis)
        entries = self.stored.tocoo()
        dense[entries.row, entries.col] = entries.data
        return dense


@dataclass(frozen=True)
class Rows:
    """The stored entries of a sparse array, sorted by row and class, without duplicates."""

    packed: Any  # the array in CSR, or in CSC if the classes are on axis 0
    format: str  # that of the caller's array
    axis: int
    offsets: Ints  # row r has the entries from offsets[r] up to, but not including, offsets[r + 1]

    @property
    def values(self) -> Array:
        """The logits."""
        values: Array = self.packed.data
        return values

    @property
    def classes(self) -> Array:
        """The class of each entry."""
        classes: Array = self.packed.indices
        return classes

    @property
    def number(self) -> int:
        """The number of rows."""
        return len(self.offsets) - 1

    @property
    def n_classes(self) -> int:
        """The number of classes, stored or not."""
        return int(self.packed.shape[self.axis])

    @property
    def lengths(self) -> Ints:
        """The number of stored entries of each row."""
        return np.diff(self.offsets)

    def each(self, of_row: Array) -> Array:
        """Return the number of its row for each entry."""
        return np.repeat(of_row, self.lengths)

    def like(self, values: Array) -> Any:
        """Return an array of the caller's kind that has these values at the stored entries."""
        # Arrays that share indices would share the effects of eliminate_zeros, too.
        indices, indptr = self.packed.indices.copy(), self.packed.indptr.copy()
        packed = type(self.packed)((values, indices, indptr), shape=self.packed.shape)
        return packed.asformat(self.format)

    def lower_bound(self, keys: Array, wanted: Array) -> Ints:
        """Return the first entry of each row whose key is at least the row's `wanted`.

        Keys must not decrease within a row. Where all are smaller, it is the end of the row.
        """
        low, high = self.offsets[:-1].copy(), self.offsets[1:].copy()
        while (searching := low < high).any():
            middle = (low + high) // 2
            below = searching & (keys[np.where(searching, middle, 0)] < wanted)
            low = np.where(below, middle + 1, low)
            high = np.where(searching & ~below, middle, high)
        return low


def read_rows(x: Any, axis: SupportsIndex, name: str = "x") -> Rows:
    """Return the rows of a sparse array with two axes, or raise; duplicates are added up."""
    scipy_sparse: Any = sys.modules.get("scipy.sparse")
    kind = "a SciPy sparse array or matrix in CSR, CSC or COO format"
    if scipy_sparse is None or not scipy_sparse.issparse(x):
        raise TypeError(
            f"{name} must be {kind}, got {type(x).__name__}; functions of the same names in "
            "boltzmax itself take dense arrays, boltzmax.segment_softmax ragged ones"
        )
    if x.format not in FORMATS:
        raise TypeError(f"{name} must be {kind}, got format {x.format!r}: pass {name}.tocsr()")
    if x.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {x.shape}: pass it as one row")
    if x.dtype.kind in "fV" and x.dtype.itemsize < 4:
        raise TypeError(f"{name} must be of 32 or 64 bits, got dtype {x.dtype}: pass "
                        f"{name}.astype(numpy.float32)")  # fmt: skip
    along = class_axis(axis, 2)
    if x.format != "coo":
        _check_indices(x, name)
    wide = x.astype(np.float64) if x.dtype.kind in "iu" else x  # sums of integers may overflow
    packed = wide.tocsr() if along == 1 else wide.tocsc()
    if not packed.has_canonical_format:
        packed = packed.copy()
        packed.sum_duplicates()
    if packed.dtype == np.bool_:
        packed = packed.astype(np.float64)
    elif not packed.dtype.isnative:
        packed = packed.astype(packed.dtype.newbyteorder("="))
    return Rows(packed, x.format, along, read_indptr(packed.indptr, len(packed.data)))


def _check_indices(x: Any, name: str) -> None:
    """Raise for an index out of range: SciPy does not check, and would write out of bounds."""
    offsets, indices = x.indptr, x.indices
    size = x.shape[1] if x.format == "csr" else x.shape[0]
    if not 0 <= offsets[-1] <= min(len(indices), len(x.data)):
        raise ValueError(
            f"{name}.indptr must end with the number of entries, at most "
            f"{min(len(indices), len(x.data))}, got {offsets[-1]}"
        )
    read_indptr(offsets, int(offsets[-1]))
    used = indices[: offsets[-1]]
    if len(used) and not (used.min() >= 0 and used.max() < size):
        at = int(((used < 0) | (used >= size)).argmax())
        raise ValueError(
            f"{name}.indices must be from 0 to {size - 1}, got {used[at]} at position {at}"
        )

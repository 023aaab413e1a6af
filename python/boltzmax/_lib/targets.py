"""Reading targets: one class for each row."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import is_real
from boltzmax._lib.numbers import unmasked_ids

Array = NDArray[Any]

NO_CLASS = 2**64  # an ignore_index that no target can be: none is ignored


class Wanted(NamedTuple):
    """What targets are for: rows of `shape`, whose classes lie along `axis` of their scores."""

    shape: tuple[int, ...]
    n_classes: int
    axis: int = -1
    probabilities: bool = False  # whether they may be given in the place of classes

    def hint(self, target: Array) -> str:
        """Return what to do with targets that are one-hot, if these are."""
        along = self.axis % (len(self.shape) + 1)
        of_scores = (*self.shape[:along], self.n_classes, *self.shape[along:])
        if target.shape != of_scores or not is_real(target.dtype):
            return ""
        floats = " make them float for class probabilities, or" if self.probabilities else ""
        return f"; one-hot targets:{floats} take target.argmax(axis={self.axis})"


def checked_targets(
    target: ArrayLike, wanted: Wanted, ignore_index: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read one class for each row, whatever the integer dtype.

    Parameters
    ----------
    target : array_like of int
        The classes.
    wanted : Wanted
        The shape that `target` must have, and how many classes there are.
    ignore_index : int
        Rows of this class do not count; it may lie in or out of the range.

    Returns
    -------
    classes : ndarray of int64
        The class of every row in C order, 0 where it does not count; never a view of `target`.
    counted : ndarray of bool
        Which rows count.
    """
    array = _integers(target, wanted)
    if array.shape != wanted.shape:
        raise ValueError(
            f"target must have one class for each row, shape {wanted.shape}, "
            f"got shape {array.shape}{wanted.hint(array)}"
        )
    try:
        ignored = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}") from None
    flat = array.reshape(-1)
    counted = np.asarray(flat != ignored, np.bool_)
    bad = counted & ((flat < 0) | (flat >= wanted.n_classes))
    if bad.any():
        raise IndexError(_out_of_range(array, int(bad.argmax()), wanted.n_classes, ignored))
    return np.where(counted, flat, np.zeros((), array.dtype)).astype(np.int64), counted


def _integers(target: ArrayLike, wanted: Wanted) -> Array:
    """Return targets as an array of integers, of whatever shape."""
    if isinstance(target, np.ma.MaskedArray):
        raise TypeError("target is a masked array; pass its data, and ignore_index at the mask")
    array = unmasked_ids(target, "target")
    if array.dtype.kind not in "iu":
        raise TypeError(f"target must be integers, got dtype {array.dtype}{wanted.hint(array)}")
    return array


def _out_of_range(array: Array, first: int, n_classes: int, ignored: int) -> str:
    besides = f" (and not ignore_index, {ignored})" if ignored < NO_CLASS else ""
    index = tuple(int(i) for i in np.unravel_index(first, array.shape))
    place = f" at position {index[0] if array.ndim == 1 else index}" if index else ""
    return (
        f"target {array.reshape(-1)[first]}{place} is out of range for {n_classes} classes{besides}"
    )

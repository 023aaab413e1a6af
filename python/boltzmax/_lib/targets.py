"""Reading targets: a class for each row, or the probabilities of its classes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_integer, is_float, is_real
from boltzmax._lib.numbers import unmasked_ids

Array = NDArray[Any]
Counted = NDArray[np.bool_]

NO_CLASS: Any = object()  # what functions without an `ignore_index` have in its place


class Wanted(NamedTuple):
    """What targets are for: rows of `shape`, whose classes lie along `axis` of their scores."""

    shape: tuple[int, ...]
    n_classes: int
    axis: int = -1
    probabilities: bool = False  # whether they may be given in the place of classes

    @property
    def shape_of_scores(self) -> tuple[int, ...]:
        """That of the rows with the axis of the classes."""
        along = self.axis % (len(self.shape) + 1)
        return (*self.shape[:along], self.n_classes, *self.shape[along:])

    def hint(self, target: Array) -> str:
        """Return what to do with targets that are one-hot, if these are."""
        if target.shape != self.shape_of_scores or not is_real(target.dtype):
            return ""
        floats = " make them float for class probabilities, or" if self.probabilities else ""
        return f"; one-hot targets:{floats} take target.argmax(axis={self.axis})"


def read_targets(target: ArrayLike, wanted: Wanted, ignore_index: Any) -> tuple[Array, Counted]:
    """Read classes as `checked_targets` does (int64), or probabilities: floats, as they are."""
    array = _array(target, ignore_index)
    may_be_soft = wanted.probabilities and array.dtype.kind not in "iu"
    if may_be_soft and is_float(array.dtype) and array.shape == wanted.shape_of_scores:
        _read_ignored(ignore_index)
        return array, np.ones(math.prod(wanted.shape), np.bool_)
    return _read_classes(array, wanted, ignore_index)


def checked_targets(
    target: ArrayLike, wanted: Wanted, ignore_index: Any
) -> tuple[NDArray[np.int64], Counted]:
    """Read one class for each row, whatever the integer dtype.

    Parameters
    ----------
    target : array_like of int
        The classes.
    wanted : Wanted
        The shape that `target` must have, and how many classes there are.
    ignore_index : int or NO_CLASS
        Rows of this class do not count; it may lie in or out of the range.

    Returns
    -------
    classes : ndarray of int64
        The class of every row in C order, 0 where it does not count; never a view of `target`.
    counted : ndarray of bool
        Which rows count.
    """
    return _read_classes(_array(target, ignore_index), wanted, ignore_index)


def _read_classes(
    array: Array, wanted: Wanted, ignore_index: Any
) -> tuple[NDArray[np.int64], Counted]:
    if array.dtype.kind not in "iu":
        also = f" or probabilities of shape {wanted.shape_of_scores}" * wanted.probabilities
        raise TypeError(
            f"target must be integers of shape {wanted.shape}{also}, got {array.dtype} of shape "
            f"{array.shape}{wanted.hint(array)}"
        )
    check_shape_of_targets(array.shape, wanted.shape, wanted.hint(array))
    ignored = _read_ignored(ignore_index)
    flat = array.reshape(-1)
    counted = np.ones(flat.shape, np.bool_)
    if ignored is not None:
        counted = np.asarray(flat != ignored, np.bool_)
    bad = counted & ((flat < 0) | (flat >= wanted.n_classes))
    if bad.any():
        raise IndexError(_out_of_range(array, int(bad.argmax()), wanted.n_classes, ignored))
    return np.where(counted, flat, np.zeros((), array.dtype)).astype(np.int64), counted


def check_shape_of_targets(shape: tuple[int, ...], wanted: tuple[int, ...], hint: str = "") -> None:
    """Refuse classes that are not one for each row."""
    if shape != wanted:
        raise ValueError(
            f"target must have one class for each row, shape {wanted}, got shape {shape}{hint}"
        )


def _array(target: ArrayLike, ignore_index: Any) -> Array:
    if isinstance(target, np.ma.MaskedArray):
        also = "" if ignore_index is NO_CLASS else ", and ignore_index at the mask"
        raise TypeError(f"target is a masked array; pass its data{also}")
    return unmasked_ids(target, "target")


def _read_ignored(ignore_index: Any) -> int | None:
    return None if ignore_index is NO_CLASS else as_integer(ignore_index, "ignore_index")


def _out_of_range(array: Array, first: int, n_classes: int, ignored: int | None) -> str:
    besides = "" if ignored is None else f" (and not ignore_index, {ignored})"
    index = tuple(int(i) for i in np.unravel_index(first, array.shape))
    place = f" at position {index[0] if array.ndim == 1 else index}" if index else ""
    return (
        f"target {array.reshape(-1)[first]}{place} is out of range for {n_classes} classes{besides}"
    )

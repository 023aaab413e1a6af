"""Read targets: one class per row, or class probabilities for each row."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_integer, is_float, is_real
from boltzmax._lib.numbers import unmasked_ids

Array = NDArray[Any]
Counted = NDArray[np.bool_]

NO_CLASS: Any = object()  # the `ignore_index` of functions without one


class Wanted(NamedTuple):
    """The rows that targets belong to: their shape, and the class axis of their scores."""

    shape: tuple[int, ...]
    n_classes: int
    axis: int = -1
    probabilities: bool = False  # whether class probabilities are allowed
    name: str = "target"  # the argument, for messages

    @property
    def shape_of_scores(self) -> tuple[int, ...]:
        """The shape of the rows with the class axis inserted."""
        along = self.axis % (len(self.shape) + 1)
        return (*self.shape[:along], self.n_classes, *self.shape[along:])

    def hint(self, target: Array) -> str:
        """Return advice for one-hot targets, if these are."""
        if target.shape != self.shape_of_scores or not is_real(target.dtype):
            return ""
        floats = " make them float for class probabilities, or" if self.probabilities else ""
        return f"; one-hot targets:{floats} take target.argmax(axis={self.axis})"


def read_targets(target: ArrayLike, wanted: Wanted, ignore_index: Any) -> tuple[Array, Counted]:
    """Read classes as `checked_targets` does (int64), or probabilities: floats, unchanged."""
    array = _array(target, ignore_index, wanted.name)
    may_be_soft = wanted.probabilities and array.dtype.kind not in "iu"
    if may_be_soft and is_float(array.dtype) and array.shape == wanted.shape_of_scores:
        _read_ignored(ignore_index)
        return array, np.ones(math.prod(wanted.shape), np.bool_)
    return _read_classes(array, wanted, ignore_index)


def checked_targets(
    target: ArrayLike, wanted: Wanted, ignore_index: Any
) -> tuple[NDArray[np.int64], Counted]:
    """Read one class per row, of any integer dtype.

    Parameters
    ----------
    target : array_like of int
        The classes.
    wanted : Wanted
        The shape that `target` must have, and how many classes there are.
    ignore_index : int or NO_CLASS
        Rows of this class do not count; it may be in or out of range.

    Returns
    -------
    classes : ndarray of int64
        The class of every row in C order, 0 if the row does not count; never a view of `target`.
    counted : ndarray of bool
        Which rows count.
    """
    return _read_classes(_array(target, ignore_index, wanted.name), wanted, ignore_index)


def _read_classes(
    array: Array, wanted: Wanted, ignore_index: Any
) -> tuple[NDArray[np.int64], Counted]:
    if array.dtype.kind not in "iu":
        also = f" or probabilities of shape {wanted.shape_of_scores}" * wanted.probabilities
        raise TypeError(
            f"{wanted.name} must be integers of shape {wanted.shape}{also}, got {array.dtype} of "
            f"shape {array.shape}{wanted.hint(array)}"
        )
    check_shape_of_targets(array.shape, wanted.shape, wanted.hint(array), wanted.name)
    ignored = _read_ignored(ignore_index)
    flat = array.reshape(-1)
    counted = np.ones(flat.shape, np.bool_)
    if ignored is not None:
        counted = np.asarray(flat != ignored, np.bool_)
    bad = counted & ((flat < 0) | (flat >= wanted.n_classes))
    if bad.any():
        raise IndexError(_out_of_range(array, int(bad.argmax()), wanted, ignored))
    return np.where(counted, flat, np.zeros((), array.dtype)).astype(np.int64), counted


def check_shape_of_targets(
    shape: tuple[int, ...], wanted: tuple[int, ...], hint: str = "", name: str = "target"
) -> None:
    """Raise unless there is one class for each row."""
    if shape != wanted:
        raise ValueError(
            f"{name} must have one class for each row, shape {wanted}, got shape {shape}{hint}"
        )


def _array(target: ArrayLike, ignore_index: Any, name: str) -> Array:
    if isinstance(target, np.ma.MaskedArray):
        also = "" if ignore_index is NO_CLASS else ", and ignore_index at the mask"
        raise TypeError(f"{name} is a masked array; pass its data{also}")
    return unmasked_ids(target, name)


def _read_ignored(ignore_index: Any) -> int | None:
    return None if ignore_index is NO_CLASS else as_integer(ignore_index, "ignore_index")


def _out_of_range(array: Array, first: int, wanted: Wanted, ignored: int | None) -> str:
    besides = "" if ignored is None else f" (and not ignore_index, {ignored})"
    index = tuple(int(i) for i in np.unravel_index(first, array.shape))
    place = f" at position {index[0] if array.ndim == 1 else index}" if index else ""
    return (
        f"{wanted.name} {array.reshape(-1)[first]}{place} is out of range for "
        f"{wanted.n_classes} classes{besides}"
    )

"""What the losses share: reading targets and weights, reducing losses, writing gradients."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._arguments import (
    as_input,
    checked_out,
    is_float,
    is_native_float,
    is_real,
    quietly,
)

Array = NDArray[Any]
Floats = NDArray[np.float64]

NO_CLASS = 2**64  # an ignore_index that no target can be: none is ignored
REDUCTIONS = ("mean", "sum", "none")


def unmasked(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray in native byte order, if that tells all there is to it."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; pass its data, and a weight of 0 at the mask")
    return as_input(x, name)


def unmasked_ids(x: ArrayLike, name: str) -> Array:
    """Return `x` as `unmasked` does, but a list without numbers as integers, not as floats."""
    array = unmasked(x, name)
    return array if array.size or hasattr(x, "dtype") else array.astype(np.int64)


def real_array(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray of real numbers, of a dtype that compiled code reads."""
    array = unmasked(x, name)
    if array.dtype.kind not in "biu" and not is_float(array.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return as_float64(array) if array.dtype.char == "g" else array


def real_numbers(x: ArrayLike, name: str) -> Floats:
    """Return `x` in float64."""
    return as_float64(real_array(x, name))


@quietly
def as_float64(array: Array) -> Floats:
    """Return `array` in float64; what is beyond it is infinite."""
    return array.astype(np.float64, copy=False)


def array_of_shape(x: ArrayLike, shape: tuple[int, ...], name: str, what: str) -> Array:
    """Return `x` as real numbers if its shape is the one that `what` describes."""
    array = real_array(x, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have {what}, {shape}, got shape {array.shape}")
    return array


def numbers_of_shape(x: ArrayLike, shape: tuple[int, ...], name: str, what: str) -> Floats:
    """Return `x` in float64 if its shape is the one that `what` describes."""
    return as_float64(array_of_shape(x, shape, name, what))


def checked_reduction(reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> str:
    """Return `reduction` if it is one of `allowed`."""
    if reduction not in allowed:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"reduction must be one of {names}, got {reduction!r}")
    return reduction


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


def loss_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a loss for input of `dtype`: float32 at least."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def product(weights: Floats, losses: Floats) -> Floats:
    """Multiply so that an infinite loss of weight 0 is no loss; NaN stays NaN."""
    return np.where((weights == 0.0) & np.isinf(losses), 0.0, weights * losses)


def check_reduction(reduction: str, allowed: tuple[str, ...], with_grad: bool) -> None:
    """Check the `reduction` of a function that may return a gradient."""
    (check_scalar if with_grad else checked_reduction)(reduction, allowed)


def check_scalar(reduction: str, allowed: tuple[str, ...]) -> None:
    """Check the `reduction` of a function that returns a gradient."""
    if checked_reduction(reduction, allowed) == "none":
        raise ValueError("a gradient needs a scalar: reduction must not be 'none'")


def scores(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray of a dtype that losses are computed for; integers as float64."""
    array = unmasked(x, name)
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    if not is_native_float(array.dtype):
        raise TypeError(
            f"{name} must be float16, float32, float64, bfloat16 or integers, "
            f"got dtype {array.dtype}"
        )
    return array


def broadcast_array(x: ArrayLike, shape: tuple[int, ...], name: str, other: str) -> Array:
    """Return `x` as real numbers in `shape`, which is that of `other`."""
    array = real_array(x, name)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name} of shape {array.shape} does not broadcast to {other} of shape {shape}"
        ) from None


def broadcast(x: ArrayLike, shape: tuple[int, ...], name: str, other: str) -> Floats:
    """Return `x` in float64 and in `shape`, which is that of `other`."""
    return broadcast_array(real_numbers(x, name), shape, name, other)


def gradient_like(x: Array, out: Array | None) -> Array:
    """Return where the gradient by `x` goes: to `out` if there is one, and it fits."""
    return _core.empty_like(x, x.dtype) if out is None else checked_out(out, x.shape, x.dtype)

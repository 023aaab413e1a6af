"""Arrays and numbers as arguments: of which kind, of which shape, in which range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    as_input,
    as_number,
    checked_out,
    is_float,
    is_native_float,
    quietly,
)

Array = NDArray[Any]
Floats = NDArray[np.float64]

_BLOCK = 1 << 16  # elements that a temporary may have


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


def loss_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a loss for input of `dtype`: float32 at least."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def row_blocks(rows: int, n: int) -> Iterator[slice]:
    """Yield slices of rows, so many that a temporary of them stays in cache."""
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def per_class(weight: ArrayLike | None, classes: int, name: str = "weight") -> Floats | None:
    """Return one weight for each class."""
    if weight is None:
        return None
    array = real_numbers(weight, name)
    if array.shape != (classes,):
        raise ValueError(f"{name} must have one number per class, {(classes,)}; got {array.shape}")
    return np.ascontiguousarray(array)


def per_row(weight: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    """Return one weight for each row."""
    if weight is None:
        return np.ones(int(np.prod(shape)))
    array = real_numbers(weight, "sample_weight")
    try:
        return np.broadcast_to(array, shape).flatten()  # a copy: out may be where it came from
    except ValueError:
        raise ValueError(
            f"sample_weight of shape {array.shape} does not broadcast to one per row, {shape}"
        ) from None


def check_number(name: str, value: float, low: float, high: float) -> float:
    """Return `value` if it lies in [low, high]."""
    number = as_number(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
    return number


def checked_z_loss(value: float) -> float:
    """Return `value` if it can weigh the z-loss."""
    number = as_number("z_loss", value)
    if not 0.0 <= number < np.inf:
        raise ValueError(f"z_loss must be finite and not negative, got {value!r}")
    return number

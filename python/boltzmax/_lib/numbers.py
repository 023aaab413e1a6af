"""Check the kind, shape and range of arrays and numbers that are passed as arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    SUPPORTED,
    as_input,
    as_number,
    checked_out,
    is_float,
    is_native_float,
    is_real,
    quietly,
)

Array = NDArray[Any]
Floats = NDArray[np.float64]

_BLOCK = 1 << 16  # most elements of a temporary


def unmasked(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray in native byte order; a masked array is an error."""
    return as_input(x, name, "pass its data, and a weight of 0 at the mask")


def unmasked_ids(x: ArrayLike, name: str) -> Array:
    """Return `x` as `unmasked` does, but an empty list as integers, not as floats."""
    array = unmasked(x, name)
    return array if array.size or hasattr(x, "dtype") else array.astype(np.int64)


def real_array(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray of real numbers in a dtype that compiled code reads."""
    array = unmasked(x, name)
    if array.dtype.kind not in "biu" and not is_float(array.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return as_float64(array) if array.dtype.char == "g" else array


def real_numbers(x: ArrayLike, name: str) -> Floats:
    """Return `x` in float64."""
    return as_float64(real_array(x, name))


@quietly
def as_float64(array: Array) -> Floats:
    """Return `array` in float64; values out of its range become infinite."""
    return array.astype(np.float64, copy=False)


def array_of_shape(x: ArrayLike, shape: tuple[int, ...], name: str, what: str) -> Array:
    """Return `x` as real numbers if it has this shape, which `what` describes in messages."""
    array = real_array(x, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have {what}, {shape}, got shape {array.shape}")
    return array


def numbers_of_shape(x: ArrayLike, shape: tuple[int, ...], name: str, what: str) -> Floats:
    """Return `x` in float64 if it has this shape, which `what` describes in messages."""
    return as_float64(array_of_shape(x, shape, name, what))


def scores(x: ArrayLike, name: str) -> Array:
    """Return `x` as an ndarray of a dtype that losses support; integers become float64."""
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
    """Return `x` as real numbers, broadcast to `shape`, the shape of `other`."""
    array = real_array(x, name)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name} of shape {array.shape} does not broadcast to {other} of shape {shape}"
        ) from None


def gradient_like(x: Array, out: Array | None) -> Array:
    """Return the destination of the gradient with respect to `x`: `out` if given and valid."""
    return _core.empty_like(x, x.dtype) if out is None else checked_out(out, x.shape, x.dtype)


def loss_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a loss for input of `dtype`: at least float32."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def row_blocks(rows: int, n: int) -> Iterator[slice]:
    """Yield slices of rows, small enough that a temporary of them stays in the cache."""
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def per_class(numbers: ArrayLike, classes: int, name: str) -> Floats:
    """Return one number per class, contiguous."""
    what = "one number per class"
    return np.ascontiguousarray(numbers_of_shape(numbers, (classes,), name, what))


def row_weights(weight: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return one weight per row, as a broadcast view."""
    array = real_array(weight, "sample_weight")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"sample_weight of shape {array.shape} does not broadcast to one per row, {shape}"
        ) from None


def per_row(weight: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    """Return one weight per row in float64, copied, since `out` may overlap the argument."""
    if weight is None:
        return np.ones(int(np.prod(shape)))
    return as_float64(row_weights(weight, shape).flatten())


def check_number(value: Any, name: str, low: float, high: float) -> float:
    """Return `value` if it is in [low, high]."""
    number = as_number(value, name)
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
    return number


def check_label_smoothing(value: Any) -> float:
    """Return `value` if it is a valid label smoothing: from 0 to 1."""
    return check_number(value, "label_smoothing", 0, 1)


def check_z_loss(value: Any) -> float:
    """Return `value` if it is a valid weight of the z-loss."""
    number = as_number(value, "z_loss")
    if not 0.0 <= number < np.inf:
        raise ValueError(f"z_loss must be finite and not negative, got {value!r}")
    return number


def common_dtype(user: str, a: Array, b: Array, name_a: str, name_b: str) -> np.dtype[Any]:
    """Return the dtype that NumPy promotes both arrays to; `user` is who needs it."""
    try:
        return a.dtype if a.dtype == b.dtype else np.result_type(a.dtype, b.dtype)
    except TypeError:
        raise TypeError(
            f"{user} finds no common dtype for {name_a} of {a.dtype} and {name_b} of {b.dtype}; "
            "convert one of them"
        ) from None


def gradient_dtype(function: str, dy: Array, other: Array, name: str = "y") -> np.dtype[Any]:
    """Return the common dtype of a gradient's inputs; integers count as float64."""
    for label, array in (("dy", dy), (name, other)):
        if not is_real(array.dtype):
            raise TypeError(
                f"{function} does not support {label} of dtype {array.dtype}; it takes {SUPPORTED}"
            )
    common = common_dtype(function, dy, other, "dy", name)
    return np.dtype(np.float64) if common.kind in "biu" else common


def read_gradient_inputs(
    function: str, dy: ArrayLike, other: ArrayLike, name: str = "y"
) -> tuple[Array, Array, np.dtype[Any]]:
    """Return both inputs of a gradient, which have one shape, and their common dtype."""
    gradient, second = as_input(dy, "dy", "pass its data"), as_input(other, name, "pass its data")
    dtype = gradient_dtype(function, gradient, second, name)
    if gradient.shape != second.shape:
        raise ValueError(f"dy has shape {gradient.shape}, but {name} has shape {second.shape}")
    return gradient, second, dtype

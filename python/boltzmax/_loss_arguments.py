"""What all losses are called with, and how their losses of rows become one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._arguments import (
    as_input,
    as_number,
    axis_with_classes,
    checked_out,
    clashes,
    classes_last,
    is_native_float,
    repeats_elements,
    working_dtype,
)
from boltzmax._targets import product, real_numbers

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_BLOCK = 1 << 16  # elements that a temporary may have


def row_blocks(rows: int, n: int) -> Iterator[slice]:
    """Yield slices of rows, so many that a temporary of them stays in cache."""
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


# ---- reducing ----


@dataclass(frozen=True)
class Reduction:
    """How the losses of the rows become one."""

    name: str
    shape: tuple[int, ...]  # of the rows
    dtype: np.dtype[Any]
    counted: NDArray[np.bool_]
    sample: Doubles  # sample weights
    used: Doubles  # what the mean divides by: the weights of the rows that count
    empty: float  # the mean over nothing: NaN or 0

    @property
    def divisor(self) -> np.float64:
        """What the sum is divided by."""
        return np.float64(self.used.sum() if self.name == "mean" else 1.0)

    @property
    def is_zero(self) -> bool:
        """Whether this is the mean over nothing and has to be 0, as its gradient."""
        return bool(self.empty == 0.0 and self.divisor == 0.0)

    def scale(self) -> Doubles:
        """Return the derivative of the reduced loss by that of every row."""
        return np.where(self.counted, self.sample / self.divisor, 0.0)

    def __call__(self, losses: Doubles) -> Any:
        """Return the mean over the weights used, the sum, or every loss."""
        if self.is_zero:
            return self.dtype.type(0.0)
        losses = np.where(self.counted, product(self.sample, losses), 0.0)
        if self.name == "none":
            return self.shaped(losses.astype(self.dtype))
        return self.dtype.type(losses.sum() / self.divisor)

    def shaped(self, loss: Any) -> Any:
        """Return losses of rows in their shape; anything else as it is."""
        return loss.reshape(self.shape)[()] if isinstance(loss, np.ndarray) else loss


# ---- logits and their gradients ----


@dataclass(frozen=True)
class Logits:
    """Scores in a dtype with kernels, and the axis along which their classes lie."""

    array: Array
    axis: int

    @property
    def classes(self) -> int:
        return int(self.array.shape[self.axis])

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the rows."""
        return self.array.shape[: self.axis] + self.array.shape[self.axis + 1 :]

    def rows(self) -> Array:
        """Return a matrix whose rows are contiguous and aligned: a view if there is one."""
        return self.rows_of(np.require(self.classes_last(self.array), requirements=("C", "A")))

    def classes_last(self, array: Array) -> Array:
        """Return a view of an array of the logits' shape, with the classes on the last axis."""
        return classes_last(array, self.axis)

    def rows_of(self, array: Array) -> Array:
        """Return an array whose classes are on the last axis as a matrix."""
        return array.reshape(-1, self.classes)


def read_logits(function: str, logits: ArrayLike, axis: SupportsIndex = -1) -> Logits:
    """Return the logits as an array with kernels, or say why not."""
    array = as_input(logits, "logits")
    dtype = working_dtype(array, None, function)
    if not is_native_float(dtype):
        raise TypeError(f"{function} takes float16, float32, float64 and bfloat16, got {dtype}")
    along = axis_with_classes(array.shape, axis, "logits")
    return Logits(array.astype(dtype, copy=False), along)


@dataclass(frozen=True)
class Gradient:
    """Where a gradient goes: an array of the logits' shape, and a matrix to write its rows into."""

    array: Array
    rows: Array
    logits: Logits
    is_direct: bool  # whether the matrix is a view of the array

    def deliver(self) -> Array:
        """Return the array, after the matrix is written."""
        if not self.is_direct:
            last = self.logits.classes_last(self.array)
            last[...] = self.rows.reshape(last.shape)
        return self.array


def gradient_of(logits: Logits, read: Array, out: Any) -> Gradient:
    """Return where the gradient goes: to `out` if there is one; `read` are the logits' rows."""
    array = logits.array
    if out is None:
        out = _core.empty_like(array, array.dtype)
    else:
        checked_out(out, array.shape, array.dtype)
    last = logits.classes_last(out)
    if last.flags.c_contiguous and last.flags.aligned and not repeats_elements(out):
        rows = logits.rows_of(last)
        if not clashes(rows, read, elementwise=True):
            return Gradient(out, rows, logits, is_direct=True)
    return Gradient(out, np.empty(read.shape, read.dtype), logits, is_direct=False)


# ---- weights and numbers ----


def per_class(weight: ArrayLike | None, classes: int, name: str = "weight") -> Doubles | None:
    """Return one weight for each class."""
    if weight is None:
        return None
    array = real_numbers(weight, name)
    if array.shape != (classes,):
        raise ValueError(f"{name} must have one number per class, {(classes,)}; got {array.shape}")
    return np.ascontiguousarray(array)


def per_row(weight: ArrayLike | None, shape: tuple[int, ...]) -> Doubles:
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

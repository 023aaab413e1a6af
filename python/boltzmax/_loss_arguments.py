"""What all losses are called with, and how their losses of rows become one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._arguments import (
    as_input,
    checked_out,
    clashes,
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

    def scale(self) -> Doubles:
        """Return the derivative of the reduced loss by that of every row."""
        total = self.used.sum() if self.name == "mean" else 1.0
        with np.errstate(all="ignore"):
            return np.where(self.counted, self.sample / total, 0.0)

    def __call__(self, losses: Doubles) -> Any:
        """Return the mean over the weights used, the sum, or every loss."""
        losses = np.where(self.counted, product(self.sample, losses), 0.0)
        with np.errstate(all="ignore"):
            if self.name == "none":
                return losses.reshape(self.shape).astype(self.dtype)[()]
            total = losses.sum() / (self.used.sum() if self.name == "mean" else 1.0)
            return self.dtype.type(total)


# ---- reading the arguments ----


def read_logits(function: str, logits: ArrayLike) -> Array:
    """Return the logits as an array with kernels, or say why not."""
    array = as_input(logits, "logits")
    dtype = working_dtype(array, None, function)
    if not is_native_float(dtype):
        raise TypeError(f"{function} takes float16, float32, float64 and bfloat16, got {dtype}")
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"logits must have classes on the last axis, got shape {array.shape}")
    return array.astype(dtype, copy=False)


def as_rows(array: Array) -> Array:
    """Return a matrix whose rows are contiguous and aligned: a view if there is one."""
    return np.require(array, requirements=("C", "A")).reshape(-1, array.shape[-1])


def per_class(weight: ArrayLike | None, classes: int, name: str = "weight") -> Doubles | None:
    """Return one weight for each class."""
    if weight is None:
        return None
    array = real_numbers(weight, name)
    if array.shape != (classes,):
        raise ValueError(f"{name} must have one number per class, {(classes,)}; got {array.shape}")
    return array


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


def check_number(name: str, value: float, low: float, high: float = np.inf) -> float:
    """Return `value` if it lies in [low, high]."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
    return float(value)


def result_array(out: Any, logits: Array) -> tuple[Array, Array]:
    """Return the gradient and a matrix of its rows to write into."""
    if out is None:
        out = _core.empty_like(logits, logits.dtype)
    else:
        checked_out(out, logits.shape, logits.dtype)
    fits = out.flags.c_contiguous and out.flags.aligned and not repeats_elements(out)
    direct = fits and not clashes(out, logits, elementwise=True)
    return out, out.reshape(-1, out.shape[-1]) if direct else np.empty_like(as_rows(logits))


def deliver(inside: Array, gradient: Array) -> None:
    """Copy the matrix of `result_array` into the gradient, if that is not where it lies."""
    if not np.may_share_memory(gradient, inside):
        gradient[...] = inside.reshape(gradient.shape)

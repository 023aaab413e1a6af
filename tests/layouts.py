"""Memory layouts of arrays, and the rows that an operation reads in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Axis = int | tuple[int, ...] | None


def rows_of(x: Array, axis: Axis) -> tuple[Array, tuple[int, ...]]:
    """The elements reduced together as rows of a contiguous matrix, and the other axes' shape."""
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    reduced = sorted(a % x.ndim for a in axes) if x.ndim else []
    moved = np.moveaxis(x, reduced, range(x.ndim - len(reduced), x.ndim))
    others = moved.shape[: x.ndim - len(reduced)]
    matrix = (math.prod(others), math.prod(moved.shape[len(others) :]))
    return np.ascontiguousarray(moved).reshape(matrix), others


def as_rows(op: str, got: Any, axis: Axis) -> Array:
    """The result of `op` over `axis`, in the order of `rows_of`."""
    return np.asarray(got).reshape(-1) if op == "logsumexp" else rows_of(got, axis)[0]


# The same array of numbers in different memory layouts.
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda x: x,
    "Fortran": np.asfortranarray,
    "all axes reversed": lambda x: flipped(x, range(x.ndim)),
    "last axis reversed": lambda x: flipped(x, [x.ndim - 1]),
    "first axis reversed": lambda x: flipped(x, [0]),
    "every second": lambda x: spread(x, 2),
    "every third": lambda x: spread(x, 3),
    "axes rotated": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0),
    "middle of a larger array": lambda x: inside(x),
    "odd addresses": lambda x: unaligned(x, 1),
    "one element off": lambda x: unaligned(x, x.itemsize),
    "odd strides": lambda x: odd_strides(x),
}


def flipped(x: Array, axes: Any) -> Array:
    axes = list(axes)
    return np.flip(np.ascontiguousarray(np.flip(x, axes)), axes)


def poison(shape: Any, dtype: np.dtype[Any]) -> Array:
    """Values that must not be read: NaN, or -1."""
    return np.full(shape, -1 if dtype.kind in "biu" else np.nan).astype(dtype)


def spread(x: Array, step: int) -> Array:
    large = poison([step * n for n in x.shape], x.dtype)
    view: Array = large[tuple([slice(None, None, step)] * x.ndim)]
    view[...] = x
    return view


def inside(x: Array) -> Array:
    large = poison([n + 5 for n in x.shape], x.dtype)
    view: Array = large[tuple([slice(2, -3)] * x.ndim)]
    view[...] = x
    return view


def unaligned(x: Array, offset: int) -> Array:
    raw = np.zeros(x.nbytes + 64, np.uint8)
    view: Array = raw[offset : offset + x.nbytes].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def odd_strides(x: Array) -> Array:
    """A field of a packed structured array: strides that are not multiples of the item size."""
    packed = np.zeros(x.shape, np.dtype([("pad", "u1"), ("x", x.dtype)]))
    packed["x"] = x
    view: Array = packed["x"]
    return view

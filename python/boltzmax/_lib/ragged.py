"""Rows of different lengths: values one after the other, and offsets as in CSR."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_array, refuse_masked

Array = NDArray[Any]
Ints = NDArray[np.int64]


def one_axis(x: Array, name: str) -> Array:
    """Return `x` if it has one axis."""
    if x.ndim != 1:
        raise ValueError(f"{name} must have one axis, got shape {x.shape}")
    return x


def read_indptr(indptr: ArrayLike, size: int) -> Ints:
    """Return offsets of rows that have `size` elements together."""
    offsets = read_ends(indptr, size)
    _core.require_ascending(offsets)
    return offsets


def read_ends(indptr: ArrayLike, size: int) -> Ints:
    """Return such offsets, which may decrease between the ends."""
    offsets = integers(indptr, "indptr")
    if len(offsets) == 0:
        raise ValueError("indptr must have at least one number, got none")
    if offsets[0] != 0:
        raise ValueError(f"indptr must begin with 0, got indptr[0] = {offsets[0]}")
    if offsets[-1] != size:
        _core.require_ascending(offsets)
        beyond = offsets > size
        s = int(beyond.argmax()) if beyond.any() else len(offsets) - 1
        raise ValueError(
            f"indptr must end with the number of elements, {size}, got indptr[{s}] = {offsets[s]}"
        )
    return offsets


def integers(values: Any, name: str) -> Ints:
    """Return an array of int64 with one axis, contiguous."""
    refuse_masked(values, name)
    array = as_array(values, name)
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an array of integers, got dtype {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be below 2**63, got {array.max()}")
    return np.require(one_axis(array, name), np.int64, ["C", "A"])

"""Gradients of sums of exponentials over parts of a row: running ones, and those of windows.

``cpp/core/variants/scan_gradients.cpp`` has the formulas and their error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import broadcast_mask, checked_out, normalized_axes
from boltzmax._lib.numbers import read_gradient_inputs

Array = NDArray[Any]


def gradient_of_scan(
    scan: str,
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any,
    where: ArrayLike | None,
    out: Array | None,
    *,
    half: int = 0,
    reverse: bool = False,
) -> Any:
    """Return the gradient of the function `scan` by its scores; `reverse` runs from the end."""
    gradient, scores, dtype = read_gradient_inputs(f"{scan}_backward", dy, x, "x")
    mask = broadcast_mask(where, scores)
    if out is not None:
        checked_out(out, scores.shape, dtype)
    axes = normalized_axes(axis, scores.ndim)
    order = (*(d for d in range(scores.ndim) if d not in axes), *axes)
    inner = tuple(range(scores.ndim - len(axes), scores.ndim)) if reverse else ()
    shape = tuple(scores.shape[d] for d in order)
    n = math.prod(scores.shape[d] for d in axes)

    def as_rows(array: Array) -> Array:
        rows = np.flip(array.transpose(order), inner)
        return np.require(rows, np.float64, ["C", "A"]).reshape(array.size // max(n, 1), n)

    counted = scores if mask is None else np.where(mask, scores.astype(np.float64), -np.inf)
    rows = as_rows(counted)
    dx = np.empty_like(rows)
    _core.run_scan_gradient(scan, as_rows(gradient), rows, dx, half)
    result = np.flip(dx.reshape(shape), inner).transpose(np.argsort(order)).astype(dtype)
    if out is None:
        return result[()] if result.ndim == 0 else result
    out[...] = result
    return out

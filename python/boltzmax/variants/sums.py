"""Gradients of logarithms of sums over parts of a row, by way of such sums.

Where y_i is the logarithm of the sum of exp(x_j) over a set of elements that contains j if and only
if the transposed set of j contains i,

    dx_j = sum_i dy_i exp(x_j - y_i) = exp(x_j + log sum_i exp(log dy_i - y_i))

with the sum over the transposed set, once for the positive and once for the negative dy. Scores are
measured from the maximum of their row, so that only those far below it lose digits: the error is
eps times that distance, relative to the sum of the absolute values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import (
    broadcast_mask,
    checked_out,
    normalized_axes,
)
from boltzmax._lib.numbers import read_gradient_inputs

Array = NDArray[Any]


class GradientCall(NamedTuple):
    """The checked arguments of a gradient, with its inputs in double."""

    dy: NDArray[np.float64]
    x: NDArray[np.float64]
    mask: NDArray[np.bool_] | None
    dtype: np.dtype[Any]
    out: Array | None

    def deliver(self, dx: Array) -> Any:
        """Return the gradient in its dtype, 0 for elements that do not count."""
        counts = self.x != -np.inf
        if self.mask is not None:
            counts &= self.mask
        result = np.where(counts, dx, 0.0).astype(self.dtype)
        if self.out is None:
            return result[()] if result.ndim == 0 else result
        self.out[...] = result
        return self.out


def read_gradient(
    function: str,
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any,
    where: ArrayLike | None,
    out: Array | None,
) -> GradientCall:
    """Check the arguments of a gradient, or raise."""
    gradient, scores, dtype = read_gradient_inputs(function, dy, x, "x")
    mask = broadcast_mask(where, scores)
    if out is not None:
        checked_out(out, scores.shape, dtype)
    wide = _from_maximum(scores.astype(np.float64), mask, normalized_axes(axis, scores.ndim))
    return GradientCall(gradient.astype(np.float64), wide, mask, dtype, out)


def _from_maximum(x: Array, mask: NDArray[np.bool_] | None, axes: tuple[int, ...]) -> Any:
    """Return x less the maximum of its row, on which gradients do not depend."""
    counted = x if mask is None else np.where(mask, x, -np.inf)
    maximum = counted.max(axis=axes, keepdims=True, initial=-np.inf)
    return x - np.where(np.isfinite(maximum), maximum, 0.0)


def gradient_of_logsumexp(
    call: GradientCall,
    lse: Callable[[Array, NDArray[np.bool_] | None], Any],
    transposed_lse: Callable[[Array], Any],
) -> Any:
    """Return dx of a checked call, from the function of (x, mask) and its transpose."""
    return call.deliver(sum_of_shares(call.dy, call.x, lse(call.x, call.mask), transposed_lse))


def sum_of_shares(dy: Array, x: Array, y: Array, transposed_lse: Callable[[Array], Any]) -> Array:
    """Return sum_i dy_i exp(x_j - y_i), where sums over nothing (y of -inf) count for nothing."""

    def part(weights: Array) -> Any:
        logs = np.where((weights > 0) & (y != -np.inf), np.log(weights) - y, -np.inf)
        return np.exp(x + transposed_lse(np.where(np.isnan(weights + y), np.nan, logs)))

    dx: Array = part(dy) - part(-dy)
    return dx

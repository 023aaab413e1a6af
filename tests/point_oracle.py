"""The elementwise losses by their definition, in long double, and comparisons with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import ulp

Array = npt.NDArray[Any]


def wide(x: npt.ArrayLike) -> Array:
    """Return `x` in long double, whatever its dtype."""
    array = np.asarray(x)
    return (array if array.dtype.kind in "biuf" else array.astype(np.float64)).astype(np.longdouble)


@np.errstate(all="ignore")
def binary_terms(
    logits: Array, target: npt.ArrayLike, weight: npt.ArrayLike, pos_weight: npt.ArrayLike
) -> tuple[Array, Array, Array]:
    """Return the logits, and the factors of the logarithms of both probabilities."""
    x, z, w, v = map(wide, (logits, target, weight, pos_weight))
    return x, np.asarray(z * v * w), np.asarray((1 - z) * w)


@np.errstate(all="ignore")
def binary_losses(
    logits: Array, target: npt.ArrayLike, weight: npt.ArrayLike = 1, pos_weight: npt.ArrayLike = 1
) -> Array:
    x, a, b = binary_terms(logits, target, weight, pos_weight)
    tail = np.log1p(np.exp(-np.abs(x)))
    return _share(a, np.maximum(-x, 0) + tail) + _share(b, np.maximum(x, 0) + tail)


@np.errstate(all="ignore")
def binary_slopes(
    logits: Array, target: npt.ArrayLike, weight: npt.ArrayLike = 1, pos_weight: npt.ArrayLike = 1
) -> Array:
    """Return the derivatives of the sum of the losses."""
    x, a, b = binary_terms(logits, target, weight, pos_weight)
    return np.asarray(b / (1 + np.exp(-x)) - a / (1 + np.exp(x)))


@np.errstate(all="ignore")
def divergences(log_q: Array, p: Array, log_target: bool) -> Array:
    x, truth = wide(log_q), wide(p)
    share, log_p = (np.exp(truth), truth) if log_target else (truth, np.log(truth))
    return np.where((share == 0) & ~np.isnan(x), 0, share * (log_p - x))


def _share(weight: Array, loss: Array) -> Array:
    return np.where((weight == 0) & np.isinf(loss), 0, weight * loss)


def loss_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.itemsize >= 4 else np.dtype(np.float32)


def ulps(got: Array, exact: Array, dtype: np.dtype[Any]) -> float:
    """The largest error, in ULP of the exact numbers in `dtype`."""
    with np.errstate(all="ignore"):
        return float((np.abs(wide(got) - exact) / ulp.ulp(exact, dtype)).max())


def close_sum(got: Any, exact: Array, divisor: float = 1.0) -> None:
    """Check that the sum of positive numbers, divided, is right to two ULP of its dtype."""
    assert isinstance(got, np.generic)
    expected = exact.sum() / divisor
    assert abs(wide(got) - expected) <= 2 * np.finfo(got.dtype).eps * abs(expected)

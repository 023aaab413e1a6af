"""Units in the last place, and the accuracy budgets of the package as functions.

Everything is computed in the wide type of the exact result (see `oracle`), so that measuring adds
no error.

Words used below: `eps` is the spacing of the format at 1 (2**-23 for float32, 2**-52 for float64),
`u = eps / 2` the unit roundoff, ``d_j = x_j - max(x)``, ``p_j`` the softmax and ``L =
log(sum(exp(d)))``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from operations import OPERATIONS, REDUCTIONS

if TYPE_CHECKING:
    from oracle import Exact

Array = npt.NDArray[Any]

OPS = OPERATIONS
DTYPES = ("float32", "float64", "float16", "bfloat16")
HALF = ("float16", "bfloat16")
BLOCK = 1 << 13


@dataclass(frozen=True)
class Format:
    """A binary format: bits after the point, and the range of exponents of normal numbers."""

    bits: int
    min_exponent: int
    max_exponent: int

    @property
    def eps(self) -> float:
        return math.ldexp(1.0, -self.bits)

    @property
    def smallest(self) -> float:
        """The smallest positive (subnormal) number."""
        return math.ldexp(1.0, self.min_exponent - self.bits)

    @property
    def largest(self) -> float:
        return math.ldexp(2.0 - self.eps, self.max_exponent)


FORMATS = {
    "float16": Format(10, -14, 15),
    "bfloat16": Format(7, -126, 127),
    "float32": Format(23, -126, 127),
    "float64": Format(52, -1022, 1023),
}


def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name in `DTYPES`; bfloat16 needs ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def format_of(dtype: np.dtype[Any]) -> Format:
    return FORMATS[dtype.name]


def ulp(x: npt.ArrayLike, dtype: np.dtype[Any]) -> Array:
    """The spacing of the numbers of `dtype` in the binade of `x`.

    In the type of `x` (float64 if that is narrower); in the subnormal range the smallest number.
    """
    f = format_of(dtype)
    x = np.asarray(x)
    wide = x.dtype.type if x.dtype == np.longdouble else np.float64
    with np.errstate(over="ignore", under="ignore"):
        # A cast to float64, which is much faster than long double, keeps the exponent.
        size = np.abs(x.astype(np.float64, copy=False))
    _, exponent = np.frexp(np.where(np.isfinite(size), size, f.largest))
    exponent = np.where(size > 0, np.maximum(exponent - 1, f.min_exponent), f.min_exponent)
    result: Array = np.ldexp(wide(1), exponent - f.bits)
    return result


def round_to(x: npt.ArrayLike, dtype: np.dtype[Any]) -> Array:
    """`x` rounded once to the nearest number of `dtype` (ties to even), in the type of `x`.

    A cast may round twice (float64 to bfloat16 through float32), so the tests do not use casts.
    """
    x = np.asarray(x)
    unit = ulp(x, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded: Array = np.rint(x / unit) * unit
    return np.where(np.abs(rounded) > format_of(dtype).largest, np.copysign(np.inf, x), rounded)


def softmax_budget(d: Array, y: Array, dtype: np.dtype[Any]) -> Array:
    """The absolute error allowed for softmax: ``(2 + |d|/2) eps`` relative to the exact value `y`.

    ``|d|/2 eps = |d| u`` is the rounding of ``x_i - max``, which exp turns into a relative error.
    Subnormal numbers have an absolute spacing instead of a relative one: two roundings (the
    exponential, and the quotient) cost half of it each. Flushing subnormal results to zero is
    outside the budget.
    """
    f = format_of(dtype)
    distance = np.where(y > 0, np.abs(d), 0)
    result: Array = (2 + distance / 2) * f.eps * y + f.smallest
    return result


def log_budget(result: Array, d: Array, slack: Array, unit: Array, dtype: np.dtype[Any]) -> Array:
    """The absolute error allowed for log_softmax and logsumexp.

    It is ``1.5 ULP(result) + 0.5 ULP(d) + slack``, where

    * ``0.5 ULP(d)`` is the rounding of ``x_i - max``, for log_softmax, whose result contains it
      (logsumexp has ``d = 0``);
    * `slack` is the effect of the same rounding of every ``x_j - max`` on the logarithm of the sum:
      it moves d_j by at most ``0.5 ULP(d_j)``, and dL/dd_j = p_j, so L moves by at most
      ``sum(p_j 0.5 ULP(d_j))`` (see `oracle.Exact.slack`);
    * `unit` is the number whose ULP is used.  It is the result itself, except for logsumexp with
      ``max < 0`` and a result smaller than L: ``max + L`` cancels, an exponential rounded to the
      format cannot give digits relative to the difference, and the unit is that of L.  log_softmax
      (``d - L``, both of one sign) never cancels.
    """
    rounding = np.where(np.isfinite(d) & (d != 0), 0.5 * ulp(d, dtype), 0)
    budget: Array = 1.5 * ulp(np.maximum(np.abs(result), unit), dtype) + rounding + slack
    return budget


def half_budget(target: Array, got: Array, unit: Array, dtype: np.dtype[Any]) -> Array:
    """1 ULP (of the larger of the two at the edge of a binade) around the correctly rounded result.

    Where logsumexp cancels (see `log_budget`), float32, in which half types are computed, may err
    by 2 eps of L.
    """
    float32 = FORMATS["float32"].eps
    result: Array = np.maximum(ulp(target, dtype), ulp(got, dtype)) + 2 * float32 * unit
    return result


def cancelled(op: str, exact: Exact) -> Array:
    """L where logsumexp is smaller than L (see `log_budget`), 0 otherwise."""
    value = exact.result(op)
    unit = exact.log_sum if op == "logsumexp" else np.zeros_like(value)
    return np.where(np.abs(value) < unit, unit, 0)


@np.errstate(all="ignore")
def budget(op: str, got: Array, exact: Exact, dtype: np.dtype[Any]) -> Array:
    """The absolute error allowed for every element of ``op(x)``."""
    value = exact.result(op)
    unit = cancelled(op, exact)
    if dtype.name in HALF:
        return half_budget(round_to(value, dtype), got.astype(value.dtype), unit, dtype)
    return exact.allowed(op, unit, dtype) + exact.own_error * ulp(value, dtype)


@np.errstate(all="ignore")
def error(op: str, got: Array, exact: Exact, dtype: np.dtype[Any]) -> Array:
    """``|got - exact|``; infinite where one of them is not finite and they differ."""
    value = exact.result(op)
    if dtype.name in HALF:
        value = round_to(value, dtype)
    wide = np.asarray(got).astype(value.dtype)
    distance = np.abs(wide - value)
    same = (wide == round_to(value, dtype)) & ~np.isfinite(wide)
    return np.where(same, 0, np.where(np.isfinite(distance), distance, np.inf))


@np.errstate(all="ignore")
def of_budget(op: str, got: Array, exact: Exact, dtype: np.dtype[Any]) -> Array:
    """The error of every element as a fraction of its budget: at most 1."""
    shape = exact.result(op).shape
    if got.dtype != dtype or got.shape != shape:
        raise AssertionError(f"{op} gave {got.dtype}{got.shape}, not {dtype}{shape}")
    if op in REDUCTIONS or shape[-1] <= BLOCK:
        return error(op, got, exact, dtype) / budget(op, got, exact, dtype)
    # Long rows in blocks that stay in cache: large temporaries would be slowed by page faults.
    starts = range(0, shape[-1], BLOCK)
    pieces = [(got[..., i : i + BLOCK], exact.columns(slice(i, i + BLOCK))) for i in starts]
    return np.concatenate([of_budget(op, part, piece, dtype) for part, piece in pieces], axis=-1)


@np.errstate(all="ignore")
def in_units(op: str, got: Array, exact: Exact, dtype: np.dtype[Any]) -> Array:
    """The error of every element: in eps for softmax (relative), in ULP of the result otherwise.

    Half types: ULP, from the correctly rounded result.  A softmax that is subnormal is measured in
    smallest numbers, a logsumexp that cancels in ULP of L (see `log_budget`).
    """
    value = exact.result(op)
    if op == "softmax" and dtype.name not in HALF:
        f = format_of(dtype)
        return error(op, got, exact, dtype) / np.maximum(f.eps * value, f.smallest)
    return error(op, got, exact, dtype) / ulp(
        np.maximum(np.abs(value), cancelled(op, exact)), dtype
    )

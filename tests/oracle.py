"""The formulas of the package in higher precision, which the tests call exact.

Results of float32 and narrower are computed in float64 (29 bits more), results of float64 in long
double: 64 bits on x86, 113 on AArch64 Linux.  The error is that of the differences (relative
``2**-64 |x_i - max|``, a 2048th of what the budget allows for the same rounding), of exp and log (1
ULP of the wide type) and of NumPy's pairwise sum (about 40 ULP at 10**7 elements): below 0.02 ULP
of the result.  `test_oracle` compares it with mpmath.

Where long double is no wider than float64 (Windows, macOS on ARM), float64 uses mpmath, which is
slow; rounding its result to float64 costs half an ULP, which `Exact.own_error` adds to the budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

from operations import MAPS
from ulp import BLOCK, log_budget, softmax_budget, ulp

Array = npt.NDArray[Any]

LONGDOUBLE_IS_WIDER = np.finfo(np.longdouble).nmant >= 63
# Longer rows of float64 take mpmath too long.
MPMATH_LIMIT = 20_000


@dataclass(frozen=True)
class Exact:
    """The exact results over the last axis of x, in the wide type.

    `log_sum` is ``log(sum(exp(x - max)))``; `slack` bounds the effect of rounding the differences
    on it (see `ulp.log_budget`); `own_error` is the error of these numbers, in ULP of x's dtype.
    """

    difference: Array
    softmax: Array
    log_softmax: Array
    logsumexp: Array
    log_sum: Array
    slack: Array
    own_error: float = 0.0

    def result(self, op: str) -> Array:
        value: Array = getattr(self, op)
        return value

    def allowed(self, op: str, unit: Array, dtype: np.dtype[Any]) -> Array:
        """The absolute error that a result may have; see `ulp`, also for the unit."""
        value = self.result(op)
        if op == "softmax":
            return softmax_budget(self.difference, value, dtype)
        if op == "log_softmax":
            return log_budget(value, self.difference, self.slack[..., None], unit, dtype)
        return log_budget(value, np.zeros_like(value), self.slack, unit, dtype)

    def columns(self, part: slice) -> Exact:
        """Some elements of the rows, with the sums of the whole rows."""
        elements = ("difference", *MAPS)
        return replace(self, **{name: getattr(self, name)[..., part] for name in elements})


def wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type whose results count as exact for `dtype`."""
    narrow = dtype.kind in "fV" and dtype.itemsize <= 4
    return np.dtype(np.float64 if narrow else np.longdouble)


def usable(n: int, dtype: np.dtype[Any]) -> bool:
    """Whether a row of n elements can be checked on this platform in reasonable time."""
    return LONGDOUBLE_IS_WIDER or dtype.itemsize <= 4 or n <= MPMATH_LIMIT


@np.errstate(all="ignore")
def exact(
    x: Array,
    *,
    temperature: npt.ArrayLike = 1.0,
    where: npt.ArrayLike | None = None,
) -> Exact:
    """The three operations on ``x / temperature`` over the last axis, which must not be empty.

    x holds finite numbers and -inf; a row without a finite number that is not masked counts as
    fully masked. `temperature` broadcasts against x (one per row: a last axis of 1).
    """
    dtype = x.dtype
    if dtype == np.float64 and not LONGDOUBLE_IS_WIDER:
        return _exact_by_mpmath(x, temperature, where)
    kind = wide(dtype)
    difference = x.astype(kind)
    if where is not None:
        np.copyto(difference, -np.inf, where=~np.broadcast_to(where, x.shape))
    top = difference.max(axis=-1, keepdims=True)
    empty = top == -np.inf
    first = np.argmax(difference, axis=-1)[..., None]
    difference -= np.where(empty, 0, top)
    if np.any(np.not_equal(temperature, 1.0)):
        # After the subtraction: scaling first would round the large offsets.
        difference /= np.asarray(temperature).astype(kind)
        top = top / np.asarray(temperature).astype(kind)
    e = np.exp(difference)
    # All but one largest term go into log1p, so that tiny terms keep their digits.
    largest = np.take_along_axis(e, first, axis=-1)
    np.put_along_axis(e, first, kind.type(0), axis=-1)
    rest = e.sum(axis=-1, keepdims=True)
    np.put_along_axis(e, first, largest, axis=-1)
    log_sum = np.log1p(rest)
    e /= np.where(empty, 1, rest + largest)
    return Exact(
        difference=difference,
        softmax=e,
        log_softmax=difference - log_sum,
        logsumexp=(top + log_sum)[..., 0],
        log_sum=log_sum[..., 0],
        slack=slack_of(difference, e, dtype),
    )


def slack_of(difference: Array, p: Array, dtype: np.dtype[Any]) -> Array:
    """``sum(p_j 0.5 ULP(d_j))``, in blocks that stay in cache."""
    total = np.zeros(p.shape[:-1], p.dtype)
    for start in range(0, p.shape[-1], BLOCK):
        d, weight = (a[..., start : start + BLOCK] for a in (difference, p))
        total += np.where(d < 0, 0.5 * weight * ulp(d, dtype), 0).sum(axis=-1)
    return total


def exactly(x: Any) -> Any:
    """A NumPy number as an mpmath number, exactly."""
    if np.iscomplexobj(x):
        return mpmath.mpc(exactly(x.real), exactly(x.imag))
    parts = [float(x)]
    while np.isfinite(x) and parts[-1] and len(parts) < 3:
        x = x - x.dtype.type(parts[-1])
        parts.append(float(x))
    return mpmath.fsum(parts)


def _exact_by_mpmath(x: Array, temperature: npt.ArrayLike, where: npt.ArrayLike | None) -> Exact:
    kept = np.broadcast_to(True if where is None else np.asarray(where), x.shape)
    scale = np.broadcast_to(np.asarray(temperature, np.float64), x.shape)
    lines = zip(*(a.reshape(-1, x.shape[-1]) for a in (x, scale, kept)), strict=True)
    rows = [exact_row(r, t, k) for r, t, k in lines]

    def collect(name: str, shape: tuple[int, ...]) -> Array:
        return np.array([getattr(r, name) for r in rows], np.float64).reshape(shape)

    difference, p = collect("difference", x.shape), collect("softmax", x.shape)
    return Exact(
        difference=difference,
        softmax=p,
        log_softmax=collect("log_softmax", x.shape),
        logsumexp=collect("logsumexp", x.shape[:-1]),
        log_sum=collect("log_sum", x.shape[:-1]),
        slack=slack_of(difference, p, x.dtype),
        own_error=0.5,
    )


@dataclass(frozen=True)
class ExactRow:
    """The results for one row as mpmath numbers."""

    difference: list[Any]
    softmax: list[Any]
    log_softmax: list[Any]
    logsumexp: Any
    log_sum: Any


def exact_row(x: Array, temperature: Array | None = None, kept: Array | None = None) -> ExactRow:
    """One row to 60 digits, from the definition: log(sum(exp(x))) and exp(x - logsumexp)."""
    minus_infinity = mpmath.mpf("-inf")
    with mpmath.workdps(60):
        z = [mpmath.mpf(float(v)) for v in x]
        if temperature is not None:
            z = [v / mpmath.mpf(float(t)) for v, t in zip(z, temperature, strict=True)]
        if kept is not None:
            z = [v if k else minus_infinity for v, k in zip(z, kept, strict=True)]
        top = max(z)
        if top == minus_infinity:
            return ExactRow(z, [mpmath.mpf(0)] * len(z), z, minus_infinity, mpmath.mpf(0))
        # At 60 digits exp(-1000) is lost next to 1, but log1p keeps it.
        at = z.index(top)
        d = [v - top for v in z]
        log_sum = mpmath.log1p(mpmath.fsum(mpmath.exp(v) for i, v in enumerate(d) if i != at))
        log_softmax = [v - log_sum for v in d]
        p = [mpmath.exp(v) for v in log_softmax]
        return ExactRow(d, p, log_softmax, top + log_sum, log_sum)


@np.errstate(all="ignore")
def softmax_backward(dy: Array, y: Array) -> tuple[Array, Array]:
    """``y * (dy - sum(dy * y))`` over the last axis, and the sum of the magnitudes in it."""
    kind = wide(y.dtype)
    dy, y = dy.astype(kind), y.astype(kind)
    products = dy * y
    dot = products.sum(axis=-1, keepdims=True)
    size = np.abs(y) * (np.abs(dy) + np.abs(products).sum(axis=-1, keepdims=True))
    return y * (dy - dot), size


@np.errstate(all="ignore")
def log_softmax_backward(dy: Array, y: Array) -> tuple[Array, Array]:
    """``dy - exp(y) * sum(dy)`` over the last axis, and the sum of the magnitudes in it."""
    kind = wide(y.dtype)
    dy, p = dy.astype(kind), np.exp(y.astype(kind))
    size = np.abs(dy) + p * np.abs(dy).sum(axis=-1, keepdims=True)
    return dy - p * dy.sum(axis=-1, keepdims=True), size

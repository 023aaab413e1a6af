"""Tests of the test tools: oracle against mpmath, ULP against NumPy, budgets, known mistakes."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

import oracle
import rows
import ulp

Array = npt.NDArray[Any]

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def as_mpf(x: Any) -> Any:
    """A long double as an mpmath number, exactly, by splitting its significand in two."""
    if not np.isfinite(x):
        return mpmath.mpf(float(x))
    significand, exponent = np.frexp(x)
    high = float(significand)
    return mpmath.ldexp(
        mpmath.mpf(high) + mpmath.mpf(float(significand - type(x)(high))), int(exponent)
    )


@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("kind", rows.KINDS)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_oracle_agrees_with_mpmath(dtype: np.dtype[Any], kind: str, n: int) -> None:
    """Within 2% of the error budget of the results."""
    x = rows.make(kind, n, dtype)
    ours, theirs = oracle.exact(x), oracle.exact_row(x)
    share = mpmath.mpf(0.02 + ours.own_error)
    with mpmath.workdps(60):
        for op in ulp.OPS:
            value = np.atleast_1d(ours.result(op))
            true = getattr(theirs, op) if op != "logsumexp" else [theirs.logsumexp]
            budget = np.atleast_1d(ulp.budget(op, ours.result(op).astype(dtype), ours, dtype))
            for a, b, one in zip(value, true, budget, strict=True):
                if mpmath.isinf(b):
                    assert a == b
                else:
                    assert abs(as_mpf(a) - b) <= share * as_mpf(one), (op, float(a))


def test_mpmath_fallback_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.stack([rows.make(kind, 17, F64) for kind in rows.KINDS])
    where = np.arange(17) % 5 != 2
    temperature = np.linspace(0.5, 2, len(x))[:, None]
    expected = oracle.exact(x, temperature=temperature, where=where)
    monkeypatch.setattr(oracle, "LONGDOUBLE_IS_WIDER", False)
    got = oracle.exact(x, temperature=temperature, where=where)
    for op in ulp.OPS:
        value = expected.result(op)
        finite = np.isfinite(value)
        # Half an ULP for rounding one of the two to float64.
        limit = 0.5 * ulp.ulp(value, F64) + 0.02 * ulp.budget(op, value.astype(F64), expected, F64)
        np.testing.assert_array_equal(got.result(op)[~finite], value[~finite])
        assert (np.abs(value[finite] - got.result(op)[finite]) <= limit[finite]).all(), op
    assert (got.slack >= expected.slack.astype(np.float64) * (1 - 1e-12)).all()


def test_oracle_sums_long_rows_without_losing_digits() -> None:
    """Equal terms: softmax is 1/n and logsumexp is x + log(n), for any length."""
    n = 3_000_000
    result = oracle.exact(np.full(n, 0.5))
    if not oracle.LONGDOUBLE_IS_WIDER:
        pytest.skip("long double is no wider than float64 here")
    assert abs(result.softmax[0] * n - 1) < 1e-17
    assert abs(result.logsumexp - (np.longdouble(0.5) + np.log(np.longdouble(n)))) < 1e-17


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_ulp_and_rounding_agree_with_numpy(name: str) -> None:
    dtype = np.dtype(name)
    f = ulp.format_of(dtype)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(2000) * 2.0 ** rng.uniform(
        f.min_exponent - f.bits, f.max_exponent - 2, 2000
    )
    wide = x.astype(np.longdouble) * (1 + np.longdouble(1e-9))
    narrow = x.astype(dtype)
    np.testing.assert_array_equal(
        ulp.ulp(narrow, dtype), np.spacing(np.abs(narrow)).astype(np.float64)
    )
    np.testing.assert_array_equal(ulp.round_to(x, dtype), narrow.astype(np.float64))
    np.testing.assert_array_equal(
        ulp.round_to(wide, dtype), wide.astype(dtype).astype(np.longdouble)
    )
    info = np.finfo(dtype)
    assert (f.eps, f.smallest, f.largest) == (info.eps, info.smallest_subnormal, info.max)


def test_bfloat16_rounds_once() -> None:
    """A cast through float32 would round this number, just above a tie, down."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = 1 + 2.0**-8 + 2.0**-40
    assert ulp.round_to(x, np.dtype(bfloat16)) == 1 + 2.0**-7
    assert ulp.ulp(1.0, np.dtype(bfloat16)) == float(np.spacing(bfloat16(1)))
    assert ulp.format_of(np.dtype(bfloat16)).largest == float(np.finfo(np.float32).max) * (
        2 - 2**-7
    ) / (2 - 2**-23)


def test_budgets_by_hand() -> None:
    """The documented budgets for float32, at values where they can be computed by hand."""
    eps = 2.0**-23
    y = ulp.softmax_budget(np.array([0.0, -10.0]), np.array([0.5, 0.25]), F32)
    np.testing.assert_allclose(y, [2 * eps * 0.5, 7 * eps * 0.25], rtol=1e-12)
    # log_softmax: 1.5 and 0.5 ULP, of 1.5 (eps) and of 6 (4 eps); logsumexp: 1.5 ULP.
    none, zero = np.array([0.0]), np.array(0.0)
    result = np.array([-1.5])
    assert ulp.log_budget(result, np.array([-6.0]), zero, none, F32) == 1.5 * eps + 2 * eps
    assert ulp.log_budget(-result, none, zero, none, F32) == 1.5 * eps
    # The unit of a logsumexp of 0.01 after cancellation with L = 8: 8 eps.
    assert ulp.log_budget(np.array([0.01]), none, zero, np.array([8.0]), F32) == 12 * eps
    # The slack: p = 1/2, 1/4, 1/4 and half an ULP of -1.5 and -6 (nothing of 0).
    d, p = np.array([0.0, -1.5, -6.0]), np.array([0.5, 0.25, 0.25])
    assert oracle.slack_of(d, p, F32) == 0.25 * 0.5 * eps + 0.25 * 2 * eps


def worst(op: str, got: Array, x: Array) -> float:
    return float(ulp.of_budget(op, got, oracle.exact(x), x.dtype).max())


def test_correctly_rounded_results_are_within_a_third_of_the_logs_budget(
    dtype: np.dtype[Any],
) -> None:
    for kind in rows.KINDS:
        x = rows.make(kind, 500, dtype)
        for op in ulp.OPS:
            got = ulp.round_to(oracle.exact(x).result(op), dtype).astype(dtype)
            limit = 0.51 if op == "softmax" else 0.34
            assert worst(op, got, x) <= (0 if dtype.name in ulp.HALF else limit), (kind, op)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_naive_formulas_exceed_the_budget(dtype: np.dtype[Any]) -> None:
    """The kinds of rows detect the mistakes that they are meant for."""

    def parts(kind: str, n: int) -> tuple[Array, Any, Array, Any]:
        x = rows.make(kind, n, dtype)
        e = np.exp(x - x.max())
        return x, x.max(), e, e.sum()

    # A running total in the working precision loses the small terms.
    x, _, e, _ = parts("vanishing", 100_000)
    total = np.cumsum(np.sort(e)[::-1])[-1]
    assert worst("softmax", e / total, x) > 1
    # log(sum) instead of log1p(sum without the largest).
    x, m, e, s = parts("zero_and_minus_40", 2)
    assert worst("log_softmax", (x - m) - np.log(s), x) > 1
    assert worst("logsumexp", np.asarray(m + np.log(s)), x) > 1
    # x - (max + log(sum)) instead of (x - max) - log(sum).
    x, m, e, s = parts("offset", 1000)
    assert worst("log_softmax", x - (m + np.log(s)), x) > 1
    # Subnormal results flushed to zero.
    x, _, e, s = parts("subnormal_results", 1000)
    y = e / s
    assert worst("softmax", np.where(y < np.finfo(dtype).tiny, dtype.type(0), y), x) > 1
    # log(softmax) has only the digits that remain in a softmax near 1.
    x, _, e, s = parts("peaked", 1000)
    assert worst("log_softmax", np.log(e / s), x) > 1
    # No shift: overflow.
    x = rows.make("overflowing", 10, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        assert worst("softmax", np.exp(x) / np.exp(x).sum(), x) == math.inf


def test_one_wrong_element_among_many_is_seen() -> None:
    x = rows.make("normal", 4097, F32)
    y = oracle.exact(x).softmax.astype(np.float32)
    assert worst("softmax", y, x) <= 1
    at = int(np.argmax(x))
    y[at] *= np.float32(1 + 4 * 2.0**-23)
    assert worst("softmax", y, x) > 1
    y[at] = np.nan
    assert worst("softmax", y, x) == math.inf

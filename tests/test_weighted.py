"""Weighted logsumexp and the signs of sums, with and without cancellation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax import logsumexp, special
from layouts import LAYOUTS, unaligned
from oracle import exactly
from ulp import ulp

Array = npt.NDArray[Any]

INF, NAN = np.inf, np.nan
REAL = ("float32", "float64", "float16")
COMPLEX = ("complex64", "complex128")
WIDE = ("longdouble", "clongdouble")


def exact(x: Array, b: Array) -> tuple[Any, int]:
    """Logarithm and sign of a sum of real terms, to a thousand digits of the largest."""
    return sum_of_terms(x.tobytes(), b.tobytes(), x.dtype)


@cache  # all instruction sets get the same rows
def sum_of_terms(row: bytes, weights: bytes, dtype: np.dtype[Any]) -> tuple[Any, int]:
    x, b = np.frombuffer(row, dtype), np.frombuffer(weights, dtype)
    with mpmath.workdps(1000):
        total = mpmath.fsum(
            exactly(w) * mpmath.exp(exactly(v)) for v, w in zip(x, b, strict=True) if w
        )
        size = mpmath.log(abs(total)) if total else -mpmath.inf
        return size, int(mpmath.sign(total))


def check(x: Any, b: Any, dtype: str = "float64") -> None:
    """Compare a row with mpmath: within 1.5 ULP (1 more if float16 is rounded twice)."""
    x, b = np.array(x, dtype), np.array(b, dtype)
    expected, sign = exact(x, b)
    got, got_sign = logsumexp(x, b=b, return_sign=True)
    assert got_sign == sign, (x, b)
    if sign == 0:
        assert got == -INF
    else:
        unit = float(ulp(np.longdouble(str(expected)), x.dtype))
        assert abs(exactly(got) - expected) <= 1.5 * unit, (x, b, got, expected)
    plain = logsumexp(x, b=b)
    np.testing.assert_array_equal(plain, NAN if sign < 0 else got)


def triples(
    count: int, dtype: str, deepest: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Rows [L, L, L - d] in any order with weights [w, -w, 1], and L - d."""
    rng = np.random.default_rng(5)
    large = rng.uniform(-30, 30, count).astype(dtype)
    rest = (large - rng.uniform(1, deepest, count)).astype(dtype)
    w = rng.uniform(0.5, 2, count).astype(dtype)
    x = np.stack([large, large, rest], axis=1)
    b = np.stack([w, -w, np.ones_like(w)], axis=1)
    order = np.argsort(rng.random(x.shape), axis=1)
    return np.take_along_axis(x, order, 1), np.take_along_axis(b, order, 1), rest


def deepest_of(dtype: str) -> float:
    return 60.0 if dtype == "float16" else 700.0


# ---- weights that cancel


@pytest.mark.parametrize("function", [logsumexp, special.logsumexp])
def test_small_terms_after_cancellation(isa: str, function: Callable[..., Any]) -> None:
    """Rows that once lost their third term, or all of its digits."""
    for x, b in (
        ([0, 0, -40], [1, -1, 1]),
        ([0, 0, -30], [1, -1, 1]),
        ([2, 2, -30], [1, -1, 1]),
        ([0, 0, -40], [1, -1, -1]),
        ([1000, 1000, 960], [1, -1, 1]),
        ([1e5, 1e5, 1e5 - 40], [0.1, -0.1, 1]),
        ([1e300, -1e300, 1e300], [1, 1, -1]),
        ([0, 0, -5000], [1, -1, 1]),
        ([700, -700, 700], [3, 1, -3]),
    ):
        (rest,) = (v for v in x if x.count(v) == 1)
        for order in ((0, 1, 2), (2, 0, 1), (0, 2, 1)):
            row, weights = np.array(x, float)[list(order)], np.array(b, float)[list(order)]
            got, sign = function(row, b=weights, return_sign=True)
            assert got == rest
            assert sign == np.sign(b[x.index(rest)])
    check([np.log(2), 0, -40], [1, -2, 1])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [*REAL, *COMPLEX, *WIDE])
def test_equal_and_opposite_terms_vanish(isa: str, dtype: str, axis: int) -> None:
    """20,000 rows [L, L, L - d] with weights [w, -w, 1], in every order."""
    count = 20_000 if dtype in (*REAL, *COMPLEX) else 500
    real = np.empty(0, dtype).real.dtype.name
    x, b, rest = triples(count, real, deepest_of(dtype))
    x, b = x.astype(dtype), b.astype(dtype)
    if dtype.startswith("c"):  # rotate every row by a different angle
        x = x + np.linspace(-3, 3, count, dtype=real)[:, None] * x.dtype.type(1j)
    if axis == 0:
        x, b = x.T.copy(), b.T.copy()
    got, sign = logsumexp(x, axis, b=b, return_sign=True)
    assert got.dtype == real
    eps = np.finfo(real).eps
    least = 1 if dtype.startswith("c") else 1e-3
    assert (np.abs(got - rest) <= 4 * eps * np.maximum(np.abs(rest), least)).all()
    if dtype.startswith("c"):
        angle = np.take(x.imag, 0, axis)
        phase = np.cos(angle) + np.sin(angle) * x.dtype.type(1j)
        assert (np.abs(sign - phase) <= 8 * eps).all()
    else:
        assert (sign == 1).all()
        assert (logsumexp(x, axis, b=b) == got).all()


@pytest.mark.parametrize("dtype", REAL)
def test_random_rows(isa: str, dtype: str) -> None:
    """Rows of small integers, in which many terms cancel, and of numbers that do not cancel."""
    rng = np.random.default_rng(6)
    for n in (1, 2, 3, 5, 8, 17, 33, 60, 100):
        for _ in range(4):
            check(rng.integers(-9, 3, n), rng.integers(-2, 3, n), dtype)
            check(4 * rng.standard_normal(n), rng.standard_normal(n), dtype)
            check(4 * rng.standard_normal(n), rng.random(n), dtype)
            check(rng.standard_normal(n) - np.log(n), np.abs(rng.standard_normal(n)), dtype)


def test_terms_that_cancel_without_being_equal(isa: str) -> None:
    """Including weights that are the closest to making the sum 0."""
    with mpmath.workdps(200):
        e = mpmath.exp(1)
        first = -float(e)
        second = -float(e + first)
        third = -float(e + first + second)
    check([1, 0], [1, first])
    check([1, 0, 0], [1, first, second])
    check([1, 0, 0, 0], [1, first, second, third])
    check([1, 0, -3, 0, 0, -200], [1, first, 1e-9, second, third, -1])


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("n", [2, 40, 300])
def test_sums_far_below_their_terms(isa: str, n: int, dtype: str) -> None:
    """Sums of 2^-1 to 2^-19 of their terms: every precision of terms decides some of them."""
    rng = np.random.default_rng(11)
    for digits in range(1, 21, 2):
        x = (rng.choice([0.0, 3.0, -700.0]) + rng.standard_normal(n)).astype(dtype)
        b = rng.standard_normal(n).astype(dtype)
        x[-1] = x.max()
        e = np.exp((x - x[-1]).astype(np.longdouble))
        others = b[:-1] * e[:-1]
        b[-1] = np.abs(others).sum() * np.longdouble(2) ** -digits - others.sum()
        check(x, b, dtype)


def test_numbers_near_the_end_of_the_range(isa: str) -> None:
    for x, b in (
        ([800, 0], [1e-300, 1e300]),
        ([0, 800], [1e300, -1e-300]),
        ([0, 0], [1e308, 1.5e308]),
        ([1400, 0, 700], [1e-308, 1e300, 1e-5]),
        ([-1e4, -1e4, -1.1e4], [5e-324, -5e-324, 1.7e308]),
        ([1e6, 1e6 - 1], [1, -2.5]),
        ([-1e300, -1e300, -1e302], [1, 2, 3]),
        ([0, -1e-20, 1e-20], [1, -2, 1]),
        ([5, 0], [np.exp(-5), 1e-30]),
    ):
        check(x, b)


@pytest.mark.parametrize("n", [32_768, 32_769, 100_003])
def test_long_rows(isa: str, n: int, threads: Callable[[int], None]) -> None:
    """Segments of a row cancel like its elements."""
    rng = np.random.default_rng(7)
    half = rng.standard_normal(n // 2)
    x = np.concatenate([half, half[::-1], -50 + np.zeros(n % 2 + 2)])
    w = rng.uniform(0.5, 2, n // 2)
    b = np.concatenate([w, -w[::-1], np.full(n % 2 + 2, 1.0)])
    for count in (1, 2):
        threads(count)
        got, sign = logsumexp(x, b=b, return_sign=True)
        assert abs(got - (-50 + np.log(n % 2 + 2))) <= 1.5 * np.spacing(50)
        assert sign == 1
    positive = logsumexp(x, b=np.abs(b))
    wide = np.log(np.sum(np.abs(b).astype(np.longdouble) * np.exp(x.astype(np.longdouble))))
    assert abs(positive - wide) <= 1.5 * np.spacing(float(wide))
    x[5], b[5] = INF, 0
    assert logsumexp(x, b=np.abs(b)) == pytest.approx(float(wide), abs=0.1)


# ---- weights of every kind


def test_dtypes_of_weights(isa: str) -> None:
    rng = np.random.default_rng(8)
    for dtype in (*REAL, "int32", "longdouble"):
        x = (2 * rng.standard_normal((5, 40))).astype(dtype)
        for kind in (
            "float16",
            "float32",
            "float64",
            "longdouble",
            "int8",
            "uint64",
            "bool",
            ">f8",
        ):
            b = np.abs(2 * rng.standard_normal((5, 40))).astype(kind)
            b[:, 0] = 1
            got = logsumexp(x, b=b)
            result = np.float64 if dtype == "int32" else np.dtype(dtype)
            assert got.dtype == result
            terms = b.astype(np.longdouble) * np.exp(x.astype(np.longdouble))
            expected = np.log(terms.sum(axis=-1)).astype(got.dtype)
            eps = float(np.finfo(got.dtype).eps)
            np.testing.assert_allclose(got, expected, rtol=2 * eps, atol=2 * eps)


@pytest.mark.parametrize("n", [4, 100])
def test_weights_are_broadcast(isa: str, n: int) -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((3, 5, n))
    for b in (0.5, -2, np.float32(3), rng.random(n), rng.random((5, 1)), rng.random((3, 1, n))):
        whole = np.ascontiguousarray(np.broadcast_to(b, x.shape)).astype(float)
        for axis in (0, 1, 2, None, (0, 2), ()):
            got = logsumexp(x, axis, b=b, return_sign=True)
            for one, other in zip(got, logsumexp(x, axis, b=whole, return_sign=True), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", REAL)
def test_signs_without_weights(isa: str, dtype: str) -> None:
    x = np.array([[1, 2, 3], [-INF, -INF, -INF], [1, NAN, 2], [INF, 0, 0]], dtype)
    for axis in (0, 1, None):
        plain = logsumexp(x, axis)
        for keepdims in (False, True):
            value, sign = logsumexp(x, axis, return_sign=True, keepdims=keepdims)
            assert (
                np.shape(value) == np.shape(sign) == np.shape(logsumexp(x, axis, keepdims=keepdims))
            )
            np.testing.assert_array_equal(np.reshape(value, np.shape(plain)), plain)
            expected = np.where(np.isnan(plain), NAN, plain > -INF)
            np.testing.assert_array_equal(np.reshape(sign, np.shape(plain)), expected)
            assert sign.dtype == value.dtype == x.dtype


@pytest.mark.parametrize("dtype", REAL)
def test_masks_and_temperatures(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(10)
    x, b = rng.standard_normal((2, 6, 50)).astype(dtype)
    where = rng.random((6, 50)) < 0.5
    where[3] = False
    t = rng.uniform(0.5, 2, 6)
    got, sign = logsumexp(x, b=b, where=where, temperature=t, return_sign=True)
    for i in range(6):
        kept = where[i]
        terms = b[i, kept].astype(np.longdouble) * np.exp(x[i, kept].astype(np.longdouble) / t[i])
        total = terms.sum()
        assert sign[i] == np.sign(total)
        expected = np.log(np.abs(total)) if total else -INF
        limit = (
            4
            * float(np.finfo(dtype).eps)
            * max(1.0, float(np.abs(terms).sum() / np.abs(total or 1)))
        )
        np.testing.assert_allclose(float(got[i]), float(expected), atol=limit, rtol=limit)


# ---- bits


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("n", [1, 7, 33, 500])
def test_bits_depend_only_on_the_row(
    isa: str, dtype: str, n: int, threads: Callable[[int], None]
) -> None:
    rng = np.random.default_rng(11)
    x, b = rng.standard_normal((2, 200, n)).astype(dtype)
    b[::2] = np.abs(b[::2])
    threads(1)
    value, sign = logsumexp(x, b=b, return_sign=True)
    threads(2)

    def same(got: Any) -> None:
        np.testing.assert_array_equal(got[0], value)
        np.testing.assert_array_equal(got[1], sign)

    same(logsumexp(x, b=b, return_sign=True))
    for layout in LAYOUTS.values():
        same(logsumexp(layout(x), b=layout(b), return_sign=True))
    same(logsumexp(x.T, 0, b=b.T.copy(), return_sign=True))
    one = [logsumexp(x[i], b=b[i], return_sign=True) for i in range(len(x))]
    same(tuple(zip(*one, strict=True)))
    if n == 1:  # over the weights themselves
        got, got_sign = logsumexp(x, b=(out := b[:, 0].copy())[:, None], return_sign=True, out=out)
        assert got is out
        same((got, got_sign))
    for out in (np.empty(200, dtype), np.empty((200, 3), dtype)[::-1, 1], unaligned(value, 1)):
        got, got_sign = logsumexp(x, b=b, return_sign=True, out=out)
        assert got is out
        same((got, got_sign))


def test_order_does_not_matter_where_terms_cancel(isa: str) -> None:
    rng = np.random.default_rng(12)
    x, b = rng.integers(-3, 3, 200) * 0.3, rng.integers(-9, 10, 200) * 0.1
    first = logsumexp(x, b=b, return_sign=True)
    for _ in range(5):
        order = rng.permutation(200)
        got = logsumexp(x[order], b=b[order], return_sign=True)
        assert got[1] == first[1]
        assert abs(got[0] - first[0]) <= 2 * np.spacing(abs(first[0]))


def test_empty(isa: str) -> None:
    for shape, axis in (((0, 4), 0), ((4, 0), 1), ((0, 0), None), ((0, 4), 1)):
        for options in ({"b": 2.0}, {"b": np.ones(shape)}, {}):
            value, sign = logsumexp(np.empty(shape), axis, return_sign=True, **options)
            assert np.shape(value) == np.shape(sign) == np.shape(np.sum(np.empty(shape), axis))
            assert (np.asarray(value) == -INF).all()
            assert (np.asarray(sign) == 0).all()


@pytest.mark.skipif(boltzmax.isa() == "scalar", reason="one instruction set is enough")
def test_weights_of_one_change_nothing(isa: str) -> None:
    rng = np.random.default_rng(13)
    for dtype in REAL:
        for n in (3, 40, 1000):
            x = rng.standard_normal((9, n)).astype(dtype)
            plain, weighted = logsumexp(x), logsumexp(x, b=np.ones_like(x))
            assert (np.abs(plain - weighted) <= 2 * np.spacing(np.abs(plain))).all()

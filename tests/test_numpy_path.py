"""The NumPy path: longdouble, weights, signs and complex numbers, against mpmath and itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import boltzmax
from boltzmax.arrays import numpy_path
from boltzmax.arrays.numpy_path import log_softmax, logsumexp, softmax
from oracle import exactly

Array = npt.NDArray[Any]

INF, NAN = np.inf, np.nan
REAL = ("float16", "float32", "float64", "longdouble")
COMPLEX = ("complex64", "complex128", "clongdouble")


def spread(rng: np.random.Generator, n: int) -> Array:
    return rng.uniform(-50, 50, n)


def normal(rng: np.random.Generator, n: int) -> Array:
    return 3 * rng.standard_normal(n)


def peaked(rng: np.random.Generator, n: int) -> Array:
    return np.append(rng.uniform(-60, -40, n - 1), 0.0)


def constant(rng: np.random.Generator, n: int) -> Array:
    return np.full(n, -2.0)


def offset(rng: np.random.Generator, n: int) -> Array:
    return 500 + rng.standard_normal(n)


KINDS = (spread, normal, peaked, constant, offset)


def exact_terms(x: Array, b: Array | None = None) -> list[Any]:
    weights = [mpmath.mpf(1)] * x.size if b is None else [exactly(w) for w in b]
    return [w * mpmath.exp(exactly(v)) for v, w in zip(x, weights, strict=True)]


def eps_of(dtype: npt.DTypeLike) -> float:
    return float(np.finfo(dtype).eps)


def tolerance(x: Array, terms: list[Any], eps: float) -> float:
    """The tolerance for a logarithm computed as accurately as one precision allows.

    1.5 ULP of the larger of the result and the number added to the largest element, and the effect
    of an error of (|x - max| / 2 + 3) eps in every term: subtraction, exponential, weight.
    """
    largest = max(exactly(v.real) for v in x)
    total = mpmath.fsum(terms)
    size = mpmath.log(abs(total))
    distances = [abs(exactly(v.real) - largest) for v in x]
    parts = [abs(t) * (d / 2 + 3) for t, d in zip(terms, distances, strict=True)]
    unit = max(abs(size), abs(size - largest), abs(largest) if size < abs(largest) else 0)
    # only terms other than the largest are rounded, so a result near 0 keeps its digits
    small = mpmath.fsum(sorted(parts)[:-1]) / abs(total)
    return float(1.5 * eps * unit + eps * small)


@pytest.fixture(autouse=True)
def precision() -> Any:
    with mpmath.workdps(60):
        yield


# --- Accuracy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", REAL)
def test_logsumexp_is_accurate(kind: Callable[..., Array], dtype: str) -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 50, 500):
        x = kind(rng, n).astype(dtype)
        b = rng.uniform(0.1, 2, n).astype(dtype)
        for weights in (None, b, b * rng.choice([1, 1, 1, -1], n).astype(dtype), b[:1]):
            full = None if weights is None else np.broadcast_to(weights, n)
            got, sign = logsumexp(x, (0,), b=weights, return_sign=True)
            terms = exact_terms(x, full)
            total = mpmath.fsum(terms)
            assert got.dtype == sign.dtype == x.dtype
            assert sign == mpmath.sign(total)
            error = float(abs(exactly(got[()]) - mpmath.log(abs(total))))
            if dtype in ("float16", "float32"):  # computed in double and rounded once
                assert error <= 0.501 * float(np.spacing(np.abs(got)))
            else:
                assert error <= tolerance(x, terms, eps_of(dtype))


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_logsumexp_is_accurate(dtype: str) -> None:
    rng = np.random.default_rng(2)
    for kind in KINDS:
        for n in (1, 2, 50):
            x = (kind(rng, n) + 1j * rng.uniform(-9, 9, n)).astype(dtype)
            b = (rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(dtype)
            for weights in (None, b):
                total = mpmath.fsum(exact_terms(x, weights))
                got = logsumexp(x, (0,), b=weights)
                size, sign = logsumexp(x, (0,), b=weights, return_sign=True)
                assert got.dtype == sign.dtype == x.dtype
                assert size.dtype == x.real.dtype
                largest = float(abs(x.real).max())
                condition = float(mpmath.fsum(map(abs, exact_terms(x, weights))) / abs(total))
                bound = eps_of(dtype) * (largest + 8 * condition)
                assert abs(exactly(got[()]) - mpmath.log(total)) <= bound
                assert abs(exactly(size[()]) - mpmath.log(abs(total))) <= bound
                assert abs(exactly(sign[()]) - total / abs(total)) <= bound


def test_a_large_imaginary_part_is_reduced_exactly() -> None:
    x = np.array([1e10j, 0.3j, 1.0 + 12345.678j])
    got = logsumexp(x, (0,))[()]
    assert abs(exactly(got) - mpmath.log(mpmath.fsum(exact_terms(x)))) < 1e-15


@pytest.mark.parametrize("dtype", [*REAL[1:], *COMPLEX])
def test_tiny_terms_do_not_vanish(dtype: str) -> None:
    for row in ([0, -40], [-40, 0], [-40, 0, -41], [0] + [-40] * 200):
        x = np.array(row, dtype)
        expected = mpmath.log(mpmath.fsum(exact_terms(x)))
        got = logsumexp(x, (0,))
        assert abs(exactly(got[()]).real / expected - 1) < 4 * eps_of(dtype)
        weighted = logsumexp(x, (0,), b=np.ones_like(x))
        assert weighted == got
    if dtype.startswith("c"):  # around the unit circle, too
        x = np.array([0.7j, -40 + 0.7j, -41 + 0.7j], dtype)
        expected = mpmath.log(1 + mpmath.exp(-40) + mpmath.exp(-41))
        assert abs(exactly(logsumexp(x, (0,))[()]).real / expected - 1) < 8 * eps_of(dtype)
    else:
        y = log_softmax(np.array([0, 40], np.longdouble), (0,))
        assert y[1] == -np.log1p(np.exp(np.longdouble(-40)))


def test_complex_weights_of_real_numbers() -> None:
    x = np.array([0.5, 0.25], np.float32)
    got = logsumexp(x, (0,), b=np.array([1j, 2]))
    assert got.dtype == np.complex64
    assert got == pytest.approx(complex(np.log(1j * np.exp(0.5) + 2 * np.exp(0.25))), rel=1e-6)


def test_equal_weights_of_a_mean_cancel() -> None:
    """log-mean-exp of equal numbers is that number."""
    for n in (3, 10, 1000, 5000):
        x = np.zeros(n)
        for b in (np.array(1 / n), np.full(n, 1 / n)):
            assert abs(logsumexp(x, (0,), b=b)) < n * 1e-17 + 1e-15


def test_weights_that_cancel_among_the_largest() -> None:
    for offset_ in (0.0, 1000.0, -1000.0):
        x = np.array([5, 5, 0.0]) + offset_
        got, sign = logsumexp(x, (0,), b=np.array([1, -1, 1.0]), return_sign=True)
        assert abs(got - offset_) <= 1e-15 + np.spacing(abs(offset_))
        assert sign == 1
        nothing, zero = logsumexp(x[:2], (0,), b=np.array([1, -1.0]), return_sign=True)
        assert (nothing, zero) == (-INF, 0)


@pytest.mark.parametrize("dtype", ["float64", "longdouble", "complex128"])
def test_weights_of_very_different_sizes(dtype: str) -> None:
    for row, weights in (
        ([800, 0], [1e-300, 1e300]),
        ([0, 800], [1e300, -1e-300]),
        ([0, 0], [1e308, 1.5e308]),
        ([-1000, -1000, -999], [1e-300, 3e-300, -1e-300]),
        ([1400, 0, 700], [1e-308, 1e300, 1e-5]),
    ):
        for repeat in (1, 40, 3000):
            x = np.tile(np.array(row, dtype), repeat)
            b = np.tile(np.array(weights, dtype), repeat)
            got, sign = logsumexp(x, (0,), b=b, return_sign=True)
            terms = exact_terms(np.array(row, dtype), np.array(weights, dtype))
            total = mpmath.fsum(terms) * repeat
            assert abs(exactly(got[()]) / mpmath.log(abs(total)) - 1) < 4 * eps_of(dtype)
            assert sign == mpmath.sign(total.real)


@pytest.mark.parametrize("kind", KINDS)
def test_softmax_of_longdouble_is_accurate(kind: Callable[..., Array]) -> None:
    rng = np.random.default_rng(3)
    eps = eps_of(np.longdouble)
    for n in (1, 2, 7, 63, 64, 300):
        x = kind(rng, n).astype(np.longdouble)
        p, q = softmax(x, (0,)), log_softmax(x, (0,))
        terms = exact_terms(x)
        total = mpmath.fsum(terms)
        for v, term, p_i, q_i in zip(x, terms, p, q, strict=True):
            distance = float(x.max() - v)
            assert abs(exactly(p_i) / (term / total) - 1) <= (2 + distance / 2) * eps
            expected = mpmath.log(term / total)
            assert abs(exactly(q_i) - expected) <= 1.5 * eps * abs(expected) + distance * eps


@pytest.mark.parametrize("options", [{}, {"where": True}, {"temperature": 0.0}, {"empty": "zero"}])
def test_longdouble_keeps_the_memory_order(options: dict[str, Any]) -> None:
    x = np.zeros((3, 4, 5), np.longdouble, order="F")
    for function in (boltzmax.softmax, boltzmax.log_softmax):
        for y in (x, x.transpose(1, 0, 2)):
            assert function(y, axis=0, **options).strides == y.strides


def test_float64_is_not_less_accurate_than_scipy() -> None:
    peer = pytest.importorskip("scipy.special").logsumexp
    rng = np.random.default_rng(4)
    worst = {"ours": 0.0, "SciPy": 0.0}
    for kind in KINDS:
        for n in (2, 30, 300):
            x, b = kind(rng, n), rng.uniform(0.5, 1.5, n)
            expected = mpmath.log(mpmath.fsum(exact_terms(x, b)))
            unit = float(np.spacing(max(abs(float(expected)), 1e-3)))
            for name, got in (("ours", logsumexp(x, (0,), b=b)), ("SciPy", peer(x, b=b))):
                worst[name] = max(worst[name], float(abs(exactly(got[()]) - expected)) / unit)
    assert worst["ours"] <= max(worst["SciPy"], 1.5)


# --- Special values ------------------------------------------------------------------------------


SPECIAL = ([INF], [INF, 1], [-INF], [-INF, -INF], [NAN, 1], [INF, NAN], [-INF, 0])


@pytest.mark.parametrize("row", SPECIAL)
def test_special_rows(row: list[float]) -> None:
    """As in the table of the native functions, without warnings even where NumPy would raise."""
    n = len(row)
    for pad in (0, 100):
        x = np.array(row + [-3.0] * pad, np.longdouble)
        bad = bool(np.isnan(x).any())
        with np.errstate(all="raise"):
            p, q = softmax(x, (0,)), log_softmax(x, (0,))
            s, sign = logsumexp(x, (0,), return_sign=True)
        if bad or (x == -INF).all():
            assert np.isnan(p).all()
            assert np.isnan(q).all()
        elif x.max() == INF:
            assert np.isnan(p).all()
            np.testing.assert_array_equal(q, np.where(x == INF, NAN, -INF))
        else:
            np.testing.assert_array_equal(p[:n] == 0, x[:n] == -INF)
        finite = x[np.isfinite(x)]
        terms = np.log(np.exp(finite).sum()) if finite.size else -INF
        np.testing.assert_allclose(s, NAN if bad else max(x.max(), terms), rtol=1e-14)
        np.testing.assert_array_equal(sign, NAN if bad else float(s > -INF))
        np.testing.assert_array_equal(numpy_path.sign_of_sum(s), sign)


# --- Properties ----------------------------------------------------------------------------------

numbers = st.floats(-300, 300)
weights_ = st.floats(-100, 100).filter(lambda w: w == 0 or abs(w) > 1e-3)


@given(hnp.arrays(np.float64, st.integers(1, 90), elements=numbers), numbers, st.randoms())
def test_shift_and_order(x: Array, shift: float, random: Any) -> None:
    s = logsumexp(x, (0,))
    assert x.max() <= s <= x.max() + np.log(x.size) + 1e-13
    assert logsumexp(x + shift, (0,)) == pytest.approx(s + shift, rel=1e-13, abs=1e-12)
    order = list(range(x.size))
    random.shuffle(order)
    assert logsumexp(x[order], (0,)) == pytest.approx(s, rel=1e-14)


@given(st.lists(st.tuples(numbers, weights_), min_size=1, max_size=90), weights_)
def test_scale_and_sign(pairs: list[tuple[float, float]], factor: float) -> None:
    x, b = np.array(pairs).T
    value, sign = logsumexp(x, (0,), b=b, return_sign=True)
    plain = logsumexp(x, (0,), b=b)
    np.testing.assert_array_equal(plain, NAN if sign < 0 else value)
    opposite, minus = logsumexp(x, (0,), b=-b, return_sign=True)
    assert (opposite, minus) == (value, -sign)
    # elements of weight 0 do not count
    some = b != 0
    if some.any():
        rest, same = logsumexp(x[some], (0,), b=b[some], return_sign=True)
        assert rest == pytest.approx(value, rel=1e-12) or abs(rest - value) < 1e-9
        assert same == sign
    powers = 2.0 ** np.round(np.log2(abs(factor) + 1))
    scaled, sign_ = logsumexp(x, (0,), b=b * powers, return_sign=True)
    assert sign_ == sign
    assert scaled == pytest.approx(value + np.log(powers), rel=1e-13, abs=1e-13)


complex_numbers = st.complex_numbers(max_magnitude=200)


@given(hnp.arrays(np.complex128, st.integers(1, 90), elements=complex_numbers))
def test_complex_symmetry(z: Array) -> None:
    s = logsumexp(z, (0,))
    assert -np.pi <= s.imag <= np.pi
    mirrored = logsumexp(z.conj(), (0,))
    assert mirrored.real == s.real
    assert mirrored.imag == -s.imag or s.imag == np.pi
    size, phase = logsumexp(z, (0,), return_sign=True)
    assert size == s.real
    assert abs(phase - np.exp(1j * s.imag)) < 1e-14 or size == -INF

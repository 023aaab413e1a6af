"""Complex rows: logsumexp, softmax and log_softmax against mpmath and NumPy's widest types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

from boltzmax import logsumexp, special
from layouts import LAYOUTS

Array = npt.NDArray[Any]

INF, NAN = np.inf, np.nan
COMPLEX = ("complex64", "complex128")


def exact_complex(x: Array, b: Array) -> tuple[Any, Any, float]:
    """The logarithm of |sum|, its phase, and the sum of its terms' sizes relative to |sum|."""
    with mpmath.workdps(400):
        terms = [
            mpmath.mpc(complex(w)) * mpmath.exp(mpmath.mpc(complex(v)))
            for v, w in zip(x, b, strict=True)
        ]
        total = mpmath.fsum(terms)
        size = abs(total)
        return mpmath.log(size), total / size, float(mpmath.fsum(map(abs, terms)) / size)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_rows(isa: str, dtype: str) -> None:
    """Within 2^-49 of the sum of the terms' absolute values, or at most 2^-36 if they cancel."""
    rng = np.random.default_rng(14)
    eps = float(np.finfo(dtype).eps)
    for n in (1, 2, 3, 17, 100):
        for scale in (1, 30, 1e4, 1e7):
            x = (4 * rng.standard_normal(n) + scale * 1j * rng.standard_normal(n)).astype(dtype)
            b = (rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(dtype)
            for weights in (None, b, b.real.copy()):
                whole = np.ones_like(x) if weights is None else weights.astype(dtype)
                size, phase, condition = exact_complex(x, whole)
                got, sign = logsumexp(x, b=weights, return_sign=True)
                bound = min(2.0**-36, 2.0**-49 * condition) + 2 * eps
                assert abs(mpmath.mpf(float(got)) - size) <= bound * max(1, float(abs(size)))
                assert abs(mpmath.mpc(complex(sign)) - phase) <= bound
                value = logsumexp(x, b=weights)
                assert value.dtype == x.dtype
                assert value.real == got
                assert abs(np.exp(1j * value.imag) - sign) <= 4 * eps


def test_complex_terms_that_nearly_cancel(isa: str) -> None:
    """The remainder of two terms is exact."""
    for x, b in (
        ([0, 1j * np.pi], [1, 1]),
        ([1j * np.pi / 2, 0, -60], [1, -1j, 1]),
        ([1e6j, 1e6j, -300 + 3j], [2, -2, 1j]),
        ([0j, -40], [1, 1]),
        ([700 + 1j, 700 + 1j, 1j], [1 + 1j, -1 - 1j, 1e-20]),
    ):
        row, weights = np.array(x, complex), np.array(b, complex)
        size, phase, _ = exact_complex(row, weights)
        got, sign = logsumexp(row, b=weights, return_sign=True)
        assert abs(mpmath.mpf(float(got)) / size - 1) <= 2e-16
        assert abs(mpmath.mpc(complex(sign)) - phase) <= 1e-15


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("n", [1, 3, 100, 2048, 2049, 5000])
def test_complex_softmax(isa: str, dtype: str, n: int) -> None:
    rng = np.random.default_rng(15)
    x = (2 * rng.standard_normal((3, n)) + 2j * rng.standard_normal((3, n))).astype(dtype)
    wide = x.astype(np.clongdouble)
    e = np.exp(wide - wide.real.max(axis=1, keepdims=True))
    total = e.sum(axis=1, keepdims=True)
    limit = (
        16 * float(np.finfo(dtype).eps) * float((np.abs(e).sum(axis=1) / np.abs(total[:, 0])).max())
    )
    p, q = special.softmax(x, 1), special.log_softmax(x, 1)
    assert p.dtype == q.dtype == x.dtype
    assert (np.abs(p - e / total) <= limit * np.abs(e / total)).all()
    assert (
        np.abs(np.exp(q.astype(np.clongdouble)) - e / total) <= 4 * limit * np.abs(e / total)
    ).all()
    for layout in LAYOUTS.values():
        np.testing.assert_array_equal(special.softmax(layout(x), 1), p)
        np.testing.assert_array_equal(special.log_softmax(layout(x), 1), q)
    np.testing.assert_array_equal(special.softmax(x.T, 0), p.T)
    np.testing.assert_array_equal(special.softmax(x[1], 0), p[1])
    x[1, n // 2] = complex(INF, 1)
    special_row = special.softmax(x, 1)
    np.testing.assert_array_equal(special_row[[0, 2]], p[[0, 2]])
    assert np.isnan(special_row[1]).any()


@pytest.mark.parametrize("dtype", COMPLEX)
def test_angles_of_many_turns(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(18)
    x = (rng.standard_normal((3, 100)) + 1j * rng.uniform(-9, 9, (3, 100))).astype(dtype)
    x[1, ::7] += x.dtype.type(3e6j)
    e = np.exp(x.astype(np.clongdouble))
    p = special.softmax(x, 1)
    np.testing.assert_allclose(
        p, e / e.sum(axis=1, keepdims=True), rtol=500 * float(np.finfo(dtype).eps)
    )
    for layout in LAYOUTS.values():
        np.testing.assert_array_equal(special.softmax(layout(x), 1), p)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_masks_and_temperatures(isa: str, dtype: str) -> None:
    rng = np.random.default_rng(16)
    x = (rng.standard_normal((4, 30)) + 1j * rng.standard_normal((4, 30))).astype(dtype)
    where = rng.random((4, 30)) < 0.5
    where[:, 0] = True
    x[~where] = complex(NAN, INF)
    t = rng.uniform(0.5, 2, 4)
    for b in (None, rng.standard_normal(30), 1j * rng.random((4, 1)) + 1):
        got = logsumexp(x, b=b, where=where, temperature=t, keepdims=True)
        assert got.shape == (4, 1)
        for i in range(4):
            w = np.broadcast_to(1 if b is None else b, x.shape)[i, where[i]]
            total = np.sum(w * np.exp(x[i, where[i]].astype(np.clongdouble) / t[i]))
            assert abs(got[i, 0] - np.log(total)) <= 100 * np.finfo(dtype).eps


def test_bits_of_complex_rows(isa: str, threads: Callable[[int], None]) -> None:
    rng = np.random.default_rng(17)
    x = rng.standard_normal((300, 70)) + 9j * rng.standard_normal((300, 70))
    b = rng.standard_normal((300, 70))
    threads(1)
    value = logsumexp(x, b=b)
    threads(2)
    for layout in LAYOUTS.values():
        np.testing.assert_array_equal(logsumexp(layout(x), b=layout(b)), value)
    np.testing.assert_array_equal([logsumexp(v, b=w) for v, w in zip(x, b, strict=True)], value)

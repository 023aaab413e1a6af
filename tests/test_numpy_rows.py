"""The NumPy path: axes, layouts, masks, bits and memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from boltzmax.arrays.numpy_path import log_softmax, logsumexp, softmax

Array = npt.NDArray[Any]

INF, NAN = np.inf, np.nan
LIMIT = 8 * float(np.finfo(np.longdouble).eps)


def simple(x: Array, axes: tuple[int, ...], b: Any = 1) -> Array:
    """The textbook formula in long double, for moderate numbers."""
    v = x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble)
    return np.log(np.sum(b * np.exp(v), axis=axes))


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 2), (1, 0), (2, 1), (0, 1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble", "complex128"])
def test_axes_and_layouts(axes: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(5)
    for shape in ((3, 4, 5), (70, 3, 80), (2, 300, 90)):
        c_order = rng.standard_normal(shape).astype(dtype)
        limit = 20 * float(np.finfo(dtype).eps)
        tolerance_ = {"rtol": limit, "atol": limit}
        for x in (c_order, np.asfortranarray(c_order), c_order[::-1, ::2, ::-1]):
            b = rng.uniform(0.5, 1, x.shape[-1])
            np.testing.assert_allclose(logsumexp(x, axes), simple(x, axes), **tolerance_)
            np.testing.assert_allclose(logsumexp(x, axes, b=b), simple(x, axes, b), **tolerance_)
            kept = logsumexp(x, axes, b=b, keepdims=True)
            assert kept.shape == tuple(1 if k in axes else n for k, n in enumerate(x.shape))
            if dtype == "longdouble":
                log_sum = np.asarray(logsumexp(x, axes, keepdims=True))
                np.testing.assert_allclose(log_softmax(x, axes), x - log_sum, **tolerance_)
                np.testing.assert_allclose(softmax(x, axes), np.exp(x - log_sum), **tolerance_)


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 2047, 2048, 2049, 5000, 70_001])
def test_bits_do_not_depend_on_batch_layout_or_position(n: int) -> None:
    rng = np.random.default_rng(6)
    x, b = rng.standard_normal((2, 37 if n < 5000 else 5, n))
    b[0, rng.random(n) < 0.5] = 0
    together = logsumexp(x, (1,), b=b, return_sign=True)
    for got in (
        [logsumexp(x[i], (0,), b=b[i], return_sign=True) for i in range(len(x))],
        [logsumexp(x[i : i + 1], (1,), b=b[i : i + 1], return_sign=True) for i in range(len(x))],
        zip(*logsumexp(x.T.copy(), (0,), b=b.T.copy(), return_sign=True), strict=True),
        zip(*logsumexp(x[:, None], (2,), b=b[:, None], return_sign=True), strict=True),
        zip(*(v[::-1] for v in logsumexp(x[::-1], (1,), b=b[::-1], return_sign=True)), strict=True),
    ):
        for i, (value, sign) in enumerate(got):
            assert value == together[0][i]
            assert sign == together[1][i]
    wide = x.astype(np.longdouble)
    for function in (softmax, log_softmax):
        whole = function(wide, (1,))
        assert (whole == function(wide.T.copy(), (0,)).T).all()
        assert all((function(row, (0,)) == y).all() for row, y in zip(wide, whole, strict=True))


@pytest.mark.parametrize("n", [4095, 4096, 66_000, 200_003])
def test_long_rows(n: int) -> None:
    rng = np.random.default_rng(7)
    x, b = rng.standard_normal((2, n))
    x[n // 2] = 20
    value, sign = logsumexp(x, (0,), b=b, return_sign=True)
    total = np.sum(b.astype(np.longdouble) * np.exp(x.astype(np.longdouble)))
    np.testing.assert_allclose(value, float(np.log(np.abs(total))), rtol=1e-15)
    assert sign == np.sign(total)
    ordinary = logsumexp(np.where(np.arange(n) == n - 1, INF, x), (0,))
    assert ordinary == INF
    assert np.isnan(logsumexp(np.where(np.arange(n) == 5, NAN, x), (0,)))
    assert logsumexp(np.full(n, -INF), (0,)) == -INF
    assert logsumexp(np.where(np.arange(n) == n - 1, -7.5, -INF), (0,)) == -7.5


def test_mask_and_temperature() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((6, 50, 4)).astype(np.longdouble)
    x[2, 3, 1], x[4, 5, 2] = NAN, INF
    where = rng.random((50, 4)) < 0.6
    where[3, 1] = where[5, 2] = False
    where[:, 3] = False
    temperature = rng.uniform(0.5, 2, (6, 1, 4)).astype(np.longdouble)
    p = softmax(x, (1,), where=where, temperature=temperature)
    q = log_softmax(x, (1,), where=where, temperature=temperature)
    b = rng.standard_normal((50, 1)).astype(np.longdouble)
    masked = {"where": where, "temperature": temperature}
    s, signs = logsumexp(x, (1,), b=b, return_sign=True, **masked)
    for i in range(6):
        for k in range(4):
            keep = where[:, k]
            row = x[i, keep, k] / temperature[i, 0, k]
            np.testing.assert_allclose(p[i, keep, k], softmax(row, (0,)), rtol=LIMIT)
            np.testing.assert_allclose(q[i, keep, k], log_softmax(row, (0,)), rtol=LIMIT)
            expected, sign = logsumexp(row, (0,), b=b[keep, 0], return_sign=True)
            np.testing.assert_allclose(s[i, k], expected, rtol=LIMIT, atol=LIMIT)
            assert signs[i, k] == sign
    assert (p[:, ~where] == 0).all()
    assert (q[:, ~where] == -INF).all()
    assert (s[:, 3] == -INF).all()
    assert (signs[:, 3] == 0).all()


def test_empty() -> None:
    for axes, shape in (((0,), (4,)), ((1,), (0,)), ((0, 1), ()), ((), (0, 4))):
        value, sign = logsumexp(np.empty((0, 4)), axes, return_sign=True)
        assert value.shape == sign.shape == shape
        assert (value == -INF).all()
        assert (sign == 0).all()
        for function in (softmax, log_softmax):
            assert function(np.empty((0, 4), np.longdouble), axes).shape == (0, 4)


def test_memory_is_bounded() -> None:
    """No temporaries as large as the input."""
    x = np.zeros((1 << 21, 2), np.float32)
    b = np.ones(x.shape, np.float32)
    for args, axes in (((x, b), (0,)), ((x.T, b.T), (0,)), ((x.T, b.T), (1,)), ((x, b), (0, 1))):
        tracemalloc.start()
        logsumexp(args[0], axes, b=args[1])
        result = 8 * 4 * max(1, x.size // np.prod([args[0].shape[k] for k in axes]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - result < 8 << 20

"""Corners of other forms of softmax: numbers at the limits of a dtype, and what must not spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax.margin import MarginSoftmax, cosine_logits, margin_logits_backward

pytestmark = pytest.mark.usefixtures("strict")
INF = np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_the_lowest_number_write_nothing_beyond_them(isa: str, dtype: Any) -> None:
    lowest = np.finfo(dtype).min
    for n in range(1, 40):
        for alpha in (2.0, 1.5, 3.0, 1.2):
            buffer = np.full(n + 80, 7, dtype)
            y = boltzmax.entmax(np.full(n, lowest), alpha, out=buffer[:n])
            np.testing.assert_allclose(y, 1 / n, rtol=1e-6)
            assert (buffer[n:] == 7).all(), (n, alpha)


@pytest.mark.parametrize("alpha", [3.0, 5.0, 10.0])
def test_steep_gradients_keep_their_digits(isa: str, alpha: float) -> None:
    for n in (2, 60):
        y, dy = np.zeros(n), np.zeros(n)
        y[:2], dy[:2] = [0.99, 0.01], [1.0, 2.0]
        s = y[:2] ** (2 - alpha)
        want = s[0] * s[1] / s.sum()
        dx = boltzmax.entmax_backward(dy, y, alpha)
        np.testing.assert_allclose(dx[:2], [-want, want], rtol=1e-10)
        dx = boltzmax.entmax_backward(dy.astype("f4"), y.astype("f4"), alpha)
        np.testing.assert_allclose(dx[:2], [-want, want], rtol=1e-5)


@pytest.mark.parametrize("alpha", [3.0, 5.0, 10.0])
def test_steep_gradients_by_alpha_keep_their_digits(isa: str, alpha: float) -> None:
    # The probabilities are (0.99, 0.01).
    x = np.array([0.99, 0.01]) ** (alpha - 1) / (alpha - 1)
    dy, step = np.array([1.0, 2.0]), 1e-5
    y = boltzmax.entmax(x, alpha)
    np.testing.assert_allclose(y, [0.99, 0.01], rtol=1e-6)
    up, down = boltzmax.entmax(x, alpha + step), boltzmax.entmax(x, alpha - step)
    want = dy @ (up - down) / (2 * step)
    assert abs(want) > 1e-3
    np.testing.assert_allclose(boltzmax.entmax_alpha_grad(dy, y, alpha), want, rtol=1e-4)


def test_gradients_outside_the_support_do_not_count(isa: str) -> None:
    for n in (5, 1000):
        y, dy = np.zeros(n, np.float32), np.ones(n, np.float32)
        y[0], dy[n // 2] = 1, INF
        for backward in (boltzmax.sparsemax_backward, boltzmax.entmax15_backward):
            assert (backward(dy, y) == 0).all()


SPARSE_GRADIENTS = {
    "sparsemax": boltzmax.sparsemax_backward,
    "entmax15": boltzmax.entmax15_backward,
    "entmax": lambda dy, y: boltzmax.entmax_backward(dy, y, 1.3),
    "entmax, steep": lambda dy, y: boltzmax.entmax_backward(dy, y, 3.0),
}


@pytest.mark.parametrize("name", SPARSE_GRADIENTS)
def test_nan_in_sparse_gradients(isa: str, dtype: np.dtype[Any], name: str) -> None:
    """NaN among the probabilities makes the whole row NaN; in dy, only the row's support."""
    for n in (2, 9, 33, 300):
        y, dy = np.zeros((3, n), dtype), np.ones((3, n), dtype)
        y[:, 0] = 1
        y[1, n // 2] = np.nan
        dy[2, 0] = np.nan
        got = SPARSE_GRADIENTS[name](dy, y).astype(float)
        assert (got[0] == 0).all()
        assert np.isnan(got[1]).all()
        assert np.isnan(got[2, 0])
        assert (got[2, 1:] == 0).all()


def test_alpha_and_temperature_of_rows(isa: str) -> None:
    x = np.array([[1000.0011, 1000.0], [1.0, 2.0]], np.float32)
    got = boltzmax.entmax(x, [1.3, 1.3], temperature=[[1e-3], [2e-3]])
    for row, t, p in zip(x, (1e-3, 2e-3), got, strict=True):
        np.testing.assert_allclose(p, boltzmax.entmax(row, 1.3, temperature=t), rtol=1e-5)
    huge = np.array([[1e308, -1e308], [1.0, 2.0]])
    assert boltzmax.entmax(huge, [1.3, 1.5], temperature=[[1e-3], [2.0]])[0].tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_where_probabilities_vanish(isa: str, dtype: Any) -> None:
    for n in (2, 60):
        x, dy = np.full(n, -INF, dtype), np.zeros(n, dtype)
        x[:2], dy[1] = [2000, 0], 1
        dx = boltzmax.log_sigsoftmax_backward(dy, x)
        np.testing.assert_allclose(dx[:2], [-1, 1.5], rtol=1e-6)
        x[:2] = [1, np.finfo(dtype).smallest_subnormal]
        assert np.isfinite(boltzmax.spherical_softmax_backward(dy, x)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_of_squares_that_underflow(isa: str, dtype: Any) -> None:
    """2 x / sum of squares, for elements and rows whose squares are below the range."""
    tiny = {np.float32: 1e-25, np.float64: 1e-200}[dtype]
    for n in (4, 80):
        for scale in (1.0, tiny, float(np.finfo(dtype).tiny) * 8):
            x, dy = np.zeros(n, dtype), np.zeros(n, dtype)
            x[:4] = np.array([1.0, -tiny if scale == 1.0 else 0.25, 0.5, 0.0]) * scale
            dy[:4] = [0.5, 1.0, 0.0, 3.0]
            wide = x.astype(np.longdouble)
            squares = (wide**2).sum()
            want = 2 * wide / squares * (dy - (dy * wide**2).sum() / squares)
            got = boltzmax.spherical_softmax_backward(dy, x)
            finite = np.abs(want) < np.finfo(dtype).max
            rtol = 16 * np.finfo(dtype).eps
            np.testing.assert_allclose(got[finite], want[finite].astype(float), rtol=rtol)


def test_scores_far_from_zero() -> None:
    ones = np.ones(4)
    far = np.full(4, 1e16)
    np.testing.assert_allclose(
        boltzmax.logcumsumexp_backward(ones, far), boltzmax.logcumsumexp_backward(ones, ones)
    )
    np.testing.assert_allclose(
        boltzmax.windowed_softmax_backward([1.0, 0, 0, 0], far, 3),
        boltzmax.windowed_softmax_backward([1.0, 0, 0, 0], ones, 3),
    )
    z = np.array([[0.0, -4.0], [0.0, -2.0]])
    np.testing.assert_allclose(
        boltzmax.mixture_log_softmax(z + 1e16, [0.0, 0.0]),
        boltzmax.mixture_log_softmax(z, [0.0, 0.0]),
    )
    dz, da = boltzmax.mixture_log_softmax_backward([1.0, 1.0], [[0, -INF], [1, -INF]], [0.0, 0.0])
    assert (da == 0).all()
    assert np.isfinite(dz).all()


def test_gradients_of_elements_that_do_not_count() -> None:
    where = [True, False, True]
    dx = boltzmax.windowed_softmax_backward([1.0, np.nan, 1.0], [0.0, 5.0, 0.0], 3, where=where)
    assert (dx == 0).all()


@pytest.mark.parametrize("score", [-1e308, 1.3e308, 1.7e308, -7e307])
def test_online_sums_of_huge_scores(score: float) -> None:
    total = boltzmax.OnlineLogSumExp()
    total.update([score])
    assert total.value == score
    total.update([0.0])
    assert total.value == max(score, 0.0)


def test_unaligned_input() -> None:
    x = np.ndarray(3, float, bytearray(25), 1)
    x[...] = [0.0, 1.0, 2.0]
    aligned = x.copy()
    assert boltzmax.gumbel_max(x, rng=1) == boltzmax.gumbel_max(aligned, rng=1)
    assert (boltzmax.segment_softmax(x, [0, 3]) == boltzmax.segment_softmax(aligned, [0, 3])).all()
    assert (
        boltzmax.mixture_log_softmax(x[None], [0.0])
        == boltzmax.mixture_log_softmax(aligned[None], [0.0])
    ).all()


def test_gumbel_gradient_corners() -> None:
    out = np.array(9.0)
    dx = boltzmax.gumbel_softmax_backward(np.array(1.0), np.array(0.5), temperature=0.5, out=out)
    assert dx is out
    assert out == 0.5
    dx = boltzmax.gumbel_softmax_backward([INF, 0.0], [0.5, 0.5], temperature=0)
    assert (dx == 0).all()
    half = [np.array(v, np.float16) for v in ([1e-3, 0], [1e-4, 1 - 1e-4])]
    dx = boltzmax.gumbel_softmax_backward(*half, temperature=1e-4)
    np.testing.assert_allclose(dx[0], 1e-3, rtol=2e-2)


def test_a_layer_keeps_its_result() -> None:
    layer = boltzmax.GumbelSoftmax(rng=1)
    y = layer([1.0, 2.0])
    before = layer.backward([1.0, 0.0])
    y *= 0
    assert (layer.backward([1.0, 0.0]) == before).all()
    assert boltzmax.GumbelSoftmax(1e-29).anneal(0.01, 0) == 0


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="below 2"):
        boltzmax.segment_softmax([0.0], np.array([0, 2**63], np.uint64))
    with pytest.raises(ValueError, match="scale must be finite in float16"):
        cosine_logits(np.ones((1, 2), "f2"), np.ones((1, 2), "f2"), scale=1e30)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: boltzmax.gumbel_max(m), "logits is a masked array; pass its data, and -inf at"),
        (lambda m: boltzmax.entmax(m.data, m[:, 0]), "alpha is a masked array; pass its data"),
        (lambda m: boltzmax.sparsemax(m.data, temperature=m[:, 0]), "temperature is a masked"),
        (lambda m: boltzmax.sparsemax(m.data, where=m > 0), "where is a masked array; pass"),
        (lambda m: boltzmax.sparsemax_backward(m, m.data), "dy is a masked array; pass its data$"),
        (lambda m: boltzmax.segment_softmax(m.data[0], m[0].astype(int)), "indptr is a masked"),
        (lambda m: boltzmax.segment_softmax(m[0], [0, 3]), "x is a masked array; pass its data, a"),
        (lambda m: boltzmax.OnlineLogSumExp().update(m), "chunk is a masked array; pass its data"),
        (lambda m: boltzmax.mixture_log_softmax(m.data, m[:, 0]), "mixture_logits is a masked arr"),
        (lambda m: cosine_logits(m, m.data), "features is a masked array; pass its data"),
    ],
)
def test_masked_arrays_are_refused(call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(TypeError, match=f"^{words}"):
        call(np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3)))


def test_margins_may_change_during_training() -> None:
    layer = MarginSoftmax(4, 3, seed=0, dtype="f8")
    plain = MarginSoftmax(4, 3, seed=0, dtype="f8", m2=0.0)
    hidden, target = np.eye(3), [0, 1, 2]
    assert layer.loss(hidden, target) != plain.loss(hidden, target)
    layer.m2 = 0.0
    assert layer.loss(hidden, target) == plain.loss(hidden, target)
    layer.scale = -5
    with pytest.raises(ValueError, match="scale must be positive"):
        layer.loss(hidden, target)


def test_margin_gradient_at_cosine_1_is_finite_in_half_precision() -> None:
    d = margin_logits_backward(np.ones((1, 2), "f2"), np.array([[1, 0.5]], "f2"), [0], m2=0.5)
    assert np.isfinite(d).all()

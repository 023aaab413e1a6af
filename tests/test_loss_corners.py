"""Regression tests for corner cases of the losses and row_stats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import boltzmax

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("low", [-1e4, -1e5, -1e9, -3e38])
def test_entropy_of_padded_rows(isa: str, low: float) -> None:
    """A row that begins far below its maximum."""
    x = np.random.default_rng(0).standard_normal(400).astype(np.float32)
    x[:128] = low
    expected = boltzmax.row_stats(x[128:].astype(np.float64)).entropy
    assert boltzmax.row_stats(x).entropy == pytest.approx(expected, rel=1e-6)


def test_entropy_of_extremes() -> None:
    """Differences that overflow belong to terms that are 0."""
    for dtype, big in (("float32", 3e38), ("float64", 1.7e308)):
        x = np.full(400, -big, dtype)
        x[300:] = big
        assert boltzmax.row_stats(x).entropy == pytest.approx(np.log(100), rel=1e-6)


def test_soft_targets_do_not_cancel() -> None:
    """Logits may be huge, or one class nearly certain."""
    huge = np.full((1, 3), 1e30, np.float32)
    for options in ({"label_smoothing": 0.1}, {}):
        target = [0] if options else [[0.2, 0.3, 0.5]]
        assert boltzmax.cross_entropy(huge, target, **options) == pytest.approx(np.log(3))
    loss = boltzmax.cross_entropy([[1e15, 1e15 + 1]], [0], label_smoothing=0.1)
    assert loss == pytest.approx(1.2632616875, rel=1e-9)
    sure = boltzmax.cross_entropy([[30.0, -10.0]], [[1.0, 0.0]])
    assert sure == pytest.approx(np.exp(-40), rel=1e-9)


def test_infinite_losses_of_weight_zero() -> None:
    """A weight of 0 leaves out even an infinite loss; the other classes keep theirs."""
    logits, weight = [[-INF, 0.0, 0.0]], [0.0, 1.0, 1.0]
    for target, options in (([0], {"label_smoothing": 0.3}), ([[0.8, 0.1, 0.1]], {})):
        loss, gradient = boltzmax.cross_entropy_with_grad(
            logits, target, weight=weight, reduction="sum", **options
        )
        assert loss == pytest.approx(0.2 * np.log(2), rel=1e-14)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-16)


def test_out_over_the_sample_weights() -> None:
    """The weights are read before the gradient is written."""
    logits, memory = np.array([[0.1, 0.2, 0.9], [1, 2, 3.0]]), np.array([0.5, 2, 0, 0, 0, 0])
    for function in (boltzmax.cross_entropy_with_grad, boltzmax.focal_loss_with_grad):
        expected = function(logits, [1, 2], sample_weight=[0.5, 2])[0]
        m = memory.copy()
        assert function(logits, [1, 2], sample_weight=m[:2], out=m.reshape(2, 3))[0] == expected


def test_ignored_rows_do_not_matter() -> None:
    """Neither their logits nor their weights."""
    bad = [[NAN, INF, 1], [1, 2, 3.0]]
    _, gradient = boltzmax.cross_entropy_with_grad(bad, [-100, 1], softcap=3.0)
    assert not gradient[0].any()
    logits = [[0.0, 1, 2], [1.0, 0, 0]]
    expected = boltzmax.cross_entropy(logits, [-100, 1])
    for options in ({"weight": [NAN, 1, 1]}, {"weight": [INF, 1, 1]}, {"sample_weight": [NAN, 1]}):
        assert boltzmax.cross_entropy(logits, [-100, 1], **options) == expected
    _, gradient = boltzmax.cross_entropy_with_grad(
        logits, [-100, 1], weight=[INF, 1, 1], label_smoothing=0.1, reduction="sum"
    )
    assert not gradient[0].any()


def test_unaligned() -> None:
    """Unaligned memory is copied."""
    odd = np.zeros(56, np.uint8)[1:49].view(np.float64).reshape(2, 3)
    assert boltzmax.cross_entropy(odd, [0, 0]) == pytest.approx(np.log(3))
    assert boltzmax.row_stats(odd).lse == pytest.approx(np.log(3))
    _, gradient = boltzmax.cross_entropy_with_grad(odd, [0, 0], out=odd)
    assert gradient is odd
    assert odd[0, 0] == pytest.approx(-1 / 3)


def test_impossible_targets() -> None:
    """At -inf the loss is infinite, its gradient is not; with weight 0 there is no loss."""
    for gamma in (0.0, 2.0):
        _, gradient = boltzmax.focal_loss_with_grad([[0.0, -INF]], [1], gamma=gamma)
        np.testing.assert_array_equal(gradient, [[1, -1]])
    logits = [[0.0, -INF], [0.0, 1.0]]
    weighted = boltzmax.cross_entropy(logits, [1, 1], sample_weight=[0, 1.0])
    assert weighted == boltzmax.cross_entropy([[0.0, 1.0]], [1])
    assert boltzmax.cross_entropy(logits, [1, 1], label_smoothing=0.1) == INF
    assert np.isnan(boltzmax.cross_entropy([[NAN, 0.0]], [0], weight=[0, 1.0], reduction="sum"))


@pytest.mark.parametrize("n", [3, 40, 700])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_with_plus_infinity(isa: str, dtype: str, n: int) -> None:
    """NaN for every target, though the log-probability of finite classes is -inf."""
    x = np.zeros((2, n), dtype)
    x[0, -1] = INF
    for target in (0, n - 1):
        assert np.isnan(boltzmax.cross_entropy(x[:1], [target]))
        loss, gradient = boltzmax.cross_entropy_with_grad(x, [target, 0], reduction="sum")
        assert np.isnan(loss)
        assert np.isnan(gradient[0]).all()
        assert np.isfinite(gradient[1]).all()
        assert np.isnan(boltzmax.focal_loss(x[:1], [target]))
    log_prob = boltzmax.log_softmax(x[:1])
    assert boltzmax.nll_loss(log_prob, [0]) == INF
    assert np.isnan(boltzmax.nll_loss(log_prob, [n - 1]))
    hidden, weight = np.ones((1, 1), dtype), x[:1].T
    assert boltzmax.linear_cross_entropy(hidden, weight, [0]) == INF
    assert np.isnan(boltzmax.linear_cross_entropy(hidden, weight, [n - 1]))


def test_segments_on_both_sides_of_the_limit() -> None:
    """Their units differ by a power of two and an offset that nearly cancel."""
    x = np.zeros((1, 140_000))
    x[0, :65536] = 2.0**19 - 1
    x[0, 65536:] = 2.0**19 + 1
    expected = -2 - np.log(65536 * np.exp(-2) + 140_000 - 65536)
    assert boltzmax.log_softmax(x)[0, 0] == pytest.approx(expected, rel=4e-16)


def test_more_errors() -> None:
    """Invalid arguments are refused."""
    masked = np.ma.array([0, 1], mask=[0, 1])
    logits = np.zeros((2, 2))
    with pytest.raises(TypeError, match="masked"):
        boltzmax.cross_entropy(logits, masked)
    with pytest.raises(TypeError, match="masked"):
        boltzmax.cross_entropy(logits, [0, 1], sample_weight=np.ma.array([1.0, 2.0]))
    with pytest.raises(TypeError, match="real"):
        boltzmax.cross_entropy(logits, [0, 1], sample_weight=["1", "5"])
    with pytest.raises(ValueError, match="softcap"):
        boltzmax.cross_entropy(logits, [0, 1], softcap=1e39)
    with pytest.raises(ValueError, match="gamma"):
        boltzmax.focal_loss(logits, [0, 1], gamma=INF)
    with pytest.raises(IndexError):
        boltzmax.row_stats(logits, np.array([0, -(2**63)]))
    assert np.isnan(boltzmax.cross_entropy(np.zeros((0, 2)), []))


def test_half_gradients_are_rounded_once() -> None:
    """Probability targets: the remainder of two numbers that nearly cancel."""
    x = np.full((1, 3), 0.5, np.float16)
    _, gradient = boltzmax.cross_entropy_with_grad(x, [[0.3333, 0.3333, 0.3334]])
    expected = 1 / 3 - np.array([[0.3333, 0.3333, 0.3334]])
    np.testing.assert_allclose(gradient.astype(float), expected, rtol=2e-3)


@pytest.mark.parametrize(
    ("logits", "dtype"),
    [
        ([[2e38, -2e38, -2e38]], np.float32),
        ([[-2e38, 2e38, 0.0]], np.float32),
        ([[1e307] + 999 * [-1e307]], np.float64),
    ],
)
def test_smoothing_of_huge_logits(logits: list[list[float]], dtype: type[np.floating[Any]]) -> None:
    """A finite loss stays finite for any distances in its sum."""
    x = np.array(logits, dtype)
    options: dict[str, Any] = {"label_smoothing": 0.1, "temperature": 4.0}
    even = boltzmax.cross_entropy(x, [0], **options)
    weighted = boltzmax.cross_entropy(x, [0], weight=np.ones(x.shape[1]), **options)
    assert np.isfinite(even)
    np.testing.assert_allclose(even, weighted, rtol=1e-6)


def test_entropy_of_a_peaked_row() -> None:
    """It is not lost next to a large maximum, and never negative."""
    exact = 40 * math.exp(-40) + math.exp(-40)
    for shift in (0.0, 100.0, 1e6):
        entropy = boltzmax.row_stats([[shift, shift - 40.0]]).entropy
        np.testing.assert_allclose(entropy, exact, rtol=1e-9)
    x = 30 * np.random.default_rng(0).standard_normal((4000, 50))
    assert np.all(boltzmax.row_stats(x).entropy >= 0)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_loss_beyond_its_dtype_is_infinite(reduction: str) -> None:
    """It does not warn."""
    logits = np.array([[3e38, -3e38]], np.float32)
    loss = boltzmax.cross_entropy(logits, [1], reduction=reduction)
    assert np.all(loss == np.inf)

"""Losses of drawn classes: corners and refusals."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import boltzmax
from boltzmax.candidates import InBatchSampler, QuadraticKernelSampler, UniformSampler
from every_function import OF_DRAWS
from sampled_oracle import DRAWS, D, V, draws_of, gradient_of, layer, loss_of


def test_rows_without_negatives() -> None:
    """If every candidate is a hit, the target is certain."""
    h, w, t, b = layer(3)
    t[:] = 4
    found = boltzmax.sampled_softmax_loss_with_grad(h, w, t, ([4, 4], [0.0, 1.0]), bias=b)
    assert found.loss == 0
    np.testing.assert_array_equal(found.unit_ids, [4])
    assert not found.d_hidden.any()
    assert not found.d_weight.any()


@pytest.mark.parametrize("name", OF_DRAWS)
def test_nan_stays_in_its_row(name: str) -> None:
    h, w, t, b = layer()
    h[1] = np.nan
    for shape in DRAWS.values():
        draws = draws_of(shape, t)
        losses = loss_of(name)(h, w, t, draws, bias=b, reduction="none")
        np.testing.assert_array_equal(np.isnan(losses), np.arange(9) == 1)
        t_without = np.where(np.arange(9) == 1, -100, t)
        found = gradient_of(name)(h, w, t_without, draws, bias=b, reduction="sum")
        np.testing.assert_allclose(found.loss, np.nansum(losses), rtol=1e-13)
        assert not found.d_hidden[1].any()
        assert np.isfinite(found.d_weight).all()
        assert np.isnan(gradient_of(name)(h, w, t, draws, bias=b).d_hidden[1]).all()


def test_extreme_scores() -> None:
    """Losses of sure answers keep their digits; of hopeless ones, they are the distance."""
    w = np.array([[1.0], [0.0]])
    for dtype, scores in ((np.float32, (50.0, 1e4)), (np.float64, (600.0, 1e300))):
        for s in scores:
            h = np.array([[s], [-s]], dtype)
            for name in ("sampled_softmax_loss", "negative_sampling_loss"):
                draws = [1], [0.0]
                rest = np.log(2.0) if name == "negative_sampling_loss" else 0.0
                losses = loss_of(name)(h, w.astype(dtype), [0, 0], draws, reduction="none")
                np.testing.assert_allclose(losses - rest, [np.exp(-s), s], rtol=1e-6, atol=1e-7)


def test_targets_that_are_never_drawn() -> None:
    h, w, t, b = layer(2)
    draws = [3, 5], [0.0, 0.0], [-np.inf, 0.0]
    found = boltzmax.nce_loss_with_grad(h, w, t, draws, bias=b)
    assert np.isfinite(found.loss)
    assert np.isfinite(found.d_hidden).all()


@pytest.mark.parametrize("name", OF_DRAWS)
def test_no_rows(name: str) -> None:
    _, w, _, b = layer()
    for n, target in ((0, []), (3, [-100, -100, -100])):
        h = np.ones((n, D))
        draws = [1, 2], [0.0, 0.0], np.zeros(n)
        for empty, loss in (("nan", np.nan), ("zero", 0.0)):
            found = gradient_of(name)(h, w, np.array(target, int), draws, bias=b, empty=empty)
            np.testing.assert_array_equal(found.loss, loss)
            np.testing.assert_array_equal(found.d_hidden, np.zeros((n, D)))
            np.testing.assert_array_equal(found.unit_ids, [1, 2])
            assert not found.d_weight.any()


@pytest.mark.parametrize("name", OF_DRAWS)
def test_samplers_are_not_asked_without_rows(name: str) -> None:
    """So that a batch of ignored rows is no error with samplers that look at the rows."""
    h, w, t, b = layer()
    for sampler in (QuadraticKernelSampler(w), UniformSampler(V), InBatchSampler(t)):
        for hidden, target in ((h, np.full_like(t, -100)), (h[:0], t[:0])):
            found = gradient_of(name)(hidden, w, target, sampler, n=3, bias=b)
            assert np.isnan(found.loss)
            assert found.unit_ids.shape == found.d_bias.shape == (0,)
            assert found.d_weight.shape == (0, D)
            np.testing.assert_array_equal(found.d_hidden, np.zeros_like(hidden))


def test_infinite_scores_of_targets() -> None:
    """As over all classes: inf - inf is NaN, and a target of -inf is infinitely unlikely."""
    h, w, t, b = layer(1)
    others = np.delete(np.arange(V), t), np.zeros(V - 1)
    for score, loss in ((np.inf, np.nan), (-np.inf, np.inf)):
        b[t] = score
        for ids, log_q in (others, (others[0][None], others[1][None])):
            found = boltzmax.sampled_softmax_loss(h, w, t, (ids, log_q), bias=b)
            np.testing.assert_array_equal(found, loss)
        np.testing.assert_array_equal(boltzmax.linear_cross_entropy(h, w, t, b), loss)


def test_converted_weights_are_copied_in_parts() -> None:
    """Those of a row's own candidates: all at once would be 128 MB."""
    rng = np.random.default_rng(0)
    h, w = rng.normal(size=(128, 256)), rng.normal(size=(50, 256)).astype(np.float32)
    t, ids = rng.integers(50, size=128), rng.integers(50, size=(128, 512))
    draws = ids, np.zeros(ids.shape)
    expected = boltzmax.sampled_softmax_loss_with_grad(h, w.astype(np.float64), t, draws)
    tracemalloc.start()
    try:
        found = boltzmax.sampled_softmax_loss_with_grad(h, w, t, draws)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e7
    for a, e in zip(found[:4], expected[:4], strict=True):
        np.testing.assert_allclose(a, e, atol=1e-13)


# ---- refusals


@pytest.mark.parametrize("name", OF_DRAWS)
def test_refusals_of_samplers(name: str) -> None:
    h, w, t, _ = layer()
    for given, words in (
        (None, "must return .+ got NoneType"),
        (np.arange(3), "must return .+ got ndarray"),
        ((np.arange(3),), "must return .+ got a tuple of 1"),
    ):
        sampler = SimpleNamespace(sample=lambda n, given=given, **_: given)
        with pytest.raises(TypeError, match=words):
            loss_of(name)(h, w, t, sampler, n=3)
    with pytest.raises(TypeError, match="got the class UniformSampler"):
        loss_of(name)(h, w, t, UniformSampler, n=3)
    with pytest.raises(ValueError, match="draws from 31 classes, but weight has 30 rows"):
        loss_of(name)(h, w, t, UniformSampler(V + 1), n=3)


def test_masked_draws_are_refused_without_advice_on_weights() -> None:
    h, w, t, _ = layer()
    good = [np.array([1, 2]), np.zeros(2), np.zeros(9)]
    for i, name in enumerate(("ids", "log_q", "target_log_q")):
        draws = tuple(np.ma.array(x) if k == i else x for k, x in enumerate(good))
        with pytest.raises(TypeError, match=f"^{name} is a masked array; pass its data$"):
            boltzmax.nce_loss(h, w, t, draws)


@pytest.mark.parametrize("name", OF_DRAWS)
def test_refusals_of_draws(name: str) -> None:
    h, w, t, _ = layer()
    q, some, square = np.zeros(9), [1, 2], np.ones((2, 2), int)
    for draws, error, words in (
        (([], [], q), ValueError, r"ids must be \(n,\) or \(9, n\) with n > 0, got shape \(0,\)"),
        ((3, 0.0, q), ValueError, r"ids must be .+ got shape \(\)"),
        (
            (square, square, q),
            ValueError,
            r"ids must be .+ got shape \(2, 2\)",
        ),
        (([0.5], [0.0], q), TypeError, "ids must be integers, got dtype float64"),
        (([1, 30], [0.0, 0.0], q), IndexError, r"ids\[1\] is 30, out of range for 30 classes"),
        (([-1], [0.0], q), IndexError, r"ids\[0\] is -1, out of range"),
    ):
        with pytest.raises(error, match=words):
            loss_of(name)(h, w, t, draws)
    if name != "negative_sampling_loss":
        for draws, error, words in (
            ((some, [0.0], q), ValueError, r"log_q must have one number per candidate, \(2,\)"),
            ((some, [0.0, np.nan], q), ValueError, r"log_q must be finite, got log_q\[1\] = nan"),
            ((some, [-np.inf, 0.0], q), ValueError, r"log_q must be finite, got log_q\[0\] = -inf"),
            (
                (some,),
                TypeError,
                r"sampler must be an object .+ got a tuple of 1",
            ),
            (some, TypeError, r"sampler must be an object .+, got list"),
        ):
            with pytest.raises(error, match=words):
                loss_of(name)(h, w, t, draws)
    sampler = UniformSampler(V)
    for given, error, words in (
        ({}, TypeError, "n, the number of candidates to draw, is missing"),
        ({"n": 0}, ValueError, "n must be at least 1, got 0"),
        ({"n": 1.5}, TypeError, "n must be an integer"),
        ({"n": 2, "remove_hits": np.ones(2)}, ValueError, "remove_hits must be True or False"),
    ):
        with pytest.raises(error, match=words):
            loss_of(name)(h, w, t, sampler, **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws from 4 classes, but weight has 30 rows"):
        loss_of(name)(h, w, t, UniformSampler(4), n=3)
    with pytest.raises(TypeError, match="n is for a sampler"):
        loss_of(name)(h, w, t, (some, [0.0, 0.0], q), n=3)
    with pytest.raises(ValueError, match="hidden must have shape"):
        loss_of(name)(h[:, 1:], w, t, sampler, n=3)


def test_refusals_of_targets_counts() -> None:
    h, w, t, _ = layer()
    with pytest.raises(ValueError, match=r"target_log_q must have one number per row, \(9,\)"):
        boltzmax.nce_loss(h, w, t, ([1], [0.0], [0.0]))

"""Losses of drawn classes: corners and refusals."""

from __future__ import annotations

import numpy as np
import pytest

import boltzmax
from boltzmax.candidates import UniformSampler
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


# ---- refusals


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

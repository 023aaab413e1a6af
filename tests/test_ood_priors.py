"""Scores of unfamiliar rows, and class priors that changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax.ood import auroc, energy_score, entropy, fpr_at_tpr, gen, max_logit, max_prob
from boltzmax.priors import adjust_priors, estimate_priors

Array = NDArray[Any]


def shifted(rows: int, priors: Array, seed: int) -> tuple[Array, Array]:
    """Logits of Bayes' rule with equal priors for normal classes, and labels of other priors."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(priors), rows, p=priors)
    x = rng.normal(size=(rows, len(priors)))
    x[np.arange(rows), y] += 2.0
    return 2.0 * x, y


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_scores_by_formula(dtype: Any) -> None:
    z = (3 * np.random.default_rng(0).normal(size=(50, 12))).astype(dtype)
    wide = z.astype(np.longdouble)
    lse = np.log(np.exp(wide).sum(axis=1))
    p = np.exp(wide - lse[:, None])
    top = -np.sort(-p, axis=1)[:, :4]
    tolerance = 1e-13 if dtype == np.float64 else 2e-6
    for found, wanted in (
        (energy_score(z), lse),
        (energy_score(z, 2.0), 2 * np.log(np.exp(wide / 2).sum(axis=1))),
        (max_logit(z), wide.max(axis=1)),
        (max_prob(z), p.max(axis=1)),
        (entropy(z), (p * np.log(p)).sum(axis=1)),
        (gen(z, 0.3, 4), -((top * (1 - top)) ** 0.3).sum(axis=1)),
        (gen(z), -((p * (1 - p)) ** 0.1).sum(axis=1)),
    ):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted.astype(float), rtol=50 * tolerance, atol=tolerance)
    if dtype == np.float64:
        q = p.astype(np.float64)
        np.testing.assert_allclose(max_prob(q, from_probs=True), max_prob(z), rtol=1e-12)


def test_rates_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for a, b in ((1, 1), (5, 7), (100, 40)):
        inner, outer = np.round(rng.random(a) + 0.2, 1), np.round(rng.random(b), 1)
        pairs = (inner[:, None] > outer) + 0.5 * (inner[:, None] == outer)
        assert auroc(inner, outer) == pytest.approx(pairs.mean(), abs=1e-15)
        for tpr in (0.5, 0.95, 0.05):
            best = max(t for t in inner if (inner >= t).mean() >= tpr - 1e-12)
            assert fpr_at_tpr(inner, outer, tpr) == (outer >= best).mean()
    # 0.7 * 10 is a little more than 7 in floats.
    assert fpr_at_tpr(np.arange(10.0), [2.5], 0.7) == 0.0
    with pytest.raises(ValueError, match="in_scores has NaN in row 1"):
        auroc([1.0, np.nan], [1.0])
    with pytest.raises(ValueError, match="out_scores must be one number per row"):
        fpr_at_tpr([1.0], [])
    with pytest.raises(ValueError, match="tpr must be between"):
        fpr_at_tpr([1.0], [1.0], 1.0)
    with pytest.raises(ValueError, match="gamma must be"):
        gen([[1.0, 2.0]], 1.5)


SCORES: dict[str, Any] = {
    "energy_score": energy_score,
    "max_logit": max_logit,
    "max_prob": max_prob,
    "entropy": entropy,
    "gen": gen,
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_at_the_edges(name: str) -> None:
    """One class, no rows, rows without probabilities, huge logits: numbers or NaN, no warnings."""
    score = SCORES[name]
    assert np.isfinite(score(np.zeros((2, 1)))).all()
    assert score(np.zeros((0, 3))).shape == (0,)
    found = score(np.array([[np.nan, 0.0], [-np.inf, -np.inf], [-np.inf, 1.0]]))
    assert np.isnan(found[0])
    assert np.isnan(found[1]) if name not in ("energy_score", "max_logit") else found[1] == -np.inf
    assert np.isfinite(found[2])
    for dtype in (np.float32, np.float64):
        sure, unsure = score(np.array([[1e30, -1e30], [0.0, 0.0]], dtype))
        assert sure > unsure


def test_rates_of_infinite_and_equal_scores() -> None:
    inf = np.inf
    assert auroc([inf, inf], [-inf, inf]) == 0.75
    assert auroc([1, 1], [1]) == 0.5
    assert fpr_at_tpr([inf, inf], [-inf, inf]) == 0.5
    assert fpr_at_tpr([1, 1], [1]) == 1.0


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_priors_of_degenerate_rows(method: str) -> None:
    """One row; all rows of one class: priors all the same."""
    source, source_y = shifted(500, np.full(3, 1 / 3), 0)
    certain = np.array([[900.0, 0.0, -np.inf]])
    for rows in (1, 20):
        z = np.repeat(certain, rows, axis=0)
        found = estimate_priors(z, [0.2, 0.3, 0.5], method, source, source_y)
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert (found >= 0).all()
        assert found[0] > 0.9
    assert estimate_priors([[5.0]] * 3, [1.0]).tolist() == [1.0]


@pytest.mark.parametrize("method", ["em", "bbse"])
def test_priors_are_found(method: str) -> None:
    train, now = np.full(3, 1 / 3), np.array([0.7, 0.25, 0.05])
    source, source_y = shifted(20_000, train, 0)
    z, y = shifted(20_000, now, 1)
    found = estimate_priors(z, train, method, source, source_y)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, now, atol=0.02)
    adjusted = adjust_priors(z, train, found)
    assert adjusted.dtype == z.dtype
    assert (adjusted.argmax(axis=1) == y).mean() > (z.argmax(axis=1) == y).mean()
    assert boltzmax.cross_entropy(adjusted, y) < boltzmax.cross_entropy(z, y)
    if method == "em":
        counted = estimate_priors(z, source_y=source_y)
        np.testing.assert_allclose(counted, found, atol=0.02)


def test_two_classes_in_one_column() -> None:
    z, _ = shifted(5000, np.array([0.8, 0.2]), 0)
    one = estimate_priors(z[:, 1] - z[:, 0], [0.5, 0.5])
    np.testing.assert_allclose(one, estimate_priors(z, [0.5, 0.5]), atol=1e-6)
    moved = adjust_priors(np.zeros(3), [0.5, 0.5], [0.2, 0.8])
    np.testing.assert_allclose(moved, np.log(4) * np.ones(3))


def test_adjusted_logits() -> None:
    z = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    back = adjust_priors(
        adjust_priors(z, [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]), [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]
    )
    np.testing.assert_allclose(back, z, atol=1e-6)
    gone = adjust_priors(z, [0.2, 0.3, 0.5], [0.5, 0.5, 0.0])
    assert (gone[:, 2] == -np.inf).all()


def test_bad_priors() -> None:
    z = np.zeros((4, 2))
    for priors, what in (
        ([0.5, 0.6], "train_priors must sum to 1, got 1.1"),
        ([0.0, 1.0], "train_priors must be positive and finite, got 0 for class 0"),
        ([1.0], "train_priors must be one per class"),
        ([np.nan, 1.0], "for class 0"),
    ):
        with pytest.raises(ValueError, match=what):
            adjust_priors(z, priors, [0.5, 0.5])
        with pytest.raises(ValueError, match=what):
            estimate_priors(z, priors)
    with pytest.raises(ValueError, match="test_priors must be not negative"):
        adjust_priors(z, [0.5, 0.5], [-0.5, 1.5])
    with pytest.raises(ValueError, match='method="em" needs train_priors'):
        estimate_priors(z)
    with pytest.raises(ValueError, match='method="bbse" needs source_logits'):
        estimate_priors(z, method="bbse")
    with pytest.raises(ValueError, match="class 1 does not occur in source_y"):
        estimate_priors(z, None, "bbse", z, [0] * 4)
    with pytest.raises(ValueError, match="class 1 does not occur in source_y"):
        estimate_priors(z, source_y=[0] * 4)
    for options in ({}, {"method": "bbse", "source_logits": z}):
        with pytest.raises(IndexError, match="source_y 2 at position 3 is out of range for 2"):
            estimate_priors(z, source_y=[0, 1, 0, 2], **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source_y must be integers of shape"):
        estimate_priors(z, source_y=[0.0, 1.0])
    with pytest.raises(ValueError, match="the confusion matrix is singular"):
        estimate_priors(z, None, "bbse", z, [0, 1] * 2)
    with pytest.raises(ValueError, match="the first is row 2"):
        estimate_priors([[0.0, 1.0], [0.0, 1.0], [np.nan, 0.0]], [0.5, 0.5])
    with pytest.warns(UserWarning, match="after 1 steps"):
        estimate_priors(shifted(100, np.array([0.9, 0.1]), 0)[0], [0.5, 0.5], max_iter=1)

"""Risk-coverage curves, and the areas under them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from boltzmax.selective import (
    augrc,
    aurc,
    coverage_at_risk,
    e_aurc,
    plot_risk_coverage,
    risk_coverage_curve,
)


def test_curves_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 10, 200):
        score, loss = np.round(rng.random(n), 1), (rng.random(n) < 0.3) * 1.0
        curve = risk_coverage_curve(score, loss)
        for t, c, r in zip(curve.threshold, curve.coverage, curve.risk, strict=True):
            assert c == (score >= t).mean()
            assert r == pytest.approx(loss[score >= t].mean())
        assert curve.coverage[-1] == 1
        each = [loss[score >= s].mean() for s in score]
        assert aurc(score, loss) == pytest.approx(np.mean(each))
        a = 1 - loss.mean()
        pairs = [(x > y) + 0.5 * (x == y) for x in score[loss == 0] for y in score[loss == 1]]
        auroc = np.mean(pairs) if pairs else 0.0
        assert augrc(score, loss) == pytest.approx((1 - auroc) * a * (1 - a) + (1 - a) ** 2 / 2)
        assert e_aurc(-loss + 1e-3 * np.arange(n) / n, loss) == pytest.approx(0, abs=1e-12)
        assert e_aurc(score, loss) >= 0


@pytest.mark.parametrize(
    ("score", "loss", "areas"),
    [
        ([1.0], [0], (0.0, 0.0, 0.0)),
        ([1.0], [1], (1.0, 0.5, 0.0)),
        ([2.0, 1.0], [1, 1], (1.0, 0.5, 0.0)),
        ([1.0, 1.0], [0, 1], (0.5, 0.25, 0.25)),
        ([np.inf, -np.inf], [0, 1], (0.25, 0.125, 0.0)),
    ],
)
def test_areas_at_the_edges(score: Any, loss: Any, areas: Any) -> None:
    """One row, all right, all wrong, ties, scores without end."""
    found = aurc(score, loss), augrc(score, loss), e_aurc(score, loss)
    assert found == pytest.approx(areas, abs=1e-15)


def test_coverage_at_risk_and_plot() -> None:
    score, loss = [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 0]
    assert coverage_at_risk(score, loss, 0.0) == 0.25
    assert coverage_at_risk(score, loss, 0.25) == 1.0
    assert coverage_at_risk(score, [1, 1, 1, 1], 0.5) == 0.0
    pytest.importorskip("matplotlib").use("agg")
    axes = plot_risk_coverage(score, loss, label="model")
    assert axes.get_xlabel() == "coverage"
    assert plot_risk_coverage(score, loss, axes) is axes


@pytest.mark.parametrize(
    ("score", "loss", "what"),
    [
        ([], [], "and some, got shape"),
        ([1.0], [1.0, 2.0], "loss has shape"),
        ([np.nan], [1.0], "score has NaN in row 0"),
        ([1.0, 2.0], [0.0, -1.0], "got -1 in row 1"),
        ([1.0], [np.inf], "got inf in row 0"),
    ],
)
def test_bad_curves(score: Any, loss: Any, what: str) -> None:
    for function in (risk_coverage_curve, aurc, augrc, e_aurc):
        with pytest.raises(ValueError, match=what):
            function(score, loss)

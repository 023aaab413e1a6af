"""Hidden vectors with zeros: weights that they do not use make no difference."""

from __future__ import annotations

import numpy as np

import boltzmax
from boltzmax import TwoStageClassifier
from boltzmax.screens import exact
from screen_samples import hostile


def test_features_that_a_row_does_not_use():
    """More classes tie than are ever compared, with different weights that make no difference."""
    n = 3 * exact.MOST_COMPARED
    w = np.random.default_rng(5).standard_normal((n, 4)).astype(np.float32)
    w[:, 1] = np.arange(n) % 2
    for bias in (None, np.zeros(n, np.float32), -np.float32(np.arange(n) // 2 % 5)):
        layer = TwoStageClassifier(w, bias)
        scores = w[:, 1] if bias is None else w[:, 1] + bias
        for x, logits in (([0, 2, 0, 0], 2 * w[:, 1] + (scores - w[:, 1])), ([0] * 4, bias)):
            top = layer.topk([x, [1, 1, 1, 1]], 9)
            order = np.arange(n) if logits is None else np.argsort(-logits, kind="stable")
            np.testing.assert_array_equal(top.ids[0], order[:9])
            np.testing.assert_array_equal(top.ids[1:], layer.topk([[1, 1, 1, 1]], 9).ids)
            assert top.certified.all()
            assert (top.rescored[0] == 0) == (not any(x))
            exact_logits = np.zeros(n) if logits is None else logits.astype(float)
            want = exact_logits[order[:9]] - boltzmax.logsumexp(exact_logits)
            assert (top.log_probs.lower[0] <= want).all()
            assert (want <= top.log_probs.upper[0]).all()


def test_rows_of_zeros_cost_nothing(monkeypatch):
    w, _, b = hostile("normal")
    layer = TwoStageClassifier(w, b)
    monkeypatch.setattr(exact.ExactWeights, "in_order", None)
    top = layer.topk(np.zeros((3, 17)), 150, certify=False)
    np.testing.assert_array_equal(top.ids, [np.argsort(-b, kind="stable")] * 3)
    assert top.certified.all()

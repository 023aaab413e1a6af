"""Screens of the user's own: whatever arrays they return, answers are right or refused."""

from __future__ import annotations

import numpy as np
import pytest

from boltzmax import Screen, TwoStageClassifier
from screen_samples import hostile


class Own(Screen):
    """Exact logits and a little, as `change` leaves them."""

    def __init__(self, w, change):
        self.n_classes, self.n_features = w.shape
        self._w, self._change = w.astype(float), change

    def intervals(self, hidden, first=0, last=None):
        logits = np.asarray(hidden, float) @ self._w[first:last].T
        return self._change(logits - 1e-3, logits + 1e-3)


def frozen(*bounds):
    for bound in bounds:
        bound.flags.writeable = False
    return bounds


@pytest.mark.parametrize(
    "change",
    [frozen, lambda a, b: (a.astype("f4"), b.astype("f4")), lambda a, b: (a.tolist(), b.tolist())],
    ids=["read-only", "float32", "lists"],
)
def test_arrays_of_an_own_screen(change):
    w, x, _ = hostile("normal")
    layer, want = TwoStageClassifier(w, screen=Own(w, change)), TwoStageClassifier(w)
    np.testing.assert_array_equal(layer.topk(x, 5).ids, want.topk(x, 5).ids)
    np.testing.assert_array_equal(layer.sample(x, 3), want.sample(x, 3))
    bounds = layer.log_partition(x, 1e-6)
    assert (bounds.upper - bounds.lower <= 1e-6).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, b: (b, a), "lower <= upper"),
        (lambda a, b: (a * np.nan, b), "lower <= upper, got nan"),
        (lambda a, b: (a[:, 1:], b[:, 1:]), "shape"),
        (lambda a, b: (a[0], b[0]), "shape"),
    ],
    ids=["swapped", "NaN", "a class too few", "one row"],
)
def test_wrong_arrays_of_an_own_screen(change, message):
    w, _, _ = hostile("normal")
    with pytest.raises(ValueError, match=f"intervals of Own.*{message}"):
        TwoStageClassifier(w, screen=Own(w, change))

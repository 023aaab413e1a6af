"""Data sets for the tests of classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Make = Callable[..., Any]
Split = tuple[Array, Array, Array, Array]


def halves(load: Callable[..., Any]) -> Split:
    """Return the samples to train on and those to test on, then the classes of both."""
    from sklearn.model_selection import train_test_split

    x, y = load(return_X_y=True)
    found = train_test_split(x, y, test_size=0.5, random_state=0, stratify=y)
    return found[0], found[1], found[2], found[3]


def overlapping_classes() -> tuple[Array, Array]:
    """Return three features, and four classes that overlap in them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    return x, (x @ rng.normal(size=(3, 4)) + rng.gumbel(size=(200, 4))).argmax(axis=1)


def coefficients(model: Any) -> Array:
    """Return the coefficients of a trained classifier, (units, D)."""
    return np.asarray(model.coef_ if hasattr(model, "coef_") else model.layer_.weight)

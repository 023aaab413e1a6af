"""Data sets for the tests of classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

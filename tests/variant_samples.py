"""The registry of the functions in `boltzmax.variants`: how each is called, and what it returns.

`test_variants.py` runs on all of them.  A function that needs more arguments than the scores is
listed with these bound, once for each choice worth testing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import boltzmax

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Variant:
    """A map or a reduction of rows.

    Parameters
    ----------
    function : callable
        Takes the scores, `axis`, `where`, `dtype` and `out`.
    exact : callable
        Takes a row of scores without masked elements in long double, and returns its result.
    ulps : float
        The largest error, in units in the last place of the largest element of the row's result.
    backward : callable, optional
        Takes dy, x, y, `axis` and `where`, and returns the gradient by x.
    masked : float
        The result of a masked element.
    reduces : bool
        Whether a row has one result.
    positional : bool
        Whether elements depend on their places, so that masking is not the same as removing.
    scale : float
        The standard deviation of the scores in the tests.
    """

    function: Callable[..., Any]
    exact: Callable[[Array], Any]
    ulps: float
    backward: Callable[..., Any] | None = None
    masked: float = 0.0
    reduces: bool = False
    positional: bool = False
    scale: float = 1.0


def _spherical(x: Array) -> Array:
    square = np.where(x == -np.inf, 0.0, x) ** 2
    total = square.sum()
    return square / total if total else (x != -np.inf) / (x != -np.inf).sum()


VARIANTS: dict[str, Variant] = {
    "spherical_softmax": Variant(
        boltzmax.spherical_softmax,
        _spherical,
        2.0,
    ),
}

"""The registry of the functions in `boltzmax.variants`: how each is called, and what it returns.

`test_variants.py` runs on all of them.  A function that needs more arguments than the scores is
listed with these bound, once for each choice worth testing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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


def _shares(weights: Array) -> Array:
    """Weights divided by their sum; equal where that is 0."""
    total = weights.sum()
    return (
        weights / total if total else np.full(weights.shape, 1 / weights.dtype.type(weights.size))
    )


def _spherical(x: Array) -> Array:
    return _shares(x**2)


def _taylor(x: Array, order: int, temperature: float = 1.0) -> Array:
    terms = [np.longdouble(1) / math.factorial(k) for k in range(order, -1, -1)]
    return _shares(np.polyval(np.array(terms), x / temperature))


def _sigsoftmax(x: Array, temperature: float = 1.0) -> Array:
    z = x / temperature
    log_weights = z + np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))
    return _shares(np.exp(log_weights - log_weights.max()))


def _of_x(backward: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A gradient that reads the input of the map, not its result."""

    def call(dy: Any, x: Any, y: Any, **more: Any) -> Any:
        return backward(dy, x, **options, **more)

    return call


def _shape(
    name: str, exact: Callable[..., Any], ulps: float, scale: float = 1.0, **options: Any
) -> Variant:
    """A map of `boltzmax.variants.shapes`, whose gradient has the same options."""
    is_log = name.startswith("log_")
    return Variant(
        partial(getattr(boltzmax, name), **options),
        (lambda x: np.log(exact(x, **options))) if is_log else partial(exact, **options),
        ulps,
        _of_x(getattr(boltzmax, f"{name}_backward"), **options),
        masked=-np.inf if is_log else 0.0,
        scale=scale,
    )


VARIANTS: dict[str, Variant] = {
    "spherical_softmax": _shape("spherical_softmax", _spherical, 2.0),
    "taylor_softmax": _shape("taylor_softmax", _taylor, 4.0, order=2),
    "taylor_softmax:4": _shape("taylor_softmax", _taylor, 8.0, 2.0, order=4),
    "taylor_softmax:12": _shape("taylor_softmax", _taylor, 24.0, 3.0, order=12),
    "taylor_softmax:warm": _shape("taylor_softmax", _taylor, 8.0, order=4, temperature=0.3),
    "log_taylor_softmax": _shape("log_taylor_softmax", _taylor, 4.0, order=2),
    "log_taylor_softmax:8": _shape("log_taylor_softmax", _taylor, 4.0, 4.0, order=8),
    "sigsoftmax": _shape("sigsoftmax", _sigsoftmax, 4.0),
    "sigsoftmax:cool": _shape("sigsoftmax", _sigsoftmax, 4.0, temperature=0.7),
    "log_sigsoftmax": _shape("log_sigsoftmax", _sigsoftmax, 4.0, 3.0),
    "log_sigsoftmax:warm": _shape("log_sigsoftmax", _sigsoftmax, 4.0, temperature=2.0),
}

"""The registry of the functions in `boltzmax.variants`: how each is called, and what it returns.

`test_variants.py` runs on all of them.  A function that needs more arguments than the scores is
listed with these bound, once for each choice worth testing.
"""

from __future__ import annotations

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
    masked : float, optional
        The result of a masked element; None if that depends on others.
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
    masked: float | None = 0.0
    reduces: bool = False
    positional: bool = False
    scale: float = 1.0


def _spherical(x: Array) -> Array:
    square = np.where(x == -np.inf, 0.0, x) ** 2
    total = square.sum()
    return square / total if total else (x != -np.inf) / (x != -np.inf).sum()


def _running(x: Array) -> Array:
    return np.log(np.cumsum(np.exp(x - x.max()))) + x.max()


def window_sums(e: Array, window: int) -> Array:
    """The sum of the window around each element of a row."""
    half = min(window // 2, len(e) - 1)
    padded = np.pad(e, half)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).sum(axis=-1)


def _windowed_softmax(window: int) -> Variant:
    def exact(x: Array) -> Array:
        e = np.exp(x - x.max())
        return e / window_sums(e, window)

    def backward(dy: Array, x: Array, y: Array, axis: Any = -1, where: Any = None) -> Any:
        return boltzmax.windowed_softmax_backward(dy, x, window, axis, where=where)

    function = partial(boltzmax.windowed_softmax, window=window)
    return Variant(function, exact, 6.0, backward, positional=True)


def _windowed_logsumexp(window: int) -> Variant:
    def exact(x: Array) -> Array:
        return np.log(window_sums(np.exp(x - x.max()), window)) + x.max()

    def backward(dy: Array, x: Array, y: Array, axis: Any = -1, where: Any = None) -> Any:
        return boltzmax.windowed_logsumexp_backward(dy, x, window, axis, where=where)

    function = partial(boltzmax.windowed_logsumexp, window=window)
    # The maximum and the logarithm of the sum may cancel.
    return Variant(function, exact, 16.0, backward, masked=None, positional=True)


def _running_backward(dy: Array, x: Array, y: Array, axis: Any = -1, where: Any = None) -> Any:
    return boltzmax.logcumsumexp_backward(dy, x, axis, where=where)


VARIANTS: dict[str, Variant] = {
    "logcumsumexp": Variant(
        boltzmax.logcumsumexp, _running, 8.0, _running_backward, masked=None, positional=True
    ),
    "spherical_softmax": Variant(
        boltzmax.spherical_softmax,
        _spherical,
        2.0,
    ),
    "windowed_logsumexp:40": _windowed_logsumexp(40),
    "windowed_logsumexp:601": _windowed_logsumexp(601),
    "windowed_softmax:1": _windowed_softmax(1),
    "windowed_softmax:3": _windowed_softmax(3),
    "windowed_softmax:20": _windowed_softmax(20),
    "windowed_softmax:51": _windowed_softmax(51),
    "windowed_softmax:600": _windowed_softmax(600),
}

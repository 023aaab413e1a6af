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


@np.errstate(all="ignore")
def exact_entmax(x: Array, alpha: float) -> Array:
    """Alpha-entmax by sorting, and bisection for the threshold.

    Scores are measured from the least element of the support; for a large alpha its probability is
    the unknown, as otherwise digits would be lost.
    """
    b = np.longdouble(alpha) - 1
    values = np.sort(b * x[x > x.max() - 1 / b])[::-1]

    def powers(scores: Array, v: Any) -> Array:
        return np.asarray((scores + (v if alpha <= 2 else v**b)) ** (1 / b))

    def excess(least: Any, v: Any) -> Any:
        return powers(values[values >= least] - least, v).sum() - 1

    # The support ends before the first element at which those above it add up to one.
    distinct = np.unique(values)[::-1]
    first, last = 0, len(distinct)
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (middle, last) if excess(distinct[middle], 0 * b) < 0 else (first, middle)
    least = distinct[first]
    low: Any = 0 * b
    high: Any = 0 * b + 1
    for _ in range(90):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(least, middle) < 0 else (low, middle)
    p, inside = np.zeros_like(x), b * x >= least
    p[inside] = powers(b * x[inside] - least, low)
    return p


def _sparsemax(x: Array) -> Array:
    """By sorting: Martins & Astudillo, ICML 2016, algorithm 1."""
    values = np.sort(x[x != -np.inf])[::-1] - x.max()
    counts = np.arange(1, len(values) + 1)
    thresholds = (np.cumsum(values) - 1) / counts
    size = counts[values > thresholds][-1]
    return np.asarray(np.maximum(x - x.max() - thresholds[size - 1], 0))


def _entmax15(x: Array) -> Array:
    """By sorting: Peters, Niculae & Martins, ACL 2019, algorithm 2."""
    values = (np.sort(x[x != -np.inf])[::-1] - x.max()) / 2
    counts = np.arange(1, len(values) + 1)
    mean = np.cumsum(values) / counts
    spread = np.cumsum(values**2) / counts - mean**2
    thresholds = mean - np.sqrt(np.maximum((1 - counts * spread) / counts, 0))
    size = counts[thresholds <= values][-1]
    return np.asarray(np.maximum((x - x.max()) / 2 - thresholds[size - 1], 0) ** 2)


def _of_result(backward: Callable[..., Any], dy: Array, x: Array, y: Array, **options: Any) -> Any:
    """The gradient of a map, from its result; masked elements are 0 there."""
    options.pop("where", None)
    return backward(dy, y, **options)


def _entmax_variant(alpha: float, ulps: float) -> Variant:
    backward = partial(_of_result, lambda dy, y, **o: boltzmax.entmax_backward(dy, y, alpha, **o))
    return Variant(
        partial(boltzmax.entmax, alpha=alpha),
        partial(exact_entmax, alpha=alpha),
        ulps,
        backward if alpha < 2 else None,  # steeper ones are too steep for differences
    )


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
    "sparsemax": Variant(
        boltzmax.sparsemax,
        _sparsemax,
        3.0,
        partial(_of_result, boltzmax.sparsemax_backward),
    ),
    "entmax15": Variant(
        boltzmax.entmax15,
        _entmax15,
        5.0,
        partial(_of_result, boltzmax.entmax15_backward),
    ),
    "entmax:1.05": _entmax_variant(1.05, 5.0),
    "entmax:1.3": _entmax_variant(1.3, 5.0),
    "entmax:2.5": _entmax_variant(2.5, 32.0),
    "entmax:20": _entmax_variant(20.0, 32.0),
    "logcumsumexp": Variant(
        boltzmax.logcumsumexp, _running, 8.0, _running_backward, masked=None, positional=True
    ),
    "windowed_logsumexp:40": _windowed_logsumexp(40),
    "windowed_logsumexp:601": _windowed_logsumexp(601),
    "windowed_softmax:1": _windowed_softmax(1),
    "windowed_softmax:3": _windowed_softmax(3),
    "windowed_softmax:20": _windowed_softmax(20),
    "windowed_softmax:51": _windowed_softmax(51),
    "windowed_softmax:600": _windowed_softmax(600),
}

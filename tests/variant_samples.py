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


VARIANTS: dict[str, Variant] = {
    "spherical_softmax": Variant(
        boltzmax.spherical_softmax,
        _spherical,
        2.0,
    ),
    "sparsemax": Variant(
        boltzmax.sparsemax,
        _sparsemax,
        2.0,
        partial(_of_result, boltzmax.sparsemax_backward),
    ),
    "entmax15": Variant(
        boltzmax.entmax15,
        _entmax15,
        3.0,
        partial(_of_result, boltzmax.entmax15_backward),
    ),
    "entmax:1.05": _entmax_variant(1.05, 4.0),
    "entmax:1.3": _entmax_variant(1.3, 4.0),
    "entmax:2.5": _entmax_variant(2.5, 4.0),
    "entmax:20": _entmax_variant(20.0, 4.0),
}

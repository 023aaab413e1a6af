"""Minimise a smooth convex function of many numbers: L-BFGS (Nocedal, 1980)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Function = Callable[[Doubles], tuple[float, Doubles]]

_MEMORY = 20  # pairs of steps and changes of the gradient
_MOST_TRIES = 40  # of a step
_DECREASE, _CURVATURE = 1e-4, 0.9  # Wolfe's conditions


class Minimum(NamedTuple):
    """Where the search ended."""

    x: Doubles
    value: float
    n_iter: int
    converged: bool


def minimize(function: Function, start: Doubles, tol: float, max_iter: int) -> Minimum:
    """Return the minimum of a convex function, from its values and gradients.

    Parameters
    ----------
    function : callable
        Returns the value and the gradient; the value may be infinite far from the minimum.
    start : ndarray
        Where to begin.
    tol : float
        The search has converged once no element of the gradient is larger, or if the value cannot
        be told from its neighbours'.
    max_iter : int
        The most steps.
    """
    x = start.copy()
    value, gradient = function(x)
    pairs: deque[tuple[Doubles, Doubles, float]] = deque(maxlen=_MEMORY)
    for done in range(max_iter):
        if np.abs(gradient).max(initial=0.0) <= tol:
            return Minimum(x, value, done, True)
        direction = -_times_inverse_hessian(gradient, pairs)
        first = 1.0 if pairs else 1.0 / max(1.0, float(np.linalg.norm(gradient)))
        found = _step(function, x, value, gradient, direction, first)
        if found is None:
            if pairs:  # try once more, along the gradient
                pairs.clear()
                continue
            return Minimum(x, value, done, True)  # only rounding is left
        step, new_value, new_gradient = found
        change, bend = step * direction, new_gradient - gradient
        product = float(change @ bend)
        if product > 1e-12 * float(np.linalg.norm(change) * np.linalg.norm(bend)):
            pairs.append((change, bend, product))
        x, value, gradient = x + change, new_value, new_gradient
    return Minimum(x, value, max_iter, bool(np.abs(gradient).max(initial=0.0) <= tol))


def _times_inverse_hessian(gradient: Doubles, pairs: Any) -> Doubles:
    """Return the two-loop recursion's product (Nocedal & Wright, 2006, algorithm 7.4)."""
    q = gradient.copy()
    gains = []
    for change, bend, product in reversed(pairs):
        gain = float(change @ q) / product
        gains.append(gain)
        q -= gain * bend
    if pairs:
        _, bend, product = pairs[-1]
        q *= product / float(bend @ bend)
    for (change, bend, product), gain in zip(pairs, reversed(gains), strict=True):
        q += (gain - float(bend @ q) / product) * change
    return q


def _step(
    function: Function,
    x: Doubles,
    value: float,
    gradient: Doubles,
    direction: Doubles,
    first: float,
) -> tuple[float, float, Doubles] | None:
    """Return a step that meets Wolfe's conditions, by bisection; None if none goes down."""
    slope = float(gradient @ direction)
    low, high, step = 0.0, np.inf, first
    best = None
    for _ in range(_MOST_TRIES):
        at_step, gradient_there = function(x + step * direction)
        if not at_step <= value + _DECREASE * step * slope:
            high = step
        elif float(gradient_there @ direction) < _CURVATURE * slope:
            low, best = step, (step, at_step, gradient_there)
        else:
            return step, at_step, gradient_there
        if high - low <= 1e-12 * high:
            break
        step = 2 * low if high == np.inf else (low + high) / 2
    return best

"""Ensemble temperature scaling: a mixture of three distributions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.scored import Scored
from boltzmax.calibration.base import CalibrationMap
from boltzmax.calibration.temperature import LARGEST, LEAST, best_temperature, scaled
from boltzmax.losses.cross_entropy import cross_entropy

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_MOST_STEPS = 100
_CLOSE = 1e-13  # what a last Newton step may still gain of the mean loss


class EnsembleTemperatureScaling(CalibrationMap):
    r"""Mix the probabilities at a temperature, those at temperature 1, and uniform ones.

    .. math::
        p' = w_1 \text{softmax}(z / T) + w_2 \text{softmax}(z) + w_3 / K

    T is that of `TemperatureScaling`; then the weights, none of them negative, minimise the
    log-likelihood's loss. The order of the classes stays the same.

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.

    Attributes
    ----------
    temperature_ : float
        The temperature T.
    weights_ : ndarray, shape (3,)
        The weights; they sum to 1.

    Notes
    -----
    The uniform part is shared by the classes whose logit is not -inf. A temperature at its bound
    is a `ConvergenceWarning`, as for `TemperatureScaling`.

    References
    ----------
    Zhang, Kailkhura & Han, "Mix-n-Match: ensemble and compositional methods for uncertainty
    calibration in deep learning", ICML 2020, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import EnsembleTemperatureScaling
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(50_000, 4))
    >>> y = (2 * z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> y = np.where(rng.uniform(size=y.size) < 0.3, rng.integers(4, size=y.size), y)
    >>> EnsembleTemperatureScaling().fit(3 * z, y).weights_.sum().round(12)
    np.float64(1.0)
    """

    _learned: ClassVar[tuple[str, ...]] = ("temperature_", "weights_")

    temperature_: float
    weights_: Doubles

    def __init__(self, from_probs: bool = False) -> None:
        self.from_probs = from_probs

    def _fit(self, rows: Scored) -> None:
        assert rows.labels is not None
        temperature, _ = best_temperature(rows, (LEAST, LARGEST))
        at_label = np.empty((rows.n_rows, 3))
        for part in rows.blocks():
            z, label = rows.logits(part), rows.labels[part]
            for j, t in enumerate((temperature, 1.0)):
                at_label[part, j] = np.exp(-cross_entropy(scaled(z, t), label, reduction="none"))
            at_label[part, 2] = 1.0 / np.isfinite(z).sum(axis=1)
        weight = rows.weight(slice(0, rows.n_rows))
        self.temperature_ = temperature
        self.weights_ = best_mixture(at_label[weight > 0], weight[weight > 0])

    def _map(self, rows: Scored, part: slice) -> Array:
        z = rows.logits(part)
        possible = ~np.isneginf(z)
        p = self.weights_[2] * possible / possible.sum(axis=1, keepdims=True)
        for weight, t in zip(self.weights_[:2], (self.temperature_, 1.0), strict=True):
            if weight > 0:
                p += weight * _core.softmax(scaled(z, t), -1)
        result: Array = np.log(p)
        return result

    def _check_learned(self) -> None:
        if self.weights_.shape != (3,) or self.weights_.min() < 0:
            raise ValueError("its weights must be three numbers, none of them negative")
        if not LEAST <= self.temperature_ <= LARGEST:
            raise ValueError(f"the temperature {self.temperature_} is out of range")


def best_mixture(p: Doubles, weight: Doubles) -> Doubles:
    """Return the weights of a mixture with the largest mean log-likelihood.

    Parameters
    ----------
    p : ndarray, shape (N, M)
        The probability of each row under each of a few components; each row has one above 0.
    weight : ndarray, shape (N,)
        The weight of each row.
    """
    best, loss = np.full(p.shape[1], 1.0 / p.shape[1]), np.inf
    for used in _subsets(p.shape[1]):
        found = _unconstrained(p[:, used], weight)
        if found is None or found.min() < 0:
            continue
        at_found = float(-weight @ np.log(p[:, used] @ found)) / float(weight.sum())
        if at_found < loss:
            best, loss = np.zeros(p.shape[1]), at_found
            best[used] = found / found.sum()
        if len(used) == p.shape[1]:
            break  # no bound is active, so this is the minimum
    return best


def _subsets(n: int) -> Iterator[list[int]]:
    """Yield the components that are used, the most first."""
    for size in range(n, 0, -1):
        yield from map(list, combinations(range(n), size))


def _unconstrained(p: Doubles, weight: Doubles) -> Doubles | None:
    """Return the minimum of -mean log(p w) + sum w, where w sums to 1 but may be negative.

    None if a row has no component that makes it possible. The function is self-concordant, and the
    steps are damped (Nesterov & Nemirovskii, 1994).
    """
    if not (p.max(axis=1) > 0).all():
        return None
    share = weight / weight.sum()
    w = np.full(p.shape[1], 1.0 / p.shape[1])
    for _ in range(_MOST_STEPS):
        terms = p / (p @ w)[:, None]
        gradient = 1.0 - share @ terms
        hessian = (terms.T * share) @ terms
        step = np.linalg.lstsq(hessian, -gradient, rcond=1e-12)[0]
        gain = float(-gradient @ step)
        if gain <= _CLOSE:
            return w
        size = 1.0
        while not (p @ (w + size * step) > 0).all() or _rises(p, share, w, step, size, gain):
            size /= 2
            if size < 1e-12:
                return w
        w = w + size * step
    return w


def _rises(p: Doubles, share: Doubles, w: Doubles, step: Doubles, size: float, gain: float) -> bool:
    """Return whether a step gains less than a small part of what its slope promises."""
    change = -share @ np.log1p(size * (p @ step) / (p @ w)) + size * step.sum()
    return not change <= -1e-4 * size * gain

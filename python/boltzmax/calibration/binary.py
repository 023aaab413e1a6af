"""Maps of one probability: Platt scaling, beta calibration, isotonic regression, and histograms.

Two classes need one map, of the log-odds of class 1. Of more, each class has one, of its log-odds
against all others, and the results are divided by their sum (Zadrozny & Elkan, KDD 2002).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.scored import Scored
from boltzmax.calibration.base import CalibrationMap
from boltzmax.calibration.binning import bins_of, check_bins
from boltzmax.calibration.events import Events, columns
from boltzmax.calibration.isotonic import isotonic_knots
from boltzmax.calibration.logistic import fit_logistic, smoothed_targets

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]

_MOST_LOG_ODDS = 80.0  # what lies beyond counts as this


def _log_odds(rows: Scored, part: slice) -> Doubles:
    """Return log p / (1 - p) of each class, or of class 1 of two: (n, maps)."""
    z = rows.logits(part).astype(np.float64)
    if z.shape[1] == 2:
        odds = z[:, 1:] - z[:, :1]
    else:
        log_p = _core.log_softmax(z, -1)
        odds = log_p - np.log(-np.expm1(log_p))
    return np.clip(odds, -_MOST_LOG_ODDS, _MOST_LOG_ODDS)


def _log_probabilities(odds: Doubles) -> Doubles:
    """Return the logarithms of p and of 1 - p, on a new last axis."""
    return np.stack([-np.logaddexp(0.0, -odds), -np.logaddexp(0.0, odds)], axis=-1)


class _OneVersusRest(CalibrationMap):
    """A map of log-odds for each class, or for class 1 of two.

    `tables_` are their arrays, one after the other, of `lengths_` numbers each.
    """

    _learned: ClassVar[tuple[str, ...]] = ("tables_", "lengths_")

    tables_: Doubles
    lengths_: NDArray[np.int64]

    @abstractmethod
    def _fit_one(self, odds: Doubles, happened: Bools, weight: Doubles | None) -> Doubles:
        """Return the numbers that one map has learned."""

    @abstractmethod
    def _log_p(self, table: Doubles, odds: Doubles) -> Doubles:
        """Return the logarithms of the new p and of 1 - p, (n, 2)."""

    def _fit(self, rows: Scored) -> None:
        maps = _n_maps(rows.n_classes)
        assert rows.labels is not None
        tables = []
        for c, odds in columns(rows, _log_odds, maps, np.dtype(np.float64)):
            happened = rows.labels == (1 if rows.n_classes == 2 else c)
            tables.append(self._fit_one(odds, happened, rows.weights))
        self.tables_ = np.concatenate(tables)
        self.lengths_ = np.array([len(table) for table in tables])

    def _split(self) -> list[Doubles]:
        """Return the table of each map."""
        return np.split(self.tables_, np.cumsum(self.lengths_)[:-1])

    def _map(self, rows: Scored, part: slice) -> Array:
        odds, tables = _log_odds(rows, part), self._split()
        if rows.n_classes == 2:
            return self._log_p(tables[0], odds[:, 0])[:, ::-1]
        log_p = np.stack([self._log_p(t, odds[:, c])[:, 0] for c, t in enumerate(tables)], axis=1)
        # Where no class has a probability above 0, all have the same.
        log_p[np.isneginf(log_p).all(axis=1)] = 0.0
        return log_p

    def _check_learned(self) -> None:
        fits = self.lengths_.shape == (_n_maps(self.n_classes_),) and self.lengths_.min() > 0
        if not fits or self.lengths_.sum() != len(self.tables_):
            raise ValueError(f"its tables do not fit {self.n_classes_} classes")


def _n_maps(k: int) -> int:
    return 1 if k == 2 else k


class _Logistic(_OneVersusRest):
    """Maps whose new log-odds are linear in a few features of the old ones."""

    _bears_impossible_labels: ClassVar[bool] = True

    def _log_p(self, table: Doubles, odds: Doubles) -> Doubles:
        return _log_probabilities(self._features(odds) @ table)

    @staticmethod
    @abstractmethod
    def _features(odds: Doubles) -> Doubles:
        """Return the features, (n, D)."""

    @property
    def coef_(self) -> Doubles:
        """The coefficients of each map, (maps, D)."""
        return self.tables_.reshape(len(self.lengths_), -1)


class PlattScaling(_Logistic):
    r"""Fit :math:`p' = \sigma(a s + b)` to the log-odds s.

    Targets are smoothed as in Platt's paper, so that a and b are finite even where the scores
    separate the classes.

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.

    Attributes
    ----------
    coef_ : ndarray, shape (K, 2) or (1, 2)
        The numbers (a, b) for each class; for two classes those of class 1.

    Notes
    -----
    Log-odds beyond 80 count as 80. Of more than two classes, each has a map, and the results are
    divided by their sum.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999; Lin, Lin & Weng, "A note on
    Platt's probabilistic outputs for support vector machines", Machine Learning 68, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import PlattScaling
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=50_000)
    >>> y = rng.uniform(size=50_000) < 1 / (1 + np.exp(-2 * x - 1))
    >>> PlattScaling().fit(x, y).coef_.round(1)
    array([[2., 1.]])
    """

    def __init__(self, from_probs: bool = False) -> None:
        self.from_probs = from_probs

    @staticmethod
    def _features(odds: Doubles) -> Doubles:
        return np.stack([odds, np.ones_like(odds)], axis=1)

    def _fit_one(self, odds: Doubles, happened: Bools, weight: Doubles | None) -> Doubles:
        w = np.ones(len(odds)) if weight is None else weight
        return fit_logistic(self._features(odds), smoothed_targets(happened, w), w)


class BetaCalibration(_Logistic):
    r"""Fit log-odds of :math:`a \log p - b \log(1 - p) + c` with a and b not negative.

    That is the form of calibrated probabilities if p has a beta distribution in each class; with
    a = b it is Platt scaling.

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.

    Attributes
    ----------
    coef_ : ndarray, shape (K, 3) or (1, 3)
        The numbers (a, b, c) for each class; for two classes those of class 1.

    Notes
    -----
    Log-odds beyond 80 count as 80, and targets are smoothed as for `PlattScaling`. Of more than two
    classes, each has a map, and the results are divided by their sum.

    References
    ----------
    Kull, Silva Filho & Flach, "Beta calibration", AISTATS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import BetaCalibration
    >>> rng = np.random.default_rng(0)
    >>> y = rng.uniform(size=100_000) < 0.5
    >>> p = np.where(y, rng.beta(3, 2, y.size), rng.beta(1, 3, y.size))
    >>> BetaCalibration(from_probs=True).fit(p, y).coef_.round(1)[0, :2]  # 3 - 1 and 3 - 2
    array([2., 1.])
    """

    def __init__(self, from_probs: bool = False) -> None:
        self.from_probs = from_probs

    @staticmethod
    def _features(odds: Doubles) -> Doubles:
        logs = _log_probabilities(odds)
        return np.stack([logs[:, 0], -logs[:, 1], np.ones_like(odds)], axis=1)

    def _fit_one(self, odds: Doubles, happened: Bools, weight: Doubles | None) -> Doubles:
        w = np.ones(len(odds)) if weight is None else weight
        features, target = self._features(odds), smoothed_targets(happened, w)
        table = np.zeros(3)
        used = [0, 1, 2]
        while True:
            table[:] = 0.0
            table[used] = fit_logistic(features[:, used], target, w)
            lowest = int(table[:2].argmin())
            if table[lowest] >= 0:
                return table
            used.remove(lowest)


class IsotonicCalibration(_OneVersusRest):
    """Fit the nearest probabilities that do not fall as the log-odds rise.

    Between the knots of the fit, probabilities are linear in the log-odds; beyond them, constant.

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.

    Attributes
    ----------
    tables_ : ndarray
        The log-odds of the knots of each map, then their probabilities.
    lengths_ : ndarray of int
        How many numbers of `tables_` belong to each map.

    Notes
    -----
    Log-odds beyond 80 count as 80. The fit may be 0 or 1. Of more than two classes, each has a map,
    and the results are divided by their sum; where all are 0, they are uniform.

    References
    ----------
    Zadrozny & Elkan, "Transforming classifier scores into accurate multiclass probability
    estimates", KDD 2002.

    Examples
    --------
    >>> from boltzmax.calibration import IsotonicCalibration
    >>> fitted = IsotonicCalibration().fit([-2.0, -1.0, 1.0, 2.0], [0, 1, 0, 1])
    >>> fitted.predict_proba([-3.0, 0.0, 3.0])[:, 1]
    array([0. , 0.5, 1. ])
    """

    _bears_impossible_labels: ClassVar[bool] = True

    def __init__(self, from_probs: bool = False) -> None:
        self.from_probs = from_probs

    def _fit_one(self, odds: Doubles, happened: Bools, weight: Doubles | None) -> Doubles:
        return np.concatenate(isotonic_knots(odds, happened, weight))

    def _log_p(self, table: Doubles, odds: Doubles) -> Doubles:
        knots, values = np.split(table, 2)
        p = np.where(np.isnan(odds), np.nan, np.interp(odds, knots, values))
        return np.stack([np.log(p), np.log1p(-p)], axis=1)


class HistogramBinning(_OneVersusRest):
    """Replace probabilities by how often the event happened in their bin.

    Parameters
    ----------
    n_bins : int, default 15
        The number of bins; of equal mass there may be fewer, since ties are not split.
    binning : {"equal_mass", "equal_width"}, default "equal_mass"
        How the bins are chosen.
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.

    Attributes
    ----------
    tables_ : ndarray
        The right edges of the bins of each map, then their probabilities.
    lengths_ : ndarray of int
        How many numbers of `tables_` belong to each map.

    Notes
    -----
    Of n rows in a bin, of which the event happened in k, the probability is (k + 1) / (n + 2), by
    Laplace's rule, so that none is 0; in an empty bin it is the middle of the bin. A row of weight
    w counts as w rows. Of more than two classes, each has a map, and the results are divided by
    their sum.

    References
    ----------
    Zadrozny & Elkan, "Obtaining calibrated probability estimates from decision trees and naive
    Bayesian classifiers", ICML 2001.

    Examples
    --------
    >>> from boltzmax.calibration import HistogramBinning
    >>> fitted = HistogramBinning(n_bins=2).fit([-2.0, -1.0, 1.0, 2.0], [0, 0, 0, 1])
    >>> fitted.predict_proba([-3.0, 3.0])[:, 1]
    array([0.25, 0.5 ])
    """

    _bears_impossible_labels: ClassVar[bool] = True

    def __init__(
        self, n_bins: SupportsIndex = 15, binning: str = "equal_mass", from_probs: bool = False
    ) -> None:
        self.n_bins = n_bins
        self.binning = binning
        self.from_probs = from_probs

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_bins(self.n_bins, self.binning)

    def _fit_one(self, odds: Doubles, happened: Bools, weight: Doubles | None) -> Doubles:
        n_bins, binning = check_bins(self.n_bins, self.binning)
        p = np.exp(_log_probabilities(odds)[:, 0])
        bins = bins_of(Events(p, happened, weight), n_bins, binning)
        n = bins.weight
        share = (np.where(n > 0, bins.accuracy * n, 0.0) + 1) / (n + 2)
        middle = (bins.edges[:-1] + bins.edges[1:]) / 2
        return np.concatenate([bins.edges[1:], np.where(n > 0, share, middle)])

    def _log_p(self, table: Doubles, odds: Doubles) -> Doubles:
        edges, values = np.split(table, 2)
        p = np.exp(_log_probabilities(odds)[:, 0])
        found = values[np.minimum(np.searchsorted(edges, p), len(edges) - 1)]
        found = np.where(np.isnan(p), np.nan, found)
        return np.stack([np.log(found), np.log1p(-found)], axis=1)

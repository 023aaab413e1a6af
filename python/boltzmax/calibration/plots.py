"""Reliability diagrams: how often events happened, against their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.scored import read_scores_and_labels
from boltzmax.calibration.binning import bins_of, check_bins
from boltzmax.calibration.errors import error_of_bins
from boltzmax.calibration.events import top_label_events
from boltzmax.calibration.interval import check_confidence

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityCurve:
    """The bins with rows in them, in order of their probability.

    Parameters
    ----------
    confidence : ndarray
        The mean probability of each bin.
    accuracy : ndarray
        How often the event happened.
    low, high : ndarray
        Wilson's interval of that share.
    count : ndarray of int64
        The number of rows.
    weight : ndarray
        The sum of their weights.
    edges : ndarray, shape (bins, 2)
        Where each bin begins and ends.
    ece : float
        The expected calibration error of these bins.

    Examples
    --------
    >>> from boltzmax.calibration import reliability_curve
    >>> curve = reliability_curve([0.75, 0.75], [1, 0], from_probs=True)
    >>> curve.accuracy, curve.ece
    (array([0.5]), 0.25)
    """

    confidence: Doubles
    accuracy: Doubles
    low: Doubles
    high: Doubles
    count: NDArray[np.int64]
    weight: Doubles
    edges: Doubles
    ece: float


@quietly
def reliability_curve(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    n_bins: SupportsIndex = 15,
    binning: str = "equal_width",
    sample_weight: ArrayLike | None = None,
    confidence: float = 0.95,
) -> ReliabilityCurve:
    """Return how often the likeliest class is right, against the confidence in it.

    Parameters
    ----------
    logits, y, from_probs, n_bins, binning, sample_weight
        As for `ece`; of the likeliest class, or of class 1 for single numbers.
    confidence : float, default 0.95
        The level of the intervals.

    Returns
    -------
    ReliabilityCurve
        The bins that are not empty.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    DeGroot & Fienberg, "The comparison and evaluation of forecasters", The Statistician 32, 1983;
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Examples
    --------
    >>> from boltzmax.calibration import reliability_curve
    >>> curve = reliability_curve([0.1, 0.2, 0.9], [0, 1, 1], from_probs=True, n_bins=4)
    >>> curve.confidence.round(3), curve.accuracy, curve.count
    (array([0.15, 0.9 ]), array([0.5, 1. ]), array([2, 1]))
    """
    n, how = check_bins(n_bins, binning)
    level = check_confidence(confidence)
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    bins = bins_of(top_label_events(rows), n, how)
    full = bins.weight > 0
    low, high = wilson(bins.accuracy[full], bins.effective_count[full], level)
    edges = np.stack([bins.edges[:-1], bins.edges[1:]], axis=1)
    return ReliabilityCurve(
        confidence=bins.confidence[full],
        accuracy=bins.accuracy[full],
        low=low,
        high=high,
        count=bins.count[full],
        weight=bins.weight[full],
        edges=edges[full],
        ece=float(error_of_bins(bins, 1)),
    )


def wilson(share: Doubles, n: Doubles, level: float) -> tuple[Doubles, Doubles]:
    """Return Wilson's intervals of shares among n."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def plot_reliability(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    n_bins: SupportsIndex = 15,
    binning: str = "equal_width",
    sample_weight: ArrayLike | None = None,
    confidence: float = 0.95,
    ax: Any = None,
    label: str | None = None,
    color: Any = "C0",
) -> Any:
    """Draw a reliability diagram with Matplotlib.

    Points are bins, with intervals; below them is the share of the rows in each. On the diagonal,
    probabilities are as good as they claim to be.

    Parameters
    ----------
    logits, y, from_probs, n_bins, binning, sample_weight, confidence
        As for `reliability_curve`.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on, which may have other diagrams; by default those of a new
        ``matplotlib.pyplot`` figure.
    label : str, optional
        What the legend says; by default there is one that shows the calibration error.
    color : color, default "C0"
        The colour of points and bars.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    IndexError, TypeError, ValueError
        As from `reliability_curve`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from boltzmax.calibration import plot_reliability
    >>> ax = plot_reliability([0.1, 0.2, 0.9], [0, 1, 1], from_probs=True, ax=Figure().subplots())
    >>> ax.get_xlabel()
    'confidence'
    """
    curve = reliability_curve(
        logits,
        y,
        from_probs=from_probs,
        n_bins=n_bins,
        binning=binning,
        sample_weight=sample_weight,
        confidence=confidence,
    )
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError(
                'reliability diagrams need Matplotlib: pip install "boltzmax[demo]"'
            ) from error
        _, ax = pyplot.subplots()
    left, right = curve.edges.T
    share = curve.weight / curve.weight.sum()
    ax.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle="--", zorder=1)
    ax.bar(left, share, right - left, align="edge", color=color, alpha=0.2, zorder=2)
    errors = np.maximum([curve.accuracy - curve.low, curve.high - curve.accuracy], 0.0)
    ax.errorbar(
        curve.confidence,
        curve.accuracy,
        errors,
        fmt="o-",
        color=color,
        markersize=4,
        linewidth=1,
        capsize=2,
        label=f"ECE {curve.ece:.3f}" if label is None else label,
        zorder=3,
    )
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right answers")
    ax.legend(loc="upper left")
    return ax

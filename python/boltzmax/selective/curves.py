"""Risk against coverage: how often answers are wrong if only the surest rows get one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.numbers import check_number, real_numbers

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The result of `risk_coverage_curve`: one element for each threshold, the strictest first.

    Attributes
    ----------
    coverage : ndarray of float64
        The share of the rows whose score is at least the threshold.
    risk : ndarray of float64
        The mean loss of these rows.
    threshold : ndarray of float64
        The distinct scores, falling.

    Examples
    --------
    >>> from boltzmax.selective import risk_coverage_curve
    >>> risk_coverage_curve([0.9, 0.8, 0.5], [0, 0, 1]).risk.round(3)
    array([0.   , 0.   , 0.333])
    """

    coverage: Doubles
    risk: Doubles
    threshold: Doubles


def risk_coverage_curve(score: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """Return the risk of the answered rows at every coverage.

    Parameters
    ----------
    score : array_like, shape (N,)
        How sure each row is; larger is surer. Rows with the same score are answered together.
    loss : array_like, shape (N,)
        The loss of each row's answer, such as 1 if it is wrong and 0 if not: finite, not negative.

    Raises
    ------
    ValueError
        For shapes that differ, no rows, NaN, or a negative loss.

    Notes
    -----
    El-Yaniv & Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 11, 2010.

    Examples
    --------
    >>> from boltzmax.selective import risk_coverage_curve
    >>> curve = risk_coverage_curve([0.9, 0.8, 0.8, 0.5], [0, 0, 1, 1])
    >>> curve.coverage, curve.threshold
    (array([0.25, 0.75, 1.  ]), array([0.9, 0.8, 0.5]))
    """
    scores, losses = _read(score, loss)
    order = np.argsort(-scores, kind="stable")
    ends, threshold = group_ends(scores[order])
    count = ends + 1
    total = np.cumsum(losses[order])[ends]
    return RiskCoverage(count / len(scores), total / count, threshold)


def group_ends(falling: Doubles) -> tuple[NDArray[np.int64], Doubles]:
    """Return the place of the last of each group of equal scores, and the scores."""
    is_last = np.append(falling[1:] != falling[:-1], True)[: len(falling)]
    ends = np.flatnonzero(is_last)
    return ends, falling[ends]


def _read(score: ArrayLike, loss: ArrayLike) -> tuple[Doubles, Doubles]:
    """Return scores and losses, one of each per row."""
    scores, losses = real_numbers(score, "score"), real_numbers(loss, "loss")
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"score must be one number per row, and some, got shape {scores.shape}")
    if losses.shape != scores.shape:
        raise ValueError(f"loss has shape {losses.shape}, but score has shape {scores.shape}")
    bad = np.isnan(scores)
    if bad.any():
        raise ValueError(f"score has NaN in row {int(bad.argmax())}")
    bad = ~((losses >= 0) & (losses < np.inf))
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"loss must be finite and not negative, got {losses[row]:g} in row {row}")
    return scores, losses


def aurc(score: ArrayLike, loss: ArrayLike) -> float:
    """Return the area under the risk-coverage curve: the mean risk over all coverages 1/N to 1.

    Rows of the same score stand together: each of them has the risk at the end of its group. So
    the curve is integrated by the right-hand rule.

    Parameters
    ----------
    score, loss
        As for `risk_coverage_curve`.

    Notes
    -----
    Geifman, Uziel & El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers",
    ICLR 2019.

    Examples
    --------
    >>> from boltzmax.selective import aurc
    >>> aurc([0.9, 0.8, 0.5, 0.4], [0, 0, 0, 1])
    0.0625
    """
    curve = risk_coverage_curve(score, loss)
    return float(curve.risk @ np.diff(curve.coverage, prepend=0.0))


def augrc(score: ArrayLike, loss: ArrayLike) -> float:
    """Return the area under the generalised risk-coverage curve.

    The generalised risk at a threshold is the sum of the losses of the answered rows over the
    number of all rows. It is integrated over the coverage by the trapezoidal rule, so that for
    losses of 0 and 1 it is (1 - AUROC) a (1 - a) + (1 - a)^2 / 2 with the accuracy a.

    Parameters
    ----------
    score, loss
        As for `risk_coverage_curve`.

    Notes
    -----
    Traub et al., "Overcoming Common Flaws in the Evaluation of Selective Classification Systems",
    NeurIPS 2024.

    Examples
    --------
    >>> from boltzmax.selective import augrc
    >>> augrc([0.9, 0.8, 0.5, 0.4], [0, 0, 0, 1])
    0.03125
    """
    curve = risk_coverage_curve(score, loss)
    coverage = np.append(0.0, curve.coverage)
    risk = np.append(0.0, curve.risk * curve.coverage)
    return float((risk[1:] + risk[:-1]) @ np.diff(coverage) / 2)


def e_aurc(score: ArrayLike, loss: ArrayLike) -> float:
    """Return by how much `aurc` exceeds that of the best scores, which rank rows by their loss.

    Parameters
    ----------
    score, loss
        As for `risk_coverage_curve`.

    Notes
    -----
    Geifman, Uziel & El-Yaniv, ICLR 2019.

    Examples
    --------
    >>> from boltzmax.selective import e_aurc
    >>> e_aurc([0.9, 0.8, 0.5, 0.4], [0, 0, 0, 1])
    0.0
    """
    _, losses = _read(score, loss)
    best = np.cumsum(np.sort(losses)) / np.arange(1, len(losses) + 1)
    return max(0.0, aurc(score, loss) - float(best.mean()))


def coverage_at_risk(score: ArrayLike, loss: ArrayLike, risk: float) -> float:
    """Return the largest coverage whose risk, on these rows, is at most `risk`; 0 if there is none.

    It promises nothing for other rows; `SelectiveClassifier` does.

    Parameters
    ----------
    score, loss
        As for `risk_coverage_curve`.
    risk : float
        Not negative.

    Examples
    --------
    >>> from boltzmax.selective import coverage_at_risk
    >>> coverage_at_risk([0.9, 0.8, 0.5, 0.4], [0, 0, 0, 1], risk=0.1)
    0.75
    """
    most = check_number(risk, "risk", 0, np.inf)
    curve = risk_coverage_curve(score, loss)
    allowed = np.flatnonzero(curve.risk <= most)
    return float(curve.coverage[allowed[-1]]) if len(allowed) else 0.0


def plot_risk_coverage(score: ArrayLike, loss: ArrayLike, ax: Any = None, **options: Any) -> Any:
    """Draw the risk-coverage curve with matplotlib, and return the axes.

    Parameters
    ----------
    score, loss
        As for `risk_coverage_curve`.
    ax : matplotlib axes, optional
        Where to draw; by default in a new figure.
    **options
        For ``ax.step``, such as ``label``.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from boltzmax.selective import plot_risk_coverage
    >>> plot_risk_coverage([0.9, 0.8, 0.5], [0, 0, 1]).get_ylabel()
    'risk of the answered'
    """
    import matplotlib.pyplot as plt

    curve = risk_coverage_curve(score, loss)
    if ax is None:
        ax = plt.figure(layout="constrained").add_subplot()
    ax.step(np.append(0.0, curve.coverage), np.append(curve.risk[:1], curve.risk), **options)
    ax.set(xlabel="coverage", ylabel="risk of the answered", xlim=(0, 1))
    ax.set_ylim(bottom=0)
    return ax

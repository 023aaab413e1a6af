"""Calibration errors from bins of probabilities, and from their order."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_flag, one_of, quietly
from boltzmax._lib.scored import Scored, read_scores_and_labels
from boltzmax.calibration.binning import Bins, bins_of, bins_of_plain_pairs, check_bins
from boltzmax.calibration.classes import bins_of_classes
from boltzmax.calibration.events import top_label_events

Array = NDArray[Any]
Doubles = NDArray[np.float64]

KINDS = ("top_label", "classwise", "marginal")


def ece(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    n_bins: SupportsIndex = 15,
    binning: str = "equal_width",
    norm: int | str = 1,
    kind: str = "top_label",
    debias: bool = False,
    sample_weight: ArrayLike | None = None,
    return_bins: bool = False,
) -> Any:
    r"""Return the expected calibration error.

    With a bin's share of the weight :math:`w_b`, its mean probability :math:`p_b` and how often the
    event happened :math:`a_b`,

    .. math::
        \sum_b w_b |p_b - a_b|, \quad \sqrt{\textstyle\sum_b w_b (p_b - a_b)^2}, \quad
        \max_b |p_b - a_b|

    for a norm of 1, 2 and "max".

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        Logits, of float16 to float64 or bfloat16; integers become float64. They may be a memory
        map. Single numbers are the logits of class 1 of two, where class 0 has the logit 0.
    y : array_like of int, shape (N,)
        The classes, from 0 to K - 1; for single numbers, 0 or 1, or bools.
    from_probs : bool, default False
        Whether `logits` are probabilities. It is never guessed. Single numbers may be any pairs of
        a probability and whether the event happened, such as confidences and hits.
    n_bins : int, default 15
        The number of bins; of equal mass there may be fewer, since ties are not split.
    binning : {"equal_width", "equal_mass"}, default "equal_width"
        Bins (k/n, (k+1)/n], where the first contains 0 too; or bins that end at quantiles.
    norm : {1, 2, "max"}, default 1
        Which mean of the bins' errors.
    kind : {"top_label", "classwise", "marginal"}, default "top_label"
        The event: that the likeliest class is right; or for each class that it is the label, and
        then the mean of the classes' errors, or the root of their mean square (with a norm of 2,
        the marginal calibration error of Kumar et al.). Single numbers are class 1 in any case.
    debias : bool, default False
        Whether to subtract a_b (1 - a_b) / (n_b - 1) from the square of each bin (Kumar et al.,
        2019, definition 3.3): without that the error of a perfect model is not 0. It needs a norm
        of 2. A bin of one row gets no correction; below 0, the result is 0.
    sample_weight : array_like, shape (N,), optional
        A weight for each row. Then n_b is the square of their sum over the sum of their squares.
    return_bins : bool, default False
        Whether to return the `Bins`, too.

    Returns
    -------
    float or (float, Bins)
        The error, from 0 to 1.

    Raises
    ------
    IndexError
        For a class out of range; it names the first.
    TypeError, ValueError
        For any other invalid argument, and for rows that have no probabilities.

    References
    ----------
    Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015; Kumar, Liang & Ma, "Verified uncertainty calibration", NeurIPS 2019.

    Examples
    --------
    >>> from boltzmax.calibration import ece
    >>> round(ece([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [0, 0, 0]), 4)
    0.2992
    >>> ece([0.75, 0.75, 0.75, 0.75], [1, 1, 1, 0], from_probs=True)
    0.0
    """
    exponent = check_norm(norm)
    one_of(kind, "kind", KINDS)
    corrected = as_flag(debias, "debias")
    if corrected and exponent != 2:
        raise ValueError(f"debias needs norm=2, got norm={norm!r}")
    bins = _read_bins(logits, y, from_probs, n_bins, binning, kind, sample_weight)
    of_classes = np.atleast_1d(error_of_bins(bins, exponent, corrected))
    value = float(
        np.sqrt(np.square(of_classes).mean()) if kind == "marginal" else of_classes.mean()
    )
    return (value, bins) if as_flag(return_bins, "return_bins") else value


def mce(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    n_bins: SupportsIndex = 15,
    binning: str = "equal_width",
    kind: str = "top_label",
    sample_weight: ArrayLike | None = None,
    return_bins: bool = False,
) -> Any:
    """Return the maximum calibration error: that of the worst bin.

    Parameters
    ----------
    logits, y, from_probs, n_bins, binning, kind, sample_weight, return_bins
        As for `ece`.

    Returns
    -------
    float or (float, Bins)
        ``ece(..., norm="max")``.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    Naeini, Cooper & Hauskrecht, AAAI 2015.

    Examples
    --------
    >>> from boltzmax.calibration import mce
    >>> round(mce([0.1, 0.2, 0.9], [0, 1, 1], from_probs=True, n_bins=2), 6)
    0.35
    """
    return ece(
        logits,
        y,
        from_probs=from_probs,
        n_bins=n_bins,
        binning=binning,
        norm="max",
        kind=kind,
        sample_weight=sample_weight,
        return_bins=return_bins,
    )


def ace(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    n_bins: SupportsIndex = 15,
    sample_weight: ArrayLike | None = None,
    return_bins: bool = False,
) -> Any:
    """Return the adaptive calibration error: the mean of abs(p_b - a_b) over bins and classes.

    The bins are of equal mass, for each class apart; each counts the same.

    Parameters
    ----------
    logits, y, from_probs, n_bins, sample_weight, return_bins
        As for `ece`.

    Returns
    -------
    float or (float, Bins)
        The error, and the bins if requested: a row of them for each class.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    Nixon, Dusenberry, Zhang, Jerfel & Tran, "Measuring calibration in deep learning", CVPR
    workshops 2019, equation 3.

    Examples
    --------
    >>> from boltzmax.calibration import ace
    >>> round(ace([[0.2, 0.8], [0.6, 0.4]], [1, 1], from_probs=True, n_bins=1), 6)
    0.4
    """
    bins = _read_bins(logits, y, from_probs, n_bins, "equal_mass", "classwise", sample_weight)
    gap = np.atleast_2d(np.abs(bins.gap))
    value = float(np.nanmean(gap, axis=1).mean())
    return (value, bins) if as_flag(return_bins, "return_bins") else value


@quietly
def ks_error(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    from_probs: bool = False,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Return the Kolmogorov-Smirnov calibration error, which needs no bins.

    It is the largest difference between the cumulative confidence and the cumulative hits,

    .. math::
        \max_t \Bigl| \frac1N \sum_{i: p_i \le t} (p_i - [\text{right}_i]) \Bigr|

    Parameters
    ----------
    logits, y, from_probs, sample_weight
        As for `ece`; of the likeliest class, or of class 1 for single numbers.

    Returns
    -------
    float
        The error, from 0 to 1.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `ece`.

    References
    ----------
    Gupta, Rahimi, Ajanthan, Mensink, Sminchisescu & Hartley, "Calibration of neural networks using
    splines", ICLR 2021, equation 7.

    Examples
    --------
    >>> from boltzmax.calibration import ks_error
    >>> round(ks_error([0.25, 0.5, 0.75], [0, 1, 1], from_probs=True), 6)
    0.166667
    """
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    events = top_label_events(rows)
    order = np.argsort(events.p)
    p = events.p[order].astype(np.float64)
    excess = p - events.happened[order]
    if events.weight is not None:
        excess *= events.weight[order]
    is_last = np.append(p[1:] != p[:-1], True)  # of equal probabilities
    return float(np.abs(np.cumsum(excess)[is_last]).max() / events.total_weight)


def error_of_bins(bins: Bins, norm: float, debias: bool = False) -> Any:
    """Return the mean of the errors of bins, along the last axis; empty ones do not count."""
    gap, share = gaps_and_shares(bins)
    if not debias:
        return mean_gap(gap, share, norm)
    n, a = bins.effective_count, np.where(share > 0, bins.accuracy, 0.0)
    variance = np.where(n > 1, a * (1 - a) / np.maximum(n - 1, 1e-300), 0.0)
    return np.sqrt(np.maximum((share * (np.square(gap) - variance)).sum(axis=-1), 0.0))


def gaps_and_shares(bins: Bins) -> tuple[Doubles, Doubles]:
    """Return the gap of each bin, 0 if it is empty, and its share of the weight."""
    share = bins.weight / bins.weight.sum(axis=-1, keepdims=True)
    return np.where(share > 0, bins.gap, 0.0), share


def mean_gap(gap: Doubles, share: Doubles, norm: float) -> Any:
    """Return the mean size of gaps, along the last axis, of a norm of 1, 2 or infinity."""
    size = np.abs(gap)
    if norm == np.inf:
        return size.max(axis=-1)
    if norm == 1:
        return (share * size).sum(axis=-1)
    return np.sqrt((share * np.square(size)).sum(axis=-1))


def check_norm(norm: Any) -> float:
    """Return the exponent of a norm."""
    if isinstance(norm, str) and norm == "max":
        return np.inf
    if isinstance(norm, (int, float, np.number)) and norm in (1, 2):
        return float(norm)
    raise ValueError(f'norm must be 1, 2 or "max", got {norm!r}')


def _read_bins(
    logits: ArrayLike,
    y: ArrayLike,
    from_probs: bool,
    n_bins: SupportsIndex,
    binning: str,
    kind: str,
    sample_weight: ArrayLike | None,
) -> Bins:
    """Return the bins of events, or of the classes."""
    n, how = check_bins(n_bins, binning)
    if from_probs is True and how == "equal_width" and sample_weight is None:
        found = bins_of_plain_pairs(logits, y, n)
        if found is not None:
            return found
    rows = read_scores_and_labels(logits, y, from_probs=from_probs, sample_weight=sample_weight)
    return _bins(rows, n, how, kind)


def _bins(rows: Scored, n_bins: int, binning: str, kind: str) -> Bins:
    if kind == "top_label" or rows.is_binary:
        return bins_of(top_label_events(rows), n_bins, binning)
    return bins_of_classes(rows, n_bins, binning)

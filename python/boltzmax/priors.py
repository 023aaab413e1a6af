"""Class priors that changed since training: estimate them from logits alone, and adjust to them.

Labels may have become more or less frequent while each class still looks the same (label shift).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._core import softmax
from boltzmax._lib.arguments import check_count, one_of
from boltzmax._lib.numbers import check_number, real_numbers
from boltzmax._lib.public import show_in
from boltzmax._lib.scored import (
    Classes,
    Scored,
    read_classes,
    read_scores,
    read_scores_and_labels,
)

Array = NDArray[Any]
Doubles = NDArray[np.float64]

__all__ = ["adjust_priors", "estimate_priors"]


def _read_priors(priors: ArrayLike, classes: int, name: str, positive: bool) -> Doubles:
    """Return one probability per class; they sum to 1."""
    numbers = real_numbers(priors, name)
    if numbers.shape != (classes,):
        raise ValueError(f"{name} must be one per class, ({classes},), got shape {numbers.shape}")
    bad = ~(numbers > 0 if positive else numbers >= 0) | ~np.isfinite(numbers)
    if bad.any():
        c = int(bad.argmax())
        what = "positive" if positive else "not negative"
        raise ValueError(f"{name} must be {what} and finite, got {numbers[c]:g} for class {c}")
    total = float(numbers.sum())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"{name} must sum to 1, got {total:g}")
    return numbers


def adjust_priors(logits: ArrayLike, train_priors: ArrayLike, test_priors: ArrayLike) -> Array:
    """Return logits of a model for classes that are as frequent as `test_priors` say.

    They are logits + log(test_priors / train_priors): Bayes' rule, if each class looks as it did.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        Logits of K classes, or of class 1 of two, where class 0 has the logit 0.
    train_priors : array_like, shape (K,)
        How frequent the classes were in training: positive, with the sum 1.
    test_priors : array_like, shape (K,)
        How frequent they are now: not negative, with the sum 1. A class that does not occur gets
        logits of -inf.

    Returns
    -------
    ndarray
        Of the shape and dtype of the logits.

    Raises
    ------
    ValueError
        For priors that do not sum to 1 within 1e-6, or are out of range.

    Notes
    -----
    Saerens, Latinne & Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
    Probabilities", Neural Computation 14(1), 2002, equation 2.4.

    Examples
    --------
    >>> import boltzmax
    >>> from boltzmax.priors import adjust_priors
    >>> boltzmax.softmax(adjust_priors([[0.0, 0.0]], [0.5, 0.5], [0.9, 0.1])).round(3)
    array([[0.9, 0.1]])
    """
    rows = read_scores(logits, least=0)
    k = rows.n_classes
    train = _read_priors(train_priors, k, "train_priors", positive=True)
    test = _read_priors(test_priors, k, "test_priors", positive=False)
    with np.errstate(all="ignore"):
        shift = np.log(test) - np.log(train)
        if rows.is_binary:
            moved: Array = rows.array + rows.array.dtype.type(shift[1] - shift[0])
        else:
            moved = rows.array + shift.astype(rows.array.dtype)
    return moved


def estimate_priors(
    logits: ArrayLike,
    train_priors: ArrayLike | None = None,
    method: str = "em",
    source_logits: ArrayLike | None = None,
    source_y: ArrayLike | None = None,
    *,
    max_iter: int = 1000,
    tol: float = 1e-6,
) -> Doubles:
    """Estimate how frequent the classes are in rows without labels.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        Logits of the rows; they should be calibrated for ``method="em"``.
    train_priors : array_like, shape (K,), optional
        How frequent the classes were in training, with the sum 1; by default as in `source_y`.
    method : {"em", "bbse"}, default "em"
        "em" maximises the likelihood of the priors, and reads the logits once for each step.
        "bbse" compares how often each class is predicted with the confusion matrix of the source
        rows; it needs those rows, but no calibration.
    source_logits, source_y : array_like, shape (M, K) and (M,), optional
        Labelled rows of the distribution of training; "em" takes only frequencies from `source_y`.
    max_iter : int, default 1000
        The most steps of "em".
    tol : float, default 1e-6
        "em" stops when the priors of a step differ by at most this in all.

    Returns
    -------
    ndarray of float64, shape (K,)
        They sum to 1.

    Raises
    ------
    ValueError
        If the priors of training are not known, rows have NaN or no finite maximum, or the
        confusion matrix is singular.

    Warns
    -----
    UserWarning
        If "em" stops at `max_iter`.

    Notes
    -----
    "em": Saerens, Latinne & Decaestecker, Neural Computation 14(1), 2002, section 2.2. "bbse":
    Lipton, Wang & Smola, "Detecting and Correcting for Label Shift with Black Box Predictors", ICML
    2018; estimates below 0 count as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.priors import estimate_priors
    >>> rng = np.random.default_rng(0)
    >>> y = rng.random(20000) < 0.8
    >>> x = rng.normal(size=y.size) + 2 * y  # p(x | y) is normal around 0 or 2
    >>> estimate_priors(2 * x - 2, [0.5, 0.5]).round(2)
    array([0.2, 0.8])
    """
    one_of(method, "method", ("em", "bbse"))
    rows = read_scores(logits)
    rows.check_finite()
    if method == "bbse":
        if source_logits is None or source_y is None:
            raise ValueError('method="bbse" needs source_logits and source_y')
        source = read_scores_and_labels(
            source_logits, source_y, name="source_logits", label_name="source_y"
        )
        return _black_box(rows, source)
    train = _train_priors(rows.n_classes, train_priors, source_y)
    most, least = check_count(max_iter, "max_iter", 1), check_number(tol, "tol", 0, 1)
    return _maximum_likelihood(rows, train, most, least)


def _train_priors(k: int, priors: ArrayLike | None, source_y: ArrayLike | None) -> Doubles:
    if priors is not None:
        return _read_priors(priors, k, "train_priors", positive=True)
    if source_y is None:
        raise ValueError('method="em" needs train_priors, or source_y to count them')
    counts = _counts(read_classes(source_y, len(np.atleast_1d(source_y)), k, "source_y"), k)
    frequencies: Doubles = counts / counts.sum()
    return frequencies


def _counts(source_y: Classes, k: int) -> Classes:
    """Return how often each class occurs; all of them must."""
    counts = np.bincount(source_y, minlength=k)
    if not counts.all():
        raise ValueError(f"class {int(counts.argmin())} does not occur in source_y")
    return counts


def _maximum_likelihood(rows: Scored, train: Doubles, most: int, tol: float) -> Doubles:
    """Iterate q = the mean over rows of softmax(logits + log(q / train))."""
    priors: Doubles = train.copy()
    for _ in range(most):
        with np.errstate(all="ignore"):
            shift = np.log(priors) - np.log(train)
        total = np.zeros(rows.n_classes)
        for part in rows.blocks():
            z = rows.logits(part)
            # In at least float32; classes of prior 0 have -inf.
            p = softmax(z + shift.astype(np.float32 if z.dtype.itemsize < 4 else z.dtype))
            total += p.sum(axis=0, dtype=np.float64)
        new: Doubles = total / total.sum()
        moved = float(np.abs(new - priors).sum())
        priors = new
        if moved <= tol:
            return priors
    warnings.warn(
        f"priors still changed by {moved:.1e} after {most} steps; raise max_iter or tol",
        stacklevel=3,
    )
    return priors


def _black_box(rows: Scored, source: Scored) -> Doubles:
    """Solve P(predicted, class) w = P(predicted) for the ratios w of the priors."""
    k = rows.n_classes
    if source.n_classes != k:
        raise ValueError(f"source_logits have {source.n_classes} classes, but logits have {k}")
    source.check_finite()
    assert source.labels is not None
    counts = _counts(source.labels, k)
    pairs = np.bincount(_predicted(source) * k + source.labels, minlength=k * k)
    seen = np.bincount(_predicted(rows), minlength=k) / rows.n_rows
    joint = pairs.reshape(k, k) / source.n_rows
    if np.linalg.matrix_rank(joint) < k:
        raise ValueError("the confusion matrix is singular: some classes are never told apart")
    ratio = np.maximum(np.linalg.solve(joint, seen), 0.0)
    priors = ratio * counts
    found: Doubles = priors / priors.sum()
    return found


def _predicted(rows: Scored) -> Classes:
    found = np.empty(rows.n_rows, np.int64)
    for part in rows.blocks():
        found[part] = rows.logits(part).argmax(axis=1)
    return found


show_in(globals())

"""Queries over the classes of a linear layer, without its matrix of logits."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count, check_temperature, quietly
from boltzmax._lib.bad_rows import are_marked, refuse_bad_rows
from boltzmax._lib.random import random_generator
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.targets import Wanted, checked_targets
from boltzmax.arrays.argmax_limit import Largest
from boltzmax.linear import scores as linear_scores
from boltzmax.linear.scores import FEW_ROWS, NO_SHARES, Scores, Totals

Array = NDArray[Any]
Floats = NDArray[np.float64]


def linear_logsumexp(
    hidden: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> Array:
    r"""Compute :math:`\log \sum_c e^{s_{ic}}` for the scores :math:`s` of a linear layer.

    Parameters
    ----------
    hidden : array_like, shape (..., D)
        One row for each result.
    weight : array_like, shape (V, D)
        One row for each class; a memory map is read tile by tile.
    bias : array_like, shape (V,), optional
        Added to the logits ``hidden @ weight.T``.
    temperature : float, optional
        Divides the scores. From 1e-30 to 1e30; or 0, which gives the limit as T falls to 0: an
        infinity with the sign of the largest score, or, if that is 0, the logarithm of the number
        of zeros.
    softcap : float, optional
        Caps the logits to ``softcap * tanh(logits / softcap)`` first.

    Returns
    -------
    ndarray, shape (...)
        float64 if `hidden` or `weight` is float64 or integer, otherwise float32.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match, there are no classes, or `temperature` or `softcap` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_logsumexp
    >>> linear_logsumexp(np.eye(2), [[0.0, 1.0], [0.0, 1.0]]).round(6)
    array([0.693147, 1.693147])
    """
    small = _core.linear_small_logsumexp(
        linear_scores.SMALL, hidden, weight, bias, temperature, softcap
    )
    if small is not None:
        return small
    return _logsumexp(hidden, weight, bias, temperature, softcap)


@partial(same_kind, labelled=True)
@quietly
def _logsumexp(
    hidden: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    temperature: float,
    softcap: float | None,
) -> Array:
    scores, is_limit = _scores_at(temperature, hidden, weight, bias, softcap)
    result = np.empty(scores.n_rows, scores.dtype)
    for where, x in scores.blocks():
        if is_limit:
            result[where] = _largest(scores, x).log_sum
            continue
        totals = Totals(len(x))
        scores.read(x, totals)
        result[where] = totals.lse
    return result.reshape(scores.shape)


def linear_log_prob(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> Array:
    r"""Compute :math:`s_{i t_i} - \log \sum_c e^{s_{ic}}`, the logarithm of a probability.

    Parameters
    ----------
    hidden, weight, bias, temperature, softcap : see `linear_logsumexp`
        At a temperature of 0 the classes with the largest score share the probability.
    target : array_like of int, shape (...)
        The class of each row; where it is -100, the result is 0.

    Returns
    -------
    ndarray, shape (...)
        Of the dtype of `linear_logsumexp`.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match, there are no classes, or `temperature` or `softcap` is out of range.
    IndexError
        If a target is not a class.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_log_prob
    >>> linear_log_prob(np.eye(2), [[0.0, 0.0], [0.0, 1.0]], [0, 1]).round(6)
    array([-0.693147, -0.313262])
    """
    small = _core.linear_small_log_prob(
        linear_scores.SMALL, hidden, weight, target, bias, temperature, softcap, -100
    )
    if small is not None:
        return small
    return _log_prob(hidden, weight, target, bias, temperature, softcap)


@partial(same_kind, labelled=True)
@quietly
def _log_prob(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None,
    temperature: float,
    softcap: float | None,
) -> Array:
    scores, is_limit = _scores_at(temperature, hidden, weight, bias, softcap)
    classes, counted = checked_targets(target, Wanted(scores.shape, scores.n_classes), -100)
    scores.plan(counted)
    result = np.zeros(len(classes), scores.dtype)
    for where, x in scores.blocks():
        if is_limit:
            result[where] = _largest(scores, x, classes[where]).log_prob
            continue
        totals = Totals(len(x), classes[where])
        scores.read(x, totals)
        result[where] = totals.own - totals.from_reference
    return result.reshape(scores.shape)


def linear_topk(
    hidden: ArrayLike, weight: ArrayLike, k: int, bias: ArrayLike | None = None
) -> tuple[NDArray[np.int64], Array]:
    r"""Find the `k` most probable classes of each row, and the logarithms of their probabilities.

    Parameters
    ----------
    hidden, weight, bias : see `linear_logsumexp`
    k : int
        The number of classes, from 1 to V.

    Returns
    -------
    ids : ndarray of int64, shape (..., k)
        Classes by decreasing logit; classes with equal logits by increasing number.
    log_probs : ndarray, shape (..., k)
        Of the dtype of `linear_logsumexp`.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match or `k` is out of range.

    Examples
    --------
    >>> from boltzmax import linear_topk
    >>> ids, log_probs = linear_topk([[1.0]], [[0.0], [2.0], [1.0], [2.0]], k=3)
    >>> ids
    array([[1, 3, 2]])
    """
    small = _core.linear_small_topk(linear_scores.SMALL, hidden, weight, k, bias)
    if small is not None:
        return small
    return _topk(hidden, weight, k, bias)


@partial(same_kind, labelled=True, ranked=True)
@quietly
def _topk(
    hidden: ArrayLike, weight: ArrayLike, k: int, bias: ArrayLike | None
) -> tuple[NDArray[np.int64], Array]:
    scores = Scores(hidden, weight, bias)
    k = check_count(k, "k", 1, scores.n_classes)
    ids = np.empty((scores.n_rows, k), np.int64)
    log_probs = np.empty((scores.n_rows, k), scores.dtype)
    for where, x in scores.blocks():
        totals = Totals(len(x), top=k)
        scores.read(x, totals)
        _core.linear_finish_top(totals.columns, totals.top)
        ids[where], log_probs[where] = totals.top
    return ids.reshape(*scores.shape, k), log_probs.reshape(*scores.shape, k)


@partial(same_kind, labelled=True)
@quietly
def linear_sample(
    hidden: ArrayLike,
    weight: ArrayLike,
    rng: np.random.Generator | int | None = None,
    bias: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    errors: str = "raise",
) -> NDArray[np.int64]:
    r"""Draw a class for each row from the softmax of its scores.

    Parameters
    ----------
    hidden, weight, bias, temperature : see `linear_logsumexp`
        At a temperature of 0 one of the classes with the largest score is drawn.
    rng : numpy.random.Generator or int, optional
        The generator, or a seed; by default a fresh seed from the operating system.
    errors : {"raise", "mark"}, default "raise"
        What a row that nothing can be drawn from (one with NaN, +inf or no finite logit) does:
        raise, or give a class of -1.

    Returns
    -------
    ndarray of int64, shape (...)
        The classes.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match, there are no classes, or `temperature` is out of range; or, with
        errors="raise", for a row that nothing can be drawn from, whose number it says.

    Notes
    -----
    One uniform number is drawn for each row, and the class is where the running sum of the
    probabilities first exceeds it.  Results depend only on the seed, not on the tiles, except for
    rounding where the number falls on the border of two classes.

    Examples
    --------
    >>> from boltzmax import linear_sample
    >>> linear_sample([[1.0], [-1.0]], [[-99.0], [99.0]], rng=0)
    array([1, 0])
    """
    scores, is_limit = _scores_at(temperature, hidden, weight, bias)
    marks = are_marked(errors)
    ids = _drawn_rows(scores, is_limit, random_generator(rng).random(scores.n_rows))
    if not marks:
        refuse_bad_rows(ids < 0, scores.shape)
    return ids.reshape(scores.shape)


def sample_at(hidden: Array, weight: Array, bias: Array | None, level: Floats) -> NDArray[np.int64]:
    """Return the class of each row where the running sum of the probabilities exceeds `level`.

    -1 in rows that nothing can be drawn from.
    """
    return _drawn_rows(*_scores_at(1.0, hidden, weight, bias), level)


def _drawn_rows(scores: Scores, is_limit: bool, level: Floats) -> NDArray[np.int64]:
    ids = np.empty(scores.n_rows, np.int64)
    for where, x in scores.blocks():
        if is_limit:
            ids[where] = _drawn_from_largest(scores, x, level[where])
            continue
        sums = np.empty((len(x), len(scores.tiles)))
        for j, tile in enumerate(scores.tiles):
            sums[:, j] = summed_tile(scores, x, tile)[0]
        ids[where] = _drawn(scores, x, sums, level[where])
    return ids


def _scores_at(
    temperature: float,
    hidden: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    softcap: float | None = None,
) -> tuple[Scores, bool]:
    """Return scores over the temperature, and whether it is 0, where scores are not divided."""
    number = check_temperature(temperature, or_0=True)
    is_limit = number == 0.0
    return Scores(hidden, weight, bias, 1.0 if is_limit else number, softcap), is_limit


def _largest(scores: Scores, x: Array, label: NDArray[np.int64] | None = None) -> Largest:
    largest = Largest(len(x), scores.dtype, label)
    for tile in scores.tiles:
        largest.add(summed_tile(scores, x, tile)[1], tile.start)
    return largest


def _drawn_from_largest(scores: Scores, x: Array, level: Floats) -> NDArray[np.int64]:
    """Draw one of the largest scores of each row; read the tiles again if there are ties."""
    largest = _largest(scores, x)
    ids = np.where(np.isfinite(largest.score), largest.first, -1)
    wanted = np.minimum((level * largest.count).astype(np.int64), largest.count - 1)
    rows = np.flatnonzero((ids >= 0) & (wanted > 0))
    passed = np.zeros(len(rows), np.int64)
    for tile in scores.tiles if len(rows) else ():
        is_largest = summed_tile(scores, x, tile)[1][rows] == largest.score[rows, None]
        running = passed[:, None] + np.cumsum(is_largest, axis=1)
        here = (passed <= wanted[rows]) & (wanted[rows] < running[:, -1])
        ids[rows[here]] = tile.start + (running[here] > wanted[rows[here], None]).argmax(axis=1)
        passed = running[:, -1]
    return ids


def summed_tile(scores: Scores, x: Array, tile: slice) -> tuple[Floats, Array]:
    """Return the logsumexp of one tile, and its scores."""
    totals = Totals(len(x))
    s = scores.read_tile(x, tile, 0, NO_SHARES.of((), tile, scores.dtype), totals)
    return totals.lse, s


def _drawn(scores: Scores, x: Array, sums: Floats, level: Floats) -> NDArray[np.int64]:
    """Draw a tile for each row, then a class in that tile, which is recomputed."""
    share = _core.softmax(sums, -1)
    chosen, rest = _inverse(share, level)
    ids = np.full(len(x), -1, np.int64)
    valid = ~np.isnan(share[:, 0])
    for j in np.unique(chosen[valid]):
        rows, tile = np.flatnonzero(valid & (chosen == j)), scores.tiles[j]
        for r in range(0, len(rows), FEW_ROWS):
            some = rows[r : r + FEW_ROWS]
            of_tile = summed_tile(scores, x[some], tile)[1]
            probabilities = _core.softmax(of_tile.astype(np.float64), -1)
            ids[some] = tile.start + _inverse(probabilities, rest[some] / share[some, j])[0]
    return ids


def _inverse(probabilities: Floats, level: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return where the running sum of each row exceeds `level`, and the remainder of `level`."""
    running = np.cumsum(probabilities, axis=1)
    last = probabilities.shape[1] - 1 - (probabilities[:, ::-1] > 0).argmax(axis=1)
    chosen = np.minimum((running <= level[:, None]).sum(axis=1), last)
    rows = np.arange(len(level))
    before = running[rows, chosen] - probabilities[rows, chosen]
    return chosen, np.maximum(level - before, 0.0)

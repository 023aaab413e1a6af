"""The most probable classes of the rows of sparse arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import check_count, one_of, quietly
from boltzmax._lib.numbers import scores
from boltzmax._lib.ragged import Ints
from boltzmax.arrays.row_stats import row_stats
from boltzmax.sparse.maps import log_softmax_of, logsumexp_of
from boltzmax.sparse.rows import IMPLICIT, Rows, read_rows

Array = NDArray[Any]

_PANEL = 1 << 18  # most elements of a panel, unless it is a single row


@quietly
def topk(
    x: Any, k: int, *, axis: SupportsIndex = -1, implicit: str = "masked"
) -> tuple[NDArray[np.int64], Array]:
    """Find the `k` most probable classes of each row, and the logarithms of their probabilities.

    Parameters
    ----------
    x : sparse array or matrix of SciPy
        Logits, in CSR, CSC or COO, of float32 or float64; integers become float64. Duplicates are
        added up.
    k : int
        The number of classes, from 1 to all.
    axis : int, default -1
        The class axis.
    implicit : {"masked", "zero"}, default "masked"
        What entries are that are not stored: absent, or logits of 0.

    Returns
    -------
    ids : ndarray of int64, shape (rows, k)
        Classes by decreasing logit; classes with equal logits by increasing number. -1 where a row
        has fewer entries that count.
    log_probs : ndarray, shape (rows, k)
        Of the dtype of `x`; -inf for the id -1. All are NaN in a row with NaN or +inf, or whose
        entries are all -inf.

    Raises
    ------
    TypeError
        If `x` is not a sparse array, or in another format or dtype.
    ValueError
        If `k` is out of range, an option is unknown, or `x` does not have two axes.

    Examples
    --------
    >>> import boltzmax.sparse, scipy.sparse
    >>> x = scipy.sparse.csr_array([[0.0, 2.0, 1.0], [0.0, 0.0, -5.0]])
    >>> ids, log_probs = boltzmax.sparse.topk(x, 2)
    >>> ids
    array([[ 1,  2],
           [ 2, -1]])
    >>> boltzmax.sparse.topk(x, 2, implicit="zero")[0]
    array([[1, 2],
           [0, 1]])
    """
    counts_zeros = one_of(implicit, "implicit", IMPLICIT) == "zero"
    rows = read_rows(x, axis)
    values = scores(rows.values, "x")
    k = check_count(k, "k", 1, rows.n_classes)
    log_p, log_zero = log_softmax_of(rows, counts_zeros, values.dtype)
    at = _largest_entries(rows, k)
    there = at >= 0
    ids = np.where(there, _taken(rows.classes, at), -1).astype(np.int64)
    log_probs = np.where(there, _taken(log_p, at), -np.inf).astype(values.dtype)
    lse = logsumexp_of(rows, counts_zeros, values.dtype)
    improper = ~np.isfinite(lse) & (rows.lengths > 0)
    if log_zero is None:
        log_probs[improper] = np.nan
        return ids, log_probs
    logits = np.where(there, _taken(values, at), -np.inf)
    zeros = _first_zeros(rows, k)
    some = zeros >= 0
    ids = np.concatenate([ids, zeros], axis=1)
    logits = np.concatenate([logits, np.where(some, 0.0, -np.inf)], axis=1)
    log_probs = np.concatenate([log_probs, np.where(some, log_zero[:, None], -np.inf)], axis=1)
    # Those that are not there come last, behind stored entries of -inf.
    order = np.lexsort((ids, -logits, ids < 0), axis=1)[:, :k]
    log_probs = np.take_along_axis(log_probs, order, 1)
    log_probs[improper] = np.nan
    return np.take_along_axis(ids, order, 1), log_probs


def _taken(values: Array, at: Ints) -> Array:
    return values[np.maximum(at, 0)] if len(values) else np.zeros(at.shape, values.dtype)


def _largest_entries(rows: Rows, k: int) -> Ints:
    """Return the largest entries of each row; -1 where there are no more."""
    result = np.full((rows.number, k), -1)
    for members, panel in _panels(rows):
        found = row_stats(panel, k=k, entropy=False).top_ids
        assert found is not None
        inside = found < rows.lengths[members, None]
        at = np.where(inside, rows.offsets[members, None] + found, -1)
        result[members, : found.shape[1]] = at
    return result


def _panels(rows: Rows) -> Iterator[tuple[Ints, Array]]:
    """Yield rows of about the same length, and a matrix of their logits with -inf behind them."""
    lengths = rows.lengths
    widths = np.where(lengths > 0, 1 << np.ceil(np.log2(np.maximum(lengths, 1))).astype(int), 0)
    for width in np.unique(widths[widths > 0]):
        of_width = np.flatnonzero(widths == width)
        step = max(1, _PANEL // int(width))
        for start in range(0, len(of_width), step):
            members = of_width[start : start + step]
            inside = np.arange(width) < lengths[members, None]
            at = np.where(inside, rows.offsets[members, None] + np.arange(width), 0)
            yield members, np.where(inside, rows.values[at], rows.values.dtype.type(-np.inf))


def _first_zeros(rows: Rows, k: int) -> Ints:
    """Return the first classes of each row that are not stored; -1 where there are no more."""
    # Entry i of a row has classes[i] - i classes before it that are not stored. So the j-th of
    # these is j plus the number of entries before it, those with classes[i] - i <= j.
    first = rows.each(rows.offsets[:-1])
    missing = rows.classes.astype(np.int64) - (np.arange(len(first)) - first)
    number = rows.n_classes - rows.lengths
    result = np.full((rows.number, k), -1)
    for j in range(k):
        before = rows.lower_bound(missing, np.full(rows.number, j + 1)) - rows.offsets[:-1]
        result[:, j] = np.where(j < number, j + before, -1)
    return result

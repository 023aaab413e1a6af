"""Statistics of rows of logits, in one pass over memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, check_count, check_temperature, quietly
from boltzmax._lib.logits import read_logits
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets

Array = NDArray[Any]


@dataclass(frozen=True)
class RowStats:
    """The result of `row_stats`, one element (or k) per row; None for what was not requested.

    Parameters
    ----------
    lse : ndarray, shape (...)
        logsumexp(logits / T).
    energy : ndarray, shape (...)
        -T lse (Liu, Wang, Owens & Li, NeurIPS 2020).
    top_ids : ndarray of int64, shape (..., k)
        The classes of the largest logits, the largest first; ties go to the lower class.
    top_log_probs : ndarray, shape (..., k)
        Their log-probabilities.
    entropy : ndarray, shape (...)
        -sum_c p_c log p_c, in nats.
    target_log_prob : ndarray, shape (...)
        The log-probability of the target.
    target_rank : ndarray of int64, shape (...)
        1 + the number of classes with a larger logit.

    Examples
    --------
    >>> import boltzmax
    >>> stats = boltzmax.row_stats([[0.0, 2.0, 1.0]], entropy=False)
    >>> stats.argmax, stats.entropy
    (array([1]), None)
    """

    lse: Array
    energy: Array
    top_ids: NDArray[np.int64] | None = None
    top_log_probs: Array | None = None
    entropy: Array | None = None
    target_log_prob: Array | None = None
    target_rank: NDArray[np.int64] | None = None

    @property
    def argmax(self) -> NDArray[np.int64] | None:
        """The class of the largest logit."""
        return None if self.top_ids is None else self.top_ids[..., 0]

    @property
    def max_log_prob(self) -> Array | None:
        """Its log-probability; ``exp`` of it is the classifier's confidence."""
        return None if self.top_log_probs is None else self.top_log_probs[..., 0]

    @property
    def max(self) -> Array | None:
        """The largest logit over T: lse + max_log_prob."""
        return None if self.top_log_probs is None else self.lse + self.top_log_probs[..., 0]

    @property
    def margin(self) -> Array | None:
        """The difference of the two largest logits over T; needs k >= 2."""
        top = self.top_log_probs
        return None if top is None or top.shape[-1] < 2 else top[..., 0] - top[..., 1]


def row_stats(
    logits: ArrayLike,
    target: ArrayLike | None = None,
    k: SupportsIndex = 5,
    *,
    temperature: float = 1.0,
    entropy: bool = True,
    axis: SupportsIndex = -1,
) -> RowStats:
    """Return statistics of rows of logits, each row read from memory once.

    Nothing as large as the logits is allocated.

    Parameters
    ----------
    logits : array_like, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64. Rows that are not
        contiguous are copied.
    target : array_like of int, shape (...), optional
        Classes whose log-probability and rank to return.
    k : int, default 5
        How many of the largest logits to return: 0 for none; at most K are returned.
    temperature : float, default 1.0
        Divides the logits.
    entropy : bool, default True
        Whether to compute the entropy.
    axis : int, default -1
        The class axis, counted from the end if negative. Statistics of a row, and `target`, have
        the shape of the logits without it; the k largest are on an extra last axis.

    Returns
    -------
    RowStats
        In float64 if the logits are, else float32. In a row with NaN, or without a finite
        maximum, the log-probabilities and the entropy are NaN.

    Raises
    ------
    IndexError
        For a target out of range; it names the first.
    TypeError, ValueError
        For any other invalid argument.

    Examples
    --------
    >>> import boltzmax
    >>> stats = boltzmax.row_stats([[0.0, 2.0, 1.0]], target=[2], k=2)
    >>> stats.top_ids, stats.target_rank, stats.margin
    (array([[1, 2]]), array([2]), array([1.]))
    """
    found = _core.row_stats_call(logits, target, k, temperature, entropy, axis)
    if found is not None:
        return RowStats(*found)
    return _evaluate(logits, target, k, temperature, entropy, axis)


@partial(same_kind, ranked=True)
@quietly
def _evaluate(
    logits: ArrayLike,
    target: ArrayLike | None,
    k: SupportsIndex,
    temperature: float,
    entropy: bool,
    axis: SupportsIndex,
) -> RowStats:
    """Return the statistics of any logits."""
    scores = read_logits(logits, axis)
    temperature, entropy = check_temperature(temperature), as_flag(entropy, "entropy")
    wanted = min(check_count(k, "k", 0), scores.classes)
    label: NDArray[np.int64] | None = None
    if target is not None:
        rows_wanted = Wanted(scores.shape, scores.classes, scores.axis)
        label, _ = checked_targets(target, rows_wanted, NO_CLASS)
    matrix = scores.rows()
    rows, dtype = len(matrix), loss_dtype(matrix.dtype)

    def column(is_wanted: bool, of: Any = dtype, each: int = 1) -> Any:
        return np.empty(rows * each, of) if is_wanted else None

    has_target, has_top = label is not None, wanted > 0
    lse, energy = column(True), column(True)
    spread = column(entropy)
    top_ids, top_log_probs = column(has_top, np.int64, wanted), column(has_top, dtype, wanted)
    log_prob, rank = column(has_target), column(has_target, np.int64)
    _core.row_stats(
        matrix, label, temperature, wanted, lse, energy, spread, top_ids, top_log_probs, log_prob,
        rank,
    )  # fmt: skip

    def shaped(values: Array | None, *more: int) -> Any:
        return None if values is None else values.reshape(scores.shape + more)

    return RowStats(
        lse=shaped(lse),
        energy=shaped(energy),
        top_ids=shaped(top_ids, wanted),
        top_log_probs=shaped(top_log_probs, wanted),
        entropy=shaped(spread),
        target_log_prob=shaped(log_prob),
        target_rank=shaped(rank),
    )

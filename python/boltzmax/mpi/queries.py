"""The largest classes of rows, and draws, where the classes are split over ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_integer, check_count, quietly
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.random import check_key, uniform_numbers
from boltzmax.mpi.messages import Rows, operation, reduced_blocks
from boltzmax.mpi.rows import LocalLogits, rows_of
from boltzmax.mpi.shard import Shard, datatype_of
from boltzmax.variants.exact_totals import Normalizer
from boltzmax.variants.leaders import leaders_of, merge_leaders

Array = NDArray[Any]
Integers = NDArray[np.int64]


def topk(
    logits: ArrayLike, k: int, shard: Shard, *, temperature: float = 1.0
) -> tuple[Integers, Array]:
    """Find the `k` most probable classes of all ranks, and their log-probabilities.

    Collective: every rank calls it with the same rows and the same k.

    Parameters
    ----------
    logits : array_like, shape (..., n_local)
        The logits of this rank's classes.
    k : int
        How many classes to return, from 1 to the number of classes of all ranks.
    shard : Shard
        The classes of this rank.
    temperature : float, default 1.0
        Divides the logits.

    Returns
    -------
    ids : ndarray of int64, shape (..., k)
        Classes of all ranks by decreasing logit; classes with equal logits by increasing number.
    log_probs : ndarray, shape (..., k)
        float64 if the logits are, else float32. Both are the same on all ranks, for any number of
        them. In a row with NaN, log-probabilities are NaN and classes mean nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid on this rank; a ValueError on the others, which names the rank.

    Notes
    -----
    Two messages for each 256 rows: one of 120 bytes a row, one of 16 k.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, topk
    >>> ids, log_probs = topk([[0.0, 2.0, 1.0]], 2, Shard(MPI.COMM_SELF, 3))
    >>> ids
    array([[1, 2]])
    """
    read: list[tuple[LocalLogits, int]] = []

    def arguments() -> Rows:
        local = LocalLogits(logits, shard)
        most = check_count(k, "k", 1, shard.n_classes)
        read.append((local, most))
        return rows_of("topk", local, shard, temperature, most)

    ids, log_probs = np.empty((0, 0), np.int64), np.empty((0, 0))
    with _Leaders() as reduce:
        for rows, at, parts in reduced_blocks(shard, arguments):
            local, most = read[0]
            if at.start == 0:
                ids = np.empty((len(local.matrix), most), np.int64)
                log_probs = np.empty((len(local.matrix), most))
            leaders = leaders_of(local.matrix[at], shard.first, most)
            reduce(shard, leaders)
            ids[at] = leaders["id"]
            normalizer = Normalizer(parts["total"], rows.temperature)
            log_probs[at] = normalizer.log_prob(leaders["score"].T).T
    local, _ = read[0]
    return local.whole(ids), local.whole(log_probs.astype(loss_dtype(local.dtype)))


@quietly
def sample(
    logits: ArrayLike, shard: Shard, rng: int, *, temperature: float = 1.0, first_row: int = 0
) -> Integers:
    """Draw a class of all ranks for each row from the softmax of its logits.

    Collective: every rank calls it with the same rows and the same key.

    Parameters
    ----------
    logits : array_like, shape (..., n_local)
        The logits of this rank's classes.
    shard : Shard
        The classes of this rank.
    rng : int
        A key of random numbers, from 0 to 2**64 - 1, the same on all ranks. A random number depends
        on the key, its row and its class alone (Philox; Salmon et al., SC 2011).
    temperature : float, default 1.0
        Divides the logits.
    first_row : int, default 0
        The number of the first row: rows of later calls with the same key draw other numbers if
        they have other numbers.

    Returns
    -------
    ndarray of int64, shape (...)
        The classes: the same on all ranks, for any number of them.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid on this rank; a ValueError on the others, which names the rank;
        on all ranks, for a row with NaN or without a finite maximum: it names the first.

    Notes
    -----
    The class with the largest sum of logit / T and Gumbel noise is drawn (Gumbel, 1954). Two
    messages for each 256 rows: one of 120 bytes a row, one of 16.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, sample
    >>> sample([[-99.0, 99.0]], Shard(MPI.COMM_SELF, 2), rng=7)
    array([1])
    """
    read: list[tuple[LocalLogits, int, int]] = []

    def arguments() -> Rows:
        local = LocalLogits(logits, shard)
        key, start = (
            check_key(as_integer(rng, "rng")),
            check_count(first_row, "first_row", 0, 2**62),
        )
        read.append((local, key, start))
        return rows_of("sample", local, shard, temperature, key, start)

    ids = np.empty(0, np.int64)
    with _Leaders() as reduce:
        for rows, at, parts in reduced_blocks(shard, arguments):
            local, key, start = read[0]
            if at.start == 0:
                ids = np.empty(len(local.matrix), np.int64)
            bad = ~np.isfinite(parts["total"]["max"])
            if bad.any():
                row = at.start + int(bad.argmax())
                raise ValueError(
                    f"row {row} has NaN or no finite maximum, so nothing can be drawn from it"
                )
            # Without the maximum, no large score swallows the noise, and no quotient overflows.
            below = local.matrix[at].astype(np.float64) - parts["total"]["max"][:, None]
            perturbed = below / rows.temperature
            for row in range(len(perturbed)):
                number = (start + at.start + row) % 2**64
                u = uniform_numbers(key, number, 1, shard.first, shard.n_local)[0]
                perturbed[row] -= np.log(-np.log1p(-(1.0 - u) * (1 - 2.0**-53)))
            leaders = leaders_of(perturbed, shard.first, 1)
            reduce(shard, leaders)
            ids[at] = leaders["id"][:, 0]
    return read[0][0].whole(ids)


class _Leaders:
    """A reduction that keeps the k largest scores of all ranks."""

    def __init__(self) -> None:
        self._operations: dict[int, tuple[Any, Any]] = {}

    def __enter__(self) -> Callable[[Shard, Array], None]:
        return self._reduce

    def __exit__(self, *_: object) -> None:
        for context, _ in self._operations.values():
            context.__exit__(None, None, None)

    def _reduce(self, shard: Shard, leaders: Array) -> None:
        k = leaders["id"].shape[1]
        if k not in self._operations:
            context = operation(merge_leaders, leaders.dtype)
            self._operations[k] = (context, context.__enter__())
        _, op = self._operations[k]
        records = [leaders, datatype_of(leaders.dtype.itemsize)]
        shard.comm.Allreduce(MPI.IN_PLACE, records, op)

"""Softmax, log_softmax and logsumexp of rows whose classes are split over ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import check_temperature, quietly
from boltzmax._lib.numbers import scores
from boltzmax.losses.parts import parts_of
from boltzmax.mpi.messages import Rows, reduced_blocks
from boltzmax.mpi.shard import Shard
from boltzmax.variants.exact_totals import Normalizer

Array = NDArray[Any]


class LocalLogits:
    """The logits of this rank's classes, as a matrix."""

    def __init__(self, logits: ArrayLike, shard: Shard) -> None:
        array = scores(logits, "logits")
        if not array.ndim or array.shape[-1] != shard.n_local:
            raise ValueError(
                f"logits must have one column for each class of this rank, {shard.n_local}, "
                f"got shape {array.shape}"
            )
        self.shape = array.shape[:-1]
        self.dtype = array.dtype
        n = int(np.prod(self.shape, dtype=np.int64))
        self.matrix: Array = np.require(array, requirements=("C", "A")).reshape(n, shard.n_local)

    def whole(self, matrix: Array) -> Array:
        """Return a result for each logit, or each row, in the shape of the logits or the rows."""
        return matrix.reshape((*self.shape, *matrix.shape[1:]))


def rows_of(name: str, read: LocalLogits, shard: Shard, temperature: float, *alike: Any) -> Rows:
    """Return the rows of a function without targets."""
    t = check_temperature(temperature)
    same = (name, read.shape, read.dtype.name, *alike)
    return Rows(len(read.matrix), t, same, lambda at: parts_of(read.matrix[at], shard.first, t))


def _mapped(
    name: str,
    logits: ArrayLike,
    shard: Shard,
    temperature: float,
    map_rows: Callable[[Normalizer, Array], Array],
    whole_rows: bool,
) -> Any:
    read: list[LocalLogits] = []

    def arguments() -> Rows:
        read.append(LocalLogits(logits, shard))
        return rows_of(name, read[0], shard, temperature)

    result: Array | None = None
    for rows, at, parts in reduced_blocks(shard, arguments):
        x = read[0].matrix
        if result is None:
            result = np.empty(x.shape if whole_rows else len(x), x.dtype)
        result[at] = map_rows(Normalizer(parts["total"], rows.temperature), x[at])
    assert result is not None
    return read[0].whole(result)


def softmax(logits: ArrayLike, shard: Shard, *, temperature: float = 1.0) -> Array:
    """Softmax over the classes of all ranks.

    Collective: every rank calls it with the same rows.

    Parameters
    ----------
    logits : array_like, shape (..., n_local)
        The logits of this rank's classes: float16, float32, float64 or bfloat16; integers become
        float64.
    shard : Shard
        The classes of this rank.
    temperature : float, default 1.0
        Divides the logits.

    Returns
    -------
    ndarray, shape (..., n_local)
        The probabilities of this rank's classes, in the dtype of the logits. They have the same
        bits for any number of ranks. Max error 0.51 ULP for float32 and 3 ULP for float64, valid
        for ``|x / T| <= 2**19``; beyond, ``|x - max| / (2 T)`` more.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid on this rank; a ValueError on the others, which names the rank.

    Notes
    -----
    One message of 120 bytes a row for each 256 rows.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, softmax
    >>> softmax([[0.0, 0.0]], Shard(MPI.COMM_SELF, 2))  # the classes of this rank alone
    array([[0.5, 0.5]])
    """
    result: Array = _mapped("softmax", logits, shard, temperature, Normalizer.softmax, True)
    return result


def log_softmax(logits: ArrayLike, shard: Shard, *, temperature: float = 1.0) -> Array:
    """Logarithm of the softmax over the classes of all ranks.

    Parameters
    ----------
    logits, shard, temperature
        As for `softmax`.

    Returns
    -------
    ndarray, shape (..., n_local)
        The log-probabilities of this rank's classes, with the same bits for any number of ranks.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, log_softmax
    >>> log_softmax([[0.0, 0.0]], Shard(MPI.COMM_SELF, 2)).round(6)
    array([[-0.693147, -0.693147]])
    """
    result: Array = _mapped("log_softmax", logits, shard, temperature, Normalizer.log_softmax, True)
    return result


@quietly
def logsumexp(logits: ArrayLike, shard: Shard, *, temperature: float = 1.0) -> Array:
    """Logarithm of the sum of exponentials over the classes of all ranks.

    Parameters
    ----------
    logits, shard, temperature
        As for `softmax`.

    Returns
    -------
    ndarray, shape (...)
        The same on all ranks, and for any number of them, in the dtype of the logits.

    Raises
    ------
    TypeError, ValueError
        As for `softmax`.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, logsumexp
    >>> logsumexp([[0.0, 0.0]], Shard(MPI.COMM_SELF, 2)).round(6)
    array([0.693147])
    """
    result: Array = _mapped(
        "logsumexp", logits, shard, temperature, lambda rows, _: rows.lse, False
    )
    return result

"""Cross-entropy of rows whose classes are split over ranks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.numbers import loss_dtype
from boltzmax.losses.parts import PartedLoss, read_parted_loss
from boltzmax.mpi.messages import Rows, reduced_blocks
from boltzmax.mpi.rows import LocalLogits
from boltzmax.mpi.shard import Shard

Array = NDArray[Any]


class LossOptions(NamedTuple):
    """The arguments of a loss besides scores and targets."""

    ignore_index: int
    label_smoothing: float
    z_loss: float
    temperature: float
    reduction: str
    sample_weight: ArrayLike | None
    empty: str

    def read(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        target: ArrayLike,
        shard: Shard,
        grad: bool,
    ) -> PartedLoss:
        """Check them, and the targets."""
        return read_parted_loss(
            shape, dtype, target, shard.n_classes, with_grad=grad, **self._asdict()
        )

    def alike(self, loss: PartedLoss) -> tuple[Any, ...]:
        """Return what must be equal on all ranks."""
        numbers = (loss.smoothing, loss.z_loss, self.reduction, self.empty, loss.reduce.dtype.name)
        return (*numbers, loss.reduce.shape, loss.label, loss.reduce.counted, loss.reduce.sample)


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    shard: Shard,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> Any:
    """Cross-entropy of the softmax over the classes of all ranks.

    The formula is that of `boltzmax.cross_entropy`; K is the number of classes of all ranks, also
    in label smoothing. Collective: every rank calls it with the same rows, targets and options.

    Parameters
    ----------
    logits : array_like, shape (..., n_local)
        The logits of this rank's classes.
    target : array_like of int, shape (...)
        Classes from 0 to ``shard.n_classes`` - 1, the same on all ranks.
    shard : Shard
        The classes of this rank.
    ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
        As for `boltzmax.cross_entropy`.

    Returns
    -------
    float32 or float64 scalar, or array of shape (...) for "none"
        The same bits on all ranks, for any number of them.

    Raises
    ------
    IndexError, TypeError, ValueError
        If an argument is invalid on this rank; a ValueError on the others, which names the rank;
        a ValueError on all if targets or options differ between ranks.

    Notes
    -----
    One message of 120 bytes a row for each 256 rows.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, cross_entropy
    >>> round(float(cross_entropy([[0.0, 0.0]], [1], Shard(MPI.COMM_SELF, 2))), 6)
    0.693147
    """
    options = LossOptions(
        ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
    )
    return _evaluate("cross_entropy", logits, target, shard, options, False)


def cross_entropy_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    shard: Shard,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> tuple[Any, Array]:
    """Cross-entropy over the classes of all ranks, and its gradient by this rank's logits.

    Parameters
    ----------
    logits, target, shard
        As for `cross_entropy`.
    ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
        As for `boltzmax.cross_entropy_with_grad`.

    Returns
    -------
    loss : scalar
        As from `cross_entropy`.
    d_logits : ndarray, shape (..., n_local)
        The gradient by the logits of this rank's classes: it needs no other message.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `cross_entropy`.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, cross_entropy_with_grad
    >>> loss, d_logits = cross_entropy_with_grad([[0.0, 0.0]], [1], Shard(MPI.COMM_SELF, 2))
    >>> d_logits
    array([[ 0.5, -0.5]])
    """
    options = LossOptions(
        ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
    )
    both: tuple[Any, Array] = _evaluate(
        "cross_entropy_with_grad", logits, target, shard, options, True
    )
    return both


@quietly
def _evaluate(
    name: str,
    logits: ArrayLike,
    target: ArrayLike,
    shard: Shard,
    options: LossOptions,
    with_grad: bool,
) -> Any:
    read: list[tuple[LocalLogits, PartedLoss]] = []

    def arguments() -> Rows:
        local = LocalLogits(logits, shard)
        loss = options.read(local.shape, loss_dtype(local.dtype), target, shard, with_grad)
        read.append((local, loss))
        alike = (name, local.dtype.name, *options.alike(loss))
        return Rows(
            len(local.matrix),
            loss.temperature,
            alike,
            lambda at: loss.parts(local.matrix[at], shard.first, at),
        )

    losses, gradient = np.empty(0), np.empty(0)
    for _, at, parts in reduced_blocks(shard, arguments):
        local, loss = read[0]
        x = local.matrix
        if at.start == 0:
            losses = np.empty(len(x))
            gradient = np.empty_like(x) if with_grad else gradient
        losses[at] = loss.losses(parts)
        if with_grad:
            scale = loss.scale[at]
            gradient[at] = loss.slopes(x[at], shard.first, parts, scale, at)
    local, loss = read[0]
    result = loss.reduce(losses)
    return (result, local.whole(gradient)) if with_grad else result

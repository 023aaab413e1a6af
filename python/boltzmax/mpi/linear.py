"""Cross-entropy of a linear layer whose classes are split over ranks, without its logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax.linear.scores import Scores
from boltzmax.losses.parts import PartedLoss, empty_parts, merge_parts
from boltzmax.mpi.losses import LossOptions
from boltzmax.mpi.messages import Rows, reduced_blocks
from boltzmax.mpi.shard import Shard

Array = NDArray[Any]

_CLASSES = 8192  # of a tile
_KEPT = 2**26  # numbers: the logits of a block that are kept for the gradient


class _Layer:
    """The part of a linear layer that this rank has, and the loss of its rows."""

    def __init__(
        self,
        hidden: ArrayLike,
        weight: ArrayLike,
        target: ArrayLike,
        bias: ArrayLike | None,
        shard: Shard,
        options: LossOptions,
        with_grad: bool,
    ) -> None:
        self.scores = Scores(hidden, weight, bias)
        if self.scores.n_classes != shard.n_local:
            raise ValueError(
                f"weight must have one row for each class of this rank, {shard.n_local}, "
                f"got {self.scores.n_classes}"
            )
        self.shard, self.dtype = shard, self.scores.dtype
        self.loss: PartedLoss = options.read(
            self.scores.shape, self.dtype, target, shard, with_grad
        )
        self._kept: list[Array] | None = None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.scores.hidden)

    def rows(self, name: str, options: LossOptions, with_grad: bool) -> Rows:
        """Return the rows as messages describe them."""
        has_bias = self.scores.bias is not None
        alike = (name, self.dtype.name, self.scores.width, has_bias, *options.alike(self.loss))
        return Rows(
            self.n_rows, self.loss.temperature, alike, lambda at: self._parts(at, with_grad)
        )

    def hidden(self, at: slice) -> Array:
        """Return some rows of hidden vectors."""
        return self.scores.hidden[at].astype(self.dtype, copy=False)

    def tiles(self) -> Iterator[slice]:
        """Yield ranges of this rank's classes."""
        for start in range(0, self.shard.n_local, _CLASSES):
            yield slice(start, min(start + _CLASSES, self.shard.n_local))

    def logits(self, x: Array, tile: slice) -> Array:
        """Return the logits of hidden vectors for a tile."""
        logits: Array = x @ self.scores.vectors(tile).T
        if self.scores.bias is not None:
            logits += self.scores.bias[tile]
        return logits

    def _parts(self, at: slice, keep: bool) -> Array:
        parts = empty_parts(at.stop - at.start)
        x = self.hidden(at)
        keeps = keep and len(x) * self.shard.n_local <= _KEPT
        self._kept = [] if keeps else None
        for tile in self.tiles():
            logits = self.logits(x, tile)
            first = self.shard.first + tile.start
            merge_parts(parts, self.loss.parts(logits, first, at), self.loss.temperature)
            if self._kept is not None:
                self._kept.append(logits)
        return parts

    def slopes(self, at: slice, parts: Array) -> Iterator[tuple[slice, Array]]:
        """Yield the gradients by the logits of each tile of a block of rows."""
        scale = self.loss.scale[at]
        x = self.hidden(at)
        for number, tile in enumerate(self.tiles()):
            logits = self.logits(x, tile) if self._kept is None else self._kept[number]
            first = self.shard.first + tile.start
            yield tile, self.loss.slopes(logits, first, parts, scale, at)


@quietly
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    shard: Shard,
    bias: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> Any:
    """Cross-entropy of ``hidden @ weight.T + bias``, of which each rank has some classes.

    The formula is that of `boltzmax.linear_cross_entropy`; V is the number of classes of all ranks,
    also in label smoothing. Collective: every rank calls it with the same hidden vectors, targets
    and options.

    Parameters
    ----------
    hidden : array_like, shape (..., D)
        One row for each target, the same on all ranks.
    weight : array_like, shape (n_local, D)
        One row for each class of this rank.
    target : array_like of int, shape (...)
        Classes from 0 to ``shard.n_classes`` - 1, the same on all ranks.
    shard : Shard
        The classes of this rank.
    bias : array_like, shape (n_local,), optional
        Added to the logits of this rank.
    ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
        As for `boltzmax.linear_cross_entropy`.

    Returns
    -------
    float32 or float64 scalar, or array of shape (...) for "none"
        The same bits on all ranks. For another number of ranks, the matrix product may round the
        logits otherwise, so that the last digits differ.

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
    >>> from boltzmax.mpi import Shard, linear_cross_entropy
    >>> shard = Shard(MPI.COMM_SELF, 2)
    >>> round(float(linear_cross_entropy([[1.0]], [[0.0], [0.0]], [1], shard)), 6)
    0.693147
    """
    options = LossOptions(
        ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
    )
    layers: list[_Layer] = []

    def arguments() -> Rows:
        layers.append(_Layer(hidden, weight, target, bias, shard, options, False))
        return layers[0].rows("linear_cross_entropy", options, False)

    losses = np.empty(0)
    for rows, at, parts in reduced_blocks(shard, arguments):
        losses = np.empty(rows.n) if at.start == 0 else losses
        losses[at] = layers[0].loss.losses(parts)
    return layers[0].loss.reduce(losses)


@quietly
def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    shard: Shard,
    bias: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> tuple[Any, Array, Array, Array | None]:
    """Compute `linear_cross_entropy` and its gradients without building the logits.

    Parameters
    ----------
    hidden, weight, target, shard, bias
        As for `linear_cross_entropy`.
    ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
        As for `boltzmax.linear_cross_entropy_with_grad`.

    Returns
    -------
    loss : scalar
        As from `linear_cross_entropy`.
    d_hidden : ndarray, shape (..., D)
        The gradient by `hidden`, the same bits on all ranks: the sum over all classes.
    d_weight : ndarray, shape (n_local, D)
        The gradient by this rank's weights.
    d_bias : ndarray, shape (n_local,), or None
        The gradient by this rank's bias, if there is one.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `linear_cross_entropy`.

    Notes
    -----
    Two messages for each 256 rows: one of 120 bytes a row, and the sum of the gradients by
    `hidden`, 4 D or 8 D bytes a row. The logits of 256 rows are kept if they are at most 2**26
    numbers, and computed twice otherwise.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard, linear_cross_entropy_with_grad
    >>> shard = Shard(MPI.COMM_SELF, 2)
    >>> loss, d_hidden, d_weight, d_bias = linear_cross_entropy_with_grad(
    ...     [[1.0]], [[0.0], [0.0]], [1], shard
    ... )
    >>> d_weight
    array([[ 0.5],
           [-0.5]])
    """
    options = LossOptions(
        ignore_index, label_smoothing, z_loss, temperature, reduction, sample_weight, empty
    )
    layers: list[_Layer] = []

    def arguments() -> Rows:
        layers.append(_Layer(hidden, weight, target, bias, shard, options, True))
        return layers[0].rows("linear_cross_entropy_with_grad", options, True)

    losses = d_hidden = d_weight = np.empty(0)
    d_bias: Array | None = None
    for rows, at, parts in reduced_blocks(shard, arguments):
        layer = layers[0]
        if at.start == 0:
            losses = np.empty(rows.n)
            d_hidden = np.zeros(layer.scores.hidden.shape, layer.dtype)
            d_weight = np.empty(layer.scores.weight.shape, layer.dtype)
            d_bias = None if layer.scores.bias is None else np.zeros(shard.n_local, np.float64)
        losses[at] = layer.loss.losses(parts)
        x = layer.hidden(at)
        total = np.zeros(x.shape, layer.dtype)
        for tile, slopes in layer.slopes(at, parts):
            total += slopes @ layer.scores.vectors(tile)
            if at.start == 0:
                np.matmul(slopes.T, x, out=d_weight[tile])
            else:
                d_weight[tile] += slopes.T @ x
            if d_bias is not None:
                d_bias[tile] += slopes.sum(axis=0, dtype=np.float64)
        shard.comm.Allreduce(MPI.IN_PLACE, total, MPI.SUM)
        d_hidden[at] = total
    layer = layers[0]
    loss = layer.loss.reduce(losses)
    whole = d_hidden.reshape(*layer.scores.shape, layer.scores.width)
    return loss, whole, d_weight, None if d_bias is None else d_bias.astype(layer.dtype)

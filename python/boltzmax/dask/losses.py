"""Cross-entropy of Dask arrays of logits, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsIndex

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import (
    as_flag,
    as_integer,
    check_temperature,
    one_of,
    quietly,
    read_empty,
)
from boltzmax._lib.numbers import check_label_smoothing, check_z_loss, loss_dtype, row_weights
from boltzmax.dask.blocks import Logits, MergeParts, merged
from boltzmax.losses.parts import PART, PartedLoss, read_parted_loss
from boltzmax.losses.reduction import REDUCTIONS, checked_reduction
from boltzmax.variants.exact_totals import SIGNED_SUM, merge_sums, rounded_sums, sums_of

Array = NDArray[Any]

# The sums of weighted losses, and of the weights used.
_SUMS = np.dtype([("loss", SIGNED_SUM), ("weight", SIGNED_SUM)])


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: Any = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    """Cross-entropy of a Dask array of logits, whose class axis may be chunked.

    The formula is that of `boltzmax.cross_entropy`.

    Parameters
    ----------
    logits : dask.array.Array, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64. Each chunk is made once.
    target : dask.array.Array or array_like of int, shape (...)
        The classes. It takes the chunks of the logits' rows.
    ignore_index, label_smoothing, z_loss, temperature, reduction, empty
        As for `boltzmax.cross_entropy`.
    sample_weight : dask.array.Array or array_like, shape (...), optional
        A weight for each row; a NumPy array or a number may broadcast to that shape.
    axis : int, default -1
        The class axis.

    Returns
    -------
    dask.array.Array
        Lazy: of shape (), or (...) for "none"; float64 if the logits are, else float32. Bits do not
        depend on the chunks.

    Raises
    ------
    IndexError
        When it is computed, for a target out of range; the message names its place in its chunk.
    TypeError, ValueError
        For any other invalid argument.

    Examples
    --------
    >>> import dask.array as da
    >>> from boltzmax.dask import cross_entropy
    >>> logits = da.asarray([[2.0, 0.0], [0.0, 0.0]], chunks=1)
    >>> round(float(cross_entropy(logits, [0, 1])), 6)
    0.410038
    """
    loss = _Loss(
        logits, axis, target, sample_weight,
        _Options(ignore_index, label_smoothing, z_loss, temperature, reduction, empty),
    )  # fmt: skip
    return loss.value()


def cross_entropy_with_grad(
    logits: Any,
    target: Any,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    sample_weight: Any = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
    recompute: bool = True,
) -> tuple[Any, Any]:
    """Cross-entropy of a Dask array of logits, and its gradient.

    Parameters
    ----------
    logits, target, sample_weight, axis
        As for `cross_entropy`.
    ignore_index, label_smoothing, z_loss, temperature, reduction, empty
        As for `boltzmax.cross_entropy_with_grad`.
    recompute : bool, default True
        Whether chunks of the logits are made a second time for the gradient, and not held: see
        `softmax`.

    Returns
    -------
    loss : dask.array.Array
        As from `cross_entropy`.
    d_logits : dask.array.Array
        Lazy, with the shape, the chunks and the dtype of the logits.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `cross_entropy`.

    Examples
    --------
    >>> import dask.array as da
    >>> from boltzmax.dask import cross_entropy_with_grad
    >>> loss, d_logits = cross_entropy_with_grad(da.zeros((1, 2), chunks=1), [1])
    >>> d_logits.compute()
    array([[ 0.5, -0.5]])
    """
    checked_reduction(reduction, with_grad=True)
    loss = _Loss(
        logits, axis, target, sample_weight,
        _Options(ignore_index, label_smoothing, z_loss, temperature, reduction, empty),
    )  # fmt: skip
    return loss.value(), loss.gradient(as_flag(recompute, "recompute"))


@dataclass(frozen=True)
class _Options:
    """The options of a loss, which each chunk of rows reads with its targets."""

    ignore_index: int
    label_smoothing: float
    z_loss: float
    temperature: float
    reduction: str
    empty: str

    def check(self) -> None:
        as_integer(self.ignore_index, "ignore_index")
        check_label_smoothing(self.label_smoothing)
        check_z_loss(self.z_loss)
        check_temperature(self.temperature)
        one_of(self.reduction, "reduction", REDUCTIONS)
        read_empty(self.empty)

    def read(self, n_classes: int, target: Array, weight: Array, dtype: Any) -> PartedLoss:
        """Read the targets and weights of some rows."""
        return read_parted_loss(
            target.shape, np.dtype(dtype), target, n_classes,
            ignore_index=self.ignore_index, label_smoothing=self.label_smoothing,
            z_loss=self.z_loss, temperature=self.temperature, reduction="none",
            sample_weight=weight, empty=self.empty, with_grad=False,
        )  # fmt: skip


class _Loss:
    """A loss of a Dask array, as a graph."""

    def __init__(
        self, logits: Any, axis: SupportsIndex, target: Any, weight: Any, options: _Options
    ) -> None:
        options.check()
        self.logits, self.options = Logits(logits, axis), options
        self.target = self.logits.rows(target, "target")
        if self.target.dtype.kind not in "iu":
            raise TypeError(f"target must be integers, got dtype {self.target.dtype}")
        if weight is None:
            weight = da.ones(self.logits.shape, chunks=self.logits.row_chunks or ())
        elif not isinstance(weight, da.Array):
            weight = row_weights(weight, self.logits.shape)
        self.weight = self.logits.rows(weight, "sample_weight")
        self.dtype = loss_dtype(self.logits.array.dtype)
        self.read = read = _Reader(options, self.logits.n_classes)
        self.parts = self.logits.reduced(
            partial(_parts, read=read), MergeParts(float(options.temperature)), PART,
            self.target, self.weight,
        )  # fmt: skip
        self.losses = self.logits.of_rows(
            partial(_losses, read=read), self.parts, self.target, self.weight, dtype=np.float64
        )
        records = self.losses.map_blocks(
            _row_sums, self.target, self.weight, read=read, dtype=_SUMS,
            chunks=tuple((1,) * len(c) for c in self.losses.chunks),
            meta=np.empty((0,) * self.losses.ndim, _SUMS),
        )  # fmt: skip
        axes = tuple(range(self.losses.ndim))
        self.sums = merged(records, _merge_row_sums, axes) if axes else records

    def value(self) -> Any:
        """Return the reduced loss."""
        if self.options.reduction == "none":
            return self.losses.astype(self.dtype)
        return self._of_sums(_reduced).astype(self.dtype)

    def _of_sums(self, function: Any) -> Any:
        reduced = partial(function, reduction=self.options.reduction, empty=self.options.empty)
        axes = list(range(self.sums.ndim))
        return self.sums.map_blocks(
            reduced, dtype=np.float64, drop_axis=axes, meta=np.empty((), np.float64)
        )

    def gradient(self, recompute: bool) -> Any:
        """Return the gradient by the logits."""
        logits = self.logits
        divisor = self._of_sums(_divisor)
        source = logits.again(self.parts, divisor) if recompute else logits.array
        scale = da.map_blocks(
            partial(_scale, empty=self.options.empty), self.weight, divisor,
            dtype=np.float64, meta=np.empty((0,) * self.weight.ndim),
        )  # fmt: skip
        return logits.mapped(
            partial(_slopes, read=self.read), source, self.parts, self.target, scale,
            dtype=logits.array.dtype,
        )  # fmt: skip


@dataclass(frozen=True)
class _Reader:
    """Reads the targets and weights of a chunk of rows."""

    options: _Options
    n_classes: int

    def __call__(self, target: Array, weight: Array) -> PartedLoss:
        return self.options.read(self.n_classes, target, weight, np.float64)


def _parts(x: Array, first: int, target: Array, weight: Array, *, read: _Reader) -> Array:
    return read(target, weight).parts(x, first)


def _losses(parts: Array, target: Array, weight: Array, *, read: _Reader) -> Array:
    loss = read(target, weight)
    return np.atleast_1d(loss.reduce(loss.losses(parts)))


def _row_sums(losses: Array, target: Array, weight: Array, *, read: _Reader) -> Array:
    used = read(target.reshape(-1), weight.reshape(-1)).reduce.used
    sums = np.empty((1,) * losses.ndim, _SUMS)
    sums["loss"] = sums_of(losses.reshape(1, -1)).reshape(sums.shape)
    sums["weight"] = sums_of(used.reshape(1, -1)).reshape(sums.shape)
    return sums


def _merge_row_sums(mine: Array, other: Array) -> None:
    for name in ("loss", "weight"):
        sums = mine[name].copy()
        merge_sums(sums, other[name])
        mine[name] = sums


def _sum_of(sums: Array, name: str) -> np.float64:
    return np.float64(rounded_sums(sums.reshape(-1)[name].copy())[0][0])


def _divisor(sums: Array, *, reduction: str, empty: str) -> Array:
    return np.asarray(_sum_of(sums, "weight") if reduction == "mean" else 1.0)


def _reduced(sums: Array, *, reduction: str, empty: str) -> Array:
    with np.errstate(all="ignore"):
        divisor = _divisor(sums, reduction=reduction, empty=empty)
        if divisor == 0.0 and read_empty(empty) == 0.0:
            return np.asarray(0.0)
        return np.asarray(_sum_of(sums, "loss") / divisor)


@quietly
def _scale(weight: Array, divisor: Array, *, empty: str) -> Array:
    if divisor == 0.0 and read_empty(empty) == 0.0:
        return np.zeros(weight.shape)
    return np.asarray(weight / divisor)


def _slopes(
    x: Array, first: int, parts: Array, target: Array, scale: Array, *, read: _Reader
) -> Array:
    loss = read(target, np.ones(target.shape))
    counted = np.where(loss.reduce.counted, scale, 0.0)
    return loss.slopes(x, first, parts, counted)

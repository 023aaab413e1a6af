"""The rows of a loss of logits: their targets, their weights and their cross-entropy.

The loss is, per row, with p = softmax(s), s = logits / T and t the target,

    w_r (sum_c a_c (lse - s_c) + z_loss lse^2),     d/ds = w_r ((A + 2 z_loss lse) p - a)

where w is the sample weight, `a` the target distribution times the class weights and A its sum.
One compiled pass reads a row for lse and log p[t], a second one writes ``gain * p + add``: see
``cpp/core/losses/cross_entropy.hpp``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_temperature
from boltzmax._lib.logits import Gradient, gradient_of, read_logits
from boltzmax._lib.numbers import (
    as_float64,
    check_label_smoothing,
    loss_dtype,
    per_class,
    row_blocks,
)
from boltzmax._lib.targets import Wanted, read_targets
from boltzmax.losses.reduction import Reduction, product, read_reduction

Array = NDArray[Any]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Logits as a matrix, and the targets of its rows.

    The target distribution times the class weights is a_c = hard [c = label] + soft_c: `soft` is a
    number for all classes, an array of one for each, or a matrix; `mass` is the sum of a. A row
    whose label is -1 is ignored.
    """

    logits: Array
    label: NDArray[np.int64]
    hard: Doubles
    soft: Any
    mass: Doubles
    scale: Doubles

    def part(self, at: slice, logits: Array) -> Rows:
        """Return some of the rows, with other logits."""
        soft = self.soft[at] if np.ndim(self.soft) == 2 else self.soft
        return Rows(logits, self.label[at], self.hard[at], soft, self.mass[at], self.scale[at])

    def ignored(self) -> Rows:
        """Return the same rows, all of them ignored."""
        return replace(self, label=np.full_like(self.label, -1), scale=np.zeros_like(self.scale))

    @property
    def is_soft(self) -> bool:
        """Whether classes other than the label have a share."""
        return np.ndim(self.soft) > 0 or self.soft != 0

    @property
    def even(self) -> bool:
        """Whether the soft part is the same for all classes."""
        return np.ndim(self.soft) == 0


def _class_targets(
    label: NDArray[np.int64], classes: int, weight: Doubles | None, smoothing: float
) -> tuple[Doubles, Any, Doubles, Doubles]:
    """Return hard, soft, mass and the weights of class indices."""
    own = np.ones(len(label)) if weight is None else weight[label]
    hard = (1 - smoothing) * own
    if weight is None or smoothing == 0:
        return hard, smoothing / classes, hard + smoothing, own
    soft = smoothing / classes * weight
    return hard, soft, hard + soft.sum(), own


def _probability_targets(
    target: Doubles, weight: Doubles | None, smoothing: float
) -> tuple[Doubles, Any, Doubles, Doubles]:
    """Return hard, soft, mass and the weights of class probabilities, one per row."""
    # Sums along rows depend on the memory order.
    soft = (1 - smoothing) * np.ascontiguousarray(target) + smoothing / target.shape[-1]
    if weight is not None:
        soft *= weight
    return np.zeros(len(soft)), soft, soft.sum(axis=-1), np.ones(len(soft))


class RowOptions(NamedTuple):
    """The arguments that all losses of rows share, besides the logits."""

    weight: ArrayLike | None
    ignore_index: Any
    reduction: str
    sample_weight: ArrayLike | None
    axis: SupportsIndex
    empty: str
    label_smoothing: float = 0.0
    temperature: float = 1.0


class Batch(NamedTuple):
    """The checked arguments of a loss of rows."""

    rows: Rows
    reduce: Reduction
    class_weight: Doubles | None
    gradient: Gradient | None
    options: RowOptions

    @property
    def out(self) -> Array | None:
        """The destination of the rows' gradient, if requested."""
        return None if self.gradient is None else self.gradient.rows

    def delivered(self, loss: Any) -> Any:
        """Return what the public function returns: the loss, and the gradient if requested."""
        return loss if self.gradient is None else (loss, self.gradient.deliver())


def read_batch(
    logits: ArrayLike,
    target: ArrayLike,
    options: RowOptions,
    *,
    with_grad: bool,
    out: Array | None,
    probabilities: bool = False,
    weight_name: str = "weight",
) -> Batch:
    """Check the arguments of a loss of logits before anything is written.

    Parameters
    ----------
    logits, target, options, out
        As passed to the public function.
    with_grad : bool
        Whether the gradient is requested.
    probabilities : bool
        Whether targets may also be probabilities.
    weight_name : str
        The name of the function's argument for class weights.
    """
    smoothing = check_label_smoothing(options.label_smoothing)
    temperature = check_temperature(options.temperature)
    scores = read_logits(logits, options.axis)
    shape, classes = scores.shape, scores.classes
    class_weight = None
    if options.weight is not None:
        class_weight = per_class(options.weight, classes, weight_name)
    wanted = Wanted(shape, classes, scores.axis, probabilities)
    given, counted = read_targets(target, wanted, options.ignore_index)
    if given.dtype != np.int64:
        matrix = scores.rows_of(as_float64(scores.classes_last(given)))
        hard, soft, mass, own = _probability_targets(matrix, class_weight, smoothing)
        label = soft.argmax(axis=-1)
    else:
        hard, soft, mass, own = _class_targets(given, classes, class_weight, smoothing)
        label = given
        if np.ndim(soft):  # losses are relative to the label; one of weight 0 may be infinite
            label = np.where(hard == 0, np.argmax(soft), label)
        label = np.where(counted, label, -1)
    hard, mass = np.where(counted, hard, 0.0), np.where(counted, mass, 0.0)
    reduce = read_reduction(
        options.reduction,
        options.sample_weight,
        options.empty,
        shape=shape,
        dtype=loss_dtype(scores.array.dtype),
        counted=counted,
        own=own,
        with_grad=with_grad,
    )
    rows = Rows(scores.rows(), label, hard, soft, mass, reduce.scale() / temperature)
    gradient = gradient_of(scores, rows.logits, out) if with_grad else None
    return Batch(rows, reduce, class_weight, gradient, options)


def _soft_distances(rows: Rows) -> Doubles:
    """Return sum_c soft_c (logit of the label - logit_c); a share of 0 adds 0, even at -inf."""
    out = np.empty(len(rows.logits))
    label = np.maximum(rows.label, 0)
    for at in row_blocks(*rows.logits.shape):
        logits = rows.logits[at].astype(np.float64)
        soft = np.asarray(rows.part(at, logits).soft)
        terms = soft * (np.take_along_axis(logits, label[at, None], axis=-1) - logits)
        out[at] = np.where(soft == 0, 0.0, terms).sum(axis=-1)
    return out


def row_losses(
    rows: Rows, gradient: Array | None, temperature: float = 1.0, z_loss: float = 0.0
) -> Doubles:
    """Return the cross-entropy of every row; write the gradient, which may overwrite the logits."""
    lse, log_prob = np.empty(len(rows.logits)), np.empty(len(rows.logits))
    soft = None
    if rows.is_soft:
        # Weighted distances are computed now, since the gradient may overwrite the logits.
        soft = np.empty_like(lse) if rows.even else _soft_distances(rows)
    scale = rows.scale
    _core.cross_entropy(
        rows.logits,
        rows.label,
        temperature,
        lse,
        log_prob,
        distance=soft if rows.even else None,
        gradient=gradient,
        gain=scale * rows.mass,
        lse_gain=scale * (2 * z_loss),
        add=-scale * (rows.soft if rows.even else 0.0),
        target_gain=scale * rows.hard,
    )
    if gradient is not None and not rows.even:
        counted = (rows.label >= 0)[:, None]
        for at in row_blocks(*gradient.shape):
            share = np.where(counted[at], rows.part(at, gradient).soft, 0.0)
            gradient[at] -= (scale[at, None] * share).astype(gradient.dtype)
    # In terms of the label's log p, which keeps its digits when p is nearly 1 or logits are huge.
    result = product(rows.mass, -log_prob)
    if soft is not None:
        # If all shares are equal, the kernel returns the mean distance instead of a sum.
        each = (rows.soft * rows.logits.shape[-1] if rows.even else 1.0) / temperature
        result = np.where(np.isposinf(result), result, result + each * soft)
    return np.asarray(result + (z_loss * np.square(lse) if z_loss else 0.0))

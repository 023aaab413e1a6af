"""The rows of a loss on logits: their targets, weights, and how their losses become one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import is_float, read_empty
from boltzmax._lib.logits import Logits
from boltzmax._lib.numbers import (
    as_float64,
    check_number,
    loss_dtype,
    per_class,
    per_row,
    unmasked_ids,
)
from boltzmax._lib.targets import Wanted, checked_targets
from boltzmax.losses.reduction import Reduction, checked_reduction

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
        """Return some rows, with other logits."""
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
    """Return hard, soft, mass and the weights of class probabilities, a row each."""
    # Sums along rows depend on the memory order.
    soft = (1 - smoothing) * np.ascontiguousarray(target) + smoothing / target.shape[-1]
    if weight is not None:
        soft *= weight
    return np.zeros(len(soft)), soft, soft.sum(axis=-1), np.ones(len(soft))


def read_rows(
    function: str,
    logits: Logits,
    target: ArrayLike,
    *,
    weight: ArrayLike | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
    sample_weight: ArrayLike | None,
    empty: str,
    temperature: float = 1.0,
    probabilities: bool = True,
) -> tuple[Rows, Reduction]:
    """Check what a loss on logits is called with, besides them."""
    checked_reduction(reduction)
    mean_over_nothing = read_empty(empty)
    smoothing = check_number("label_smoothing", label_smoothing, 0, 1)
    array, shape, classes = logits.array, logits.shape, logits.classes
    class_weight = per_class(weight, classes)
    sample = per_row(sample_weight, shape)
    given = unmasked_ids(target, "target")
    wanted = Wanted(shape, classes, logits.axis, probabilities)
    if given.dtype.kind in "iu":
        label, counted = checked_targets(given, wanted, ignore_index)
        hard, soft, mass, own = _class_targets(label, classes, class_weight, smoothing)
        if np.ndim(soft):  # losses are told from the label's: of no weight, it may be infinite
            label = np.where(hard == 0, np.argmax(soft), label)
        label = np.where(counted, label, -1)
    elif not probabilities:
        hint = wanted.hint(given)
        raise TypeError(f"{function}: target must be integers, got {given.dtype}{hint}")
    elif is_float(given.dtype) and given.shape == array.shape:
        given = logits.rows_of(as_float64(logits.classes_last(given)))
        hard, soft, mass, own = _probability_targets(given, class_weight, smoothing)
        label, counted = soft.argmax(axis=-1), np.ones(len(hard), bool)
    else:
        raise TypeError(
            f"{function}: target must be integers of shape {shape} or probabilities of shape "
            f"{array.shape}, got {given.dtype} of shape {given.shape}{wanted.hint(given)}"
        )
    # What belongs to an ignored row must not matter, be it NaN.
    hard, mass, own, sample = (np.where(counted, a, 0.0) for a in (hard, mass, own, sample))
    dtype, used = loss_dtype(array.dtype), own * sample
    reduce = Reduction(reduction, shape, dtype, counted, sample, used, mean_over_nothing)
    return Rows(logits.rows(), label, hard, soft, mass, reduce.scale() / temperature), reduce

r"""Cross-entropy of rows whose classes come in parts: pieces of an array, or ranks of a cluster.

With scores :math:`s = x / T`, label smoothing :math:`\varepsilon` over all `V` classes and the
label `t`, the loss of a row and its derivatives are

.. math:: (1 - \varepsilon) (\ell - s_t) + \frac{\varepsilon}{V} \sum_c (\ell - s_c) + z \ell^2,
          \qquad \bigl((1 + 2 z \ell) p_c - (1 - \varepsilon) [c = t] - \varepsilon / V\bigr) / T.

All that is needed from a part is its total, the sum of its logits and the logit of the label if the
part has it: 120 bytes, which merge without rounding (see `variants/exact_totals`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import check_temperature, quietly
from boltzmax._lib.numbers import check_label_smoothing, check_z_loss
from boltzmax._lib.targets import Wanted, checked_targets
from boltzmax.losses.reduction import Reduction, product, read_reduction
from boltzmax.variants.exact_totals import (
    SIGNED_SUM,
    TOTAL,
    Normalizer,
    empty_sums,
    empty_totals,
    merge_sums,
    merge_totals,
    rounded_sums,
    sums_of,
    totals_of,
)

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

# What a loss needs to know of part of a row; `score` is the label's logit, or 0 elsewhere.
PART = np.dtype([("total", TOTAL), ("sum", SIGNED_SUM), ("score", "f8")])

_LARGE_UNIT = 25  # of a sum of logits: they are about 2**800


def empty_parts(rows: int) -> Array:
    """Return what is known of rows without classes."""
    parts = np.zeros(rows, PART)
    parts["total"], parts["sum"] = empty_totals(rows), empty_sums(rows)
    return parts


@quietly
def parts_of(
    x: Array, first: int, temperature: float, label: Integers | None = None, sums: bool = False
) -> Array:
    """Return what is known of rows from the classes `first`, `first` + 1, ... in a matrix."""
    parts = empty_parts(len(x))
    parts["total"] = totals_of(x, first, temperature)
    if sums:
        parts["sum"] = sums_of(x)
    if label is not None and x.shape[1]:
        column = label - first
        is_here = (column >= 0) & (column < x.shape[1])
        rows = np.flatnonzero(is_here)
        parts["score"][rows] = x[rows, column[rows]].astype(np.float64)
    return parts


@quietly
def merge_parts(parts: Array, other: Array, temperature: float) -> None:
    """Add what is known from other classes of the same rows."""
    totals, sums = parts["total"].copy(), parts["sum"].copy()
    merge_totals(totals, other["total"], temperature)
    merge_sums(sums, other["sum"])
    parts["total"], parts["sum"] = totals, sums
    parts["score"] += other["score"]


@dataclass(frozen=True)
class PartedLoss:
    """The targets and options of a loss whose classes come in parts."""

    label: Integers  # 0 in rows that do not count
    n_classes: int
    smoothing: float
    z_loss: float
    temperature: float
    reduce: Reduction

    @property
    def needs_sums(self) -> bool:
        """Whether the sums of logits are needed."""
        return self.smoothing != 0.0

    @property
    @quietly
    def scale(self) -> Doubles:
        """The derivative of the reduced loss by the loss of each row."""
        return np.zeros(len(self.label)) if self.reduce.is_zero else self.reduce.scale()

    def parts(self, x: Array, first: int, rows: slice = slice(None)) -> Array:
        """Return what is known of some rows from their classes in a matrix."""
        label = self.label[rows]
        return parts_of(x, first, self.temperature, label, self.needs_sums)

    @quietly
    def losses(self, parts: Array) -> Doubles:
        """Return the losses of rows of which all classes are known."""
        rows = Normalizer(parts["total"], self.temperature)
        result = product(np.asarray(1 - self.smoothing), -rows.log_prob(parts["score"]))
        if self.needs_sums:
            # sum_c (max - x_c), where large numbers cancel; times 2^-64 where it may overflow.
            sums = parts["sum"].copy()
            is_large = sums["unit"] > _LARGE_UNIT
            sums["unit"][is_large] -= 2
            scale = np.where(is_large, 2.0**-64, 1.0)
            high, low = rounded_sums(sums)
            most, error = _exact_product(rows.max * scale, float(self.n_classes))
            distance = ((most - high) + (error - low)) / self.n_classes / scale
            mean = rows.log_sum + distance / self.temperature
            result = result + self.smoothing * mean
        if self.z_loss:
            result = result + self.z_loss * np.square(rows.lse)
        # Of a row without probabilities, the loss is NaN for every target.
        return np.where(np.isfinite(rows.max), result, np.nan)

    @quietly
    def slopes(
        self, x: Array, first: int, parts: Array, scale: Doubles, rows: slice = slice(None)
    ) -> Array:
        """Return the gradients by the logits in a matrix; `scale` is what losses count for."""
        of_rows = Normalizer(parts["total"], self.temperature)
        wide = np.promote_types(x.dtype, np.float32) if x.dtype.itemsize < 4 else x.dtype
        each, even = scale / self.temperature, self.smoothing / self.n_classes
        by_lse = 2.0 * self.z_loss * of_rows.lse if self.z_loss else np.zeros(len(x))
        slopes = of_rows.softmax(x.astype(wide, copy=False))
        slopes *= (each * (1.0 + by_lse))[:, None].astype(wide)
        if even:
            slopes -= (each * even)[:, None].astype(wide)
        column = self.label[rows] - first
        here = np.flatnonzero((column >= 0) & (column < x.shape[1]))
        # p - 1 of the label, without the digits that they have in common.
        log_prob = of_rows.log_prob(parts["score"])
        own = np.expm1(log_prob) + by_lse * np.exp(log_prob) + self.smoothing - even
        slopes[here, column[here]] = (each * own)[here].astype(wide)
        slopes[scale == 0.0] = 0.0
        return slopes.astype(x.dtype, copy=False)


def read_parted_loss(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    target: ArrayLike,
    n_classes: int,
    *,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    temperature: float,
    reduction: str,
    sample_weight: ArrayLike | None,
    empty: str,
    with_grad: bool,
) -> PartedLoss:
    """Check the arguments of a loss of rows of this shape; its result has this dtype."""
    smoothing, z_loss = check_label_smoothing(label_smoothing), check_z_loss(z_loss)
    temperature = check_temperature(temperature)
    label, counted = checked_targets(target, Wanted(shape, n_classes), ignore_index)
    reduce = read_reduction(
        reduction,
        sample_weight,
        empty,
        shape=shape,
        dtype=dtype,
        counted=counted,
        own=np.ones(len(counted)),
        with_grad=with_grad,
    )
    return PartedLoss(label, n_classes, smoothing, z_loss, temperature, reduce)


def _exact_product(a: Doubles, b: float) -> tuple[Doubles, Doubles]:
    """Return a * b and its rounding error (Dekker, Numerische Mathematik 18, 1971)."""
    split = 134217729.0
    b_high = split * b - (split * b - b)
    a_high = split * a - (split * a - a)
    a_low, b_low, result = a - a_high, b - b_high, a * b
    error = ((a_high * b_high - result) + a_high * b_low + a_low * b_high) + a_low * b_low
    return result, np.where(np.isfinite(error), error, 0.0)

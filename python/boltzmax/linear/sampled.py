r"""Losses of a linear layer that read the target and some drawn classes of each row.

The drawn classes, the candidates, are the negatives of all rows.  Their logits are one matrix
product, the gradients two more; no work depends on the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, quietly
from boltzmax._lib.shared_docs import document_loss
from boltzmax._lib.targets import Wanted, checked_targets
from boltzmax.linear.negatives import (
    Draws,
    Negatives,
    SampledGradient,
    find_hits,
    read_draws,
    read_layer,
)
from boltzmax.linear.scores import NO_SHARES, Totals
from boltzmax.losses.reduction import read_reduction

Array = NDArray[Any]
Classes = NDArray[np.int64]
Floats = NDArray[np.float64]


def sampled_softmax_loss(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = True,
    correct: bool = True,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> Any:
    options = _Options(ignore_index, reduction, sample_weight, empty)
    return _sampled_softmax(
        hidden, weight, target, sampler, n, bias, remove_hits, correct, rng, options, False
    ).loss


def sampled_softmax_loss_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = True,
    correct: bool = True,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> SampledGradient:
    options = _Options(ignore_index, reduction, sample_weight, empty)
    return _sampled_softmax(
        hidden, weight, target, sampler, n, bias, remove_hits, correct, rng, options, True
    )


class _Options(NamedTuple):
    """The arguments about rows that all losses share."""

    ignore_index: int
    reduction: str
    sample_weight: ArrayLike | None
    empty: str


class _Softmax:
    """The cross-entropy of the target among itself and the candidates.

    With :math:`m = s_t - \\log \\sum_j e^{s_j}` over the candidates, the loss is
    :math:`\\log(1 + e^{-m})`, its derivative by :math:`s_t` is :math:`-\\sigma(-m)`, and by
    :math:`s_j` it is :math:`\\sigma(-m)` times the candidate's softmax among the candidates.
    """

    def read(self, scores: Negatives, x: Array, own: Floats) -> tuple[Floats, Floats]:
        """Return the losses of rows, and their derivatives by the targets' scores `own`."""
        self.totals = totals = Totals(len(x), np.full(len(x), -1))
        scores.read(x, totals)
        margin = (own - totals.reference) - totals.from_reference
        losses = np.logaddexp(0.0, -margin)
        self.pull = -np.expm1(-losses)
        none = np.isneginf(totals.from_reference)  # every candidate was a hit
        self.pull[none] = np.where(np.isnan(losses[none]), np.nan, 0.0)
        totals.from_reference[none] = 0.0
        return losses, -self.pull

    def slopes(self, scores: Negatives, x: Array, tile: slice, scale: Floats, sums: Any) -> Array:
        """Return the derivatives by the scores of a tile, each times the `scale` of its row."""
        scored = len(scores.tiles) == 1
        s = scores.last if scored else scores.product(x, tile)
        _core.linear_slopes(
            s, tile.start, scored, *scores.scoring(tile), NO_SHARES.of((), tile, scores.dtype),
            self.totals.columns, self.pull, 0.0, scale, sums,
        )  # fmt: skip
        return s


@quietly
def _sampled_softmax(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    n: int | None,
    bias: ArrayLike | None,
    remove_hits: bool,
    correct: bool,
    rng: Any,
    options: _Options,
    with_grad: bool,
) -> SampledGradient:
    """Return the loss, and the gradients or nothing for each."""
    layer = read_layer(hidden, weight, bias)
    rows = _read_rows(layer, target, options, with_grad)
    removed, corrected = as_flag(remove_hits, "remove_hits"), as_flag(correct, "correct")
    draws = read_draws(sampler, n, rng, layer, None, counts=corrected)
    return _evaluate(layer, rows, draws, removed, _Softmax(), with_grad)


class _Rows(NamedTuple):
    """The rows that count, their targets, and the reduction of the losses of all."""

    counted: NDArray[np.bool_]
    target: Classes  # of the rows that count
    reduce: Any


def _read_rows(layer: Any, target: ArrayLike, options: _Options, with_grad: bool) -> _Rows:
    wanted = Wanted(layer.rows, len(layer.weight))
    classes, counted = checked_targets(target, wanted, options.ignore_index)
    reduce = read_reduction(
        options.reduction,
        options.sample_weight,
        options.empty,
        shape=layer.rows,
        dtype=layer.dtype,
        counted=counted,
        own=np.ones(len(counted)),
        with_grad=with_grad,
    )
    if reduce.is_zero:
        counted = np.zeros_like(counted)
    return _Rows(counted, classes[counted], reduce)


def _evaluate(
    layer: Any, rows: _Rows, draws: Draws, remove_hits: bool, objective: Any, with_grad: bool
) -> SampledGradient:
    """Return the loss, and the gradients or None for each."""
    width, target = layer.weight.shape[1], rows.target
    x_all = layer.hidden.reshape(len(rows.counted), width)
    if not rows.counted.all():
        x_all = x_all[rows.counted]
    x_all = x_all.astype(layer.dtype, copy=False)
    hits = find_hits(draws.ids, target) if remove_hits else None
    scores = Negatives(x_all, layer, draws.ids, draws.log_q, hits)
    of_target = layer.weight[target].astype(layer.dtype, copy=False)
    own = np.einsum("ij,ij->i", x_all, of_target).astype(np.float64) + layer.bias_of(target)
    losses = np.zeros(len(rows.counted))
    kept = np.empty(len(target))
    scale = rows.reduce.scale()[rows.counted]
    push = np.empty(len(target))
    d_x = np.zeros_like(x_all)
    d_candidates = np.zeros_like(scores.weight)
    sums = np.zeros(len(draws.ids))
    for where, x in scores.blocks():
        kept[where], push[where] = objective.read(scores, x, own[where])
        if not with_grad:
            continue
        for tile in scores.tiles:
            s = objective.slopes(scores, x, tile, scale[where], sums[tile])
            d_x[where] += s @ scores.weight[tile]
            d_candidates[tile] += s.T @ x
    losses[rows.counted] = kept
    loss = rows.reduce(losses)
    if not with_grad:
        return SampledGradient(loss, None, None, None, None)
    push *= scale
    d_x += push.astype(layer.dtype)[:, None] * of_target
    d_target = push.astype(layer.dtype)[:, None] * x_all
    unit_ids, place = np.unique(np.concatenate([draws.ids, target]), return_inverse=True)
    d_weight = np.zeros((len(unit_ids), width), layer.dtype)
    np.add.at(d_weight, place, np.concatenate([d_candidates, d_target]))
    d_bias = None
    if layer.bias is not None:
        d_bias = np.bincount(place, np.concatenate([sums, push]), len(unit_ids)).astype(layer.dtype)
    d_hidden = np.zeros((len(rows.counted), width), layer.dtype)
    d_hidden[rows.counted] = d_x
    return SampledGradient(
        loss, d_hidden.reshape(layer.hidden.shape), unit_ids, d_weight, d_bias
    )

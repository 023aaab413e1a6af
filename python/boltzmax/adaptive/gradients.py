"""Losses of an adaptive softmax, their gradients, and steps along them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from boltzmax._lib.output_layer import Array, Doubles
from boltzmax._lib.unit_layer import adagrad_rates
from boltzmax.adaptive.clusters import (
    IGNORED,
    AdaptiveGradient,
    Tail,
    TailGradient,
    TailTarget,
    Targets,
)
from boltzmax.linear.cross_entropy import (
    gradients_with_room,
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
)
from boltzmax.linear.queries import linear_log_prob
from boltzmax.linear.scores import SMALL

_ROOM = 2**21  # logits in the buffer for gradients


class Weights(NamedTuple):
    """The weights of a layer; all have been checked."""

    weight: Array  # of the head, as the bias
    bias: Array | None
    tails: tuple[Tail, ...]


def losses_of_targets(weights: Weights, x: Array, targets: Targets) -> Doubles:
    """Return the loss of every row."""
    losses = np.empty(len(x))
    for rows, head, tails in targets.routes():
        block = x[rows]
        each = _losses(block, weights.weight, head, weights.bias)
        for i, some, within in tails:
            tail = weights.tails[i]
            h = block[some] @ tail.projection.T
            each[some] += _losses(h, tail.weight, within, tail.bias)
        losses[rows] = each
    return losses


def gradient_of_targets(
    weights: Weights, x: Array, targets: Targets, scale: Doubles
) -> AdaptiveGradient:
    """Return the sum of the losses, each times its scale, and its gradients."""
    total, d_hidden = 0.0, np.empty_like(x)
    head, tails = _Sums(), [_Sums() for _ in weights.tails]
    for rows, head_target, tail_targets in targets.routes():
        block, of_row = x[rows], scale[rows]
        loss, d_block, *d_units = _gradient_of(
            block, weights.weight, head_target, weights.bias, of_row
        )
        head.add(*d_units)
        total += float(loss)
        for found in tail_targets:
            tail = weights.tails[found.tail]
            total += _add_tail(tail, block, found, of_row, d_block, tails[found.tail])
        d_hidden[rows] = d_block
    if head.arrays is None:  # soft targets without rows
        bias = weights.bias
        head.add(np.zeros_like(weights.weight), None if bias is None else np.zeros_like(bias))
    d_weight, d_bias = head.arrays or (None, None)
    of_tails = (None if t.arrays is None else TailGradient(*t.arrays) for t in tails)
    return AdaptiveGradient(total, d_hidden, d_weight, d_bias, tuple(of_tails))


def _add_tail(
    tail: Tail, x: Array, target: TailTarget, scale: Doubles, d_x: Array, sums: _Sums
) -> float:
    """Add the gradients of a tail's losses; return the sum of the losses."""
    some = target.rows
    part = x[some]
    h = part @ tail.projection.T
    loss, d_h, d_weight, d_bias = _gradient_of(
        h, tail.weight, target.target, tail.bias, scale[some]
    )
    d_x[some] += d_h @ tail.projection
    sums.add(d_h.T @ part, d_weight, d_bias)
    return float(loss)


def take_step(
    weights: Weights,
    gradient: AdaptiveGradient,
    rate: float,
    eps: float | None,
    squares: Doubles | None,
) -> None:
    """Change the weights of the head and of the tails that have a gradient, in place.

    By SGD or, with `eps`, by Adagrad, which adds to `squares` and to those of the tails.
    """
    step = _Step(rate, eps)
    step.take(weights.weight, gradient.d_weight, weights.bias, gradient.d_bias, squares)
    for tail, found in zip(weights.tails, gradient.tails, strict=True):
        if found is None:
            continue
        if eps is not None:
            tail.squares = tail.sums_of_squares()
        of_projection, of_weight = tail.squares or (None, None)
        step.take(tail.projection, found.d_projection, None, None, of_projection)
        step.take(tail.weight, found.d_weight, tail.bias, found.d_bias, of_weight)


def _losses(x: Array, weight: Array, target: Array, bias: Array | None) -> Doubles:
    """Return the loss of every row; 0 for one that is ignored."""
    if target.ndim == 1:
        return -linear_log_prob(x, weight, target, bias).astype(np.float64)
    each = linear_cross_entropy(x, weight, target, bias, reduction="none")
    return np.asarray(each, np.float64)


def _gradient_of(
    x: Array, weight: Array, target: Array, bias: Array | None, scale: Doubles
) -> tuple[Any, Array, Array, Array | None]:
    """Return the sum of the losses, each times its scale, and its gradients."""
    if len(x) * len(weight) <= SMALL:
        return linear_cross_entropy_with_grad(
            x, weight, target, bias, ignore_index=IGNORED, reduction="sum", sample_weight=scale
        )
    return gradients_with_room(
        x, weight, target, bias, ignore_index=IGNORED, sample_weight=scale, room=_ROOM
    )


class _Sums:
    """Sums of gradients over blocks of rows."""

    def __init__(self) -> None:
        self.arrays: tuple[Any, ...] | None = None

    def add(self, *gradients: Array | None) -> None:
        """Add gradients, or keep those of the first block."""
        if self.arrays is None:
            self.arrays = gradients
            return
        for total, gradient in zip(self.arrays, gradients, strict=True):
            if total is not None:
                total += gradient


class _Step(NamedTuple):
    """A step along the negative gradient, by SGD or, with `eps`, by Adagrad."""

    rate: float
    eps: float | None

    def take(
        self,
        weight: Array,
        d_weight: Array,
        bias: Array | None,
        d_bias: Array | None,
        squares: Doubles | None,
    ) -> None:
        """Change weights and biases in place."""
        rates: Any = self.rate
        if self.eps is not None and squares is not None:
            rates = adagrad_rates(self.rate, squares, self.eps, d_weight, d_bias)
        np.multiply(d_weight.T, rates, out=d_weight.T)
        weight -= d_weight
        if bias is not None and d_bias is not None:
            bias -= rates * d_bias

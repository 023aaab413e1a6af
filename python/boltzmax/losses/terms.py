"""Losses that are made of the target's log-probability.

Such a loss is a term: a value and a slope from log p. `evaluate` does the rest: reading, weights,
the gradient by the logits through the softmax, and the reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax.losses.reduction import Reduction, product
from boltzmax.losses.rows import Batch, RowOptions, Rows, read_batch, row_losses

Array = NDArray[Any]
Doubles = NDArray[np.float64]

# From log p of the targets, the losses and their derivatives by -log p.
Term = Callable[[Doubles], tuple[Doubles, Doubles]]


@quietly
def evaluate(
    term: Term,
    logits: ArrayLike,
    target: ArrayLike,
    options: RowOptions,
    *,
    with_grad: bool = False,
    out: Array | None = None,
    weight_name: str = "weight",
    weight_counts: bool = True,
    compiled: Callable[[Batch], Any] | None = None,
) -> Any:
    """Return the loss, and its gradient by the logits if that is wanted.

    Parameters
    ----------
    term : callable
        The loss of a row and its derivative by -log p[target], from log p[target].
    logits, target, options, out
        As the public function was given them.
    with_grad : bool
        Whether the gradient is wanted.
    weight_name : str
        What the function calls the weights of classes.
    weight_counts : bool
        Whether the mean divides by them, too, as PyTorch's does.
    compiled : callable, optional
        Answers a batch that is ordinary by now as the compiled function did if it was at first; or
        returns None.
    """
    batch = read_batch(
        logits, target, options, with_grad=with_grad, out=out, weight_name=weight_name
    )
    if not weight_counts:
        batch = batch._replace(reduce=replace(batch.reduce, used=batch.reduce.sample))
    loss = None
    if compiled is not None and options.sample_weight is None:
        loss = compiled(batch)
    if loss is None:
        rows = batch.rows.ignored() if batch.reduce.is_zero else batch.rows
        loss = _reduced(term, rows, batch.reduce, batch.out)
    return batch.delivered(loss)


def _reduced(term: Term, rows: Rows, reduce: Reduction, gradient: Array | None) -> Any:
    """Return the reduced loss of rows, and write the gradient, which may be the logits."""
    weight = rows.hard
    plain = replace(rows, hard=np.ones(len(weight)), mass=np.ones(len(weight)))
    each, slope = term(-row_losses(plain, None))
    if gradient is not None:
        row_losses(replace(plain, scale=reduce.scale() * weight * slope), gradient)
    return reduce(product(weight, each))

"""Losses that are functions of the target's log-probability.

Such a loss is a term: a value and a slope from log p. `evaluate` does the rest: arguments, weights,
the gradient with respect to the logits through the softmax, and the reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import quietly
from boltzmax._lib.same_kind import same_kind
from boltzmax.losses.reduction import Reduction, product
from boltzmax.losses.rows import Batch, RowOptions, Rows, read_batch, row_losses

Array = NDArray[Any]
Doubles = NDArray[np.float64]

# Maps log p of the targets to the losses and their derivatives with respect to -log p.
Term = Callable[[Doubles], tuple[Doubles, Doubles]]


@same_kind
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
    """Return the loss, and its gradient with respect to the logits if requested.

    Parameters
    ----------
    term : callable
        Maps log p[target] to the loss of a row and its derivative with respect to -log p[target].
    logits, target, options, out
        As passed to the public function.
    with_grad : bool
        Whether the gradient is requested.
    weight_name : str
        The name of the function's argument for class weights.
    weight_counts : bool
        Whether the mean also divides by the class weights, as PyTorch's does.
    compiled : callable, optional
        Evaluates a batch that is ordinary once read exactly as the compiled fast path would; or
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
    """Return the reduced loss of rows, and write the gradient, which may overwrite the logits."""
    weight = rows.hard
    plain = replace(rows, hard=np.ones(len(weight)), mass=np.ones(len(weight)))
    each, slope = term(-row_losses(plain, None))
    if gradient is not None:
        row_losses(replace(plain, scale=reduce.scale() * weight * slope), gradient)
    return reduce(product(weight, each))

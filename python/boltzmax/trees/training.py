"""Training steps of a layer on a tree, in place."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from boltzmax import _core
from boltzmax._lib.numbers import unmasked
from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax._lib.unit_layer import Step, overlaps
from boltzmax.trees.weights import TreeWeights

ONE_BY_ONE = ("sequential", "grouped", "hogwild")  # update modes that go row by row
UPDATES = (*ONE_BY_ONE, "batch")


def check_update(update: str, allowed: tuple[str, ...]) -> None:
    """Raise a ValueError unless an update mode is allowed."""
    if update not in allowed:
        raise ValueError(f"update must be one of {allowed}, got {update!r}")


def descend(
    weights: TreeWeights,
    step: Step,
    squares: Doubles | None,
    eps: float,
    update: str,
) -> tuple[float, Array]:
    """Take the steps of all rows; return their mean loss, and d_hidden of each row."""
    x, classes, scale, rate = step
    if update == "batch":
        return _descend_together(weights, step)
    each, d_hidden = np.empty(len(x)), np.empty_like(x)
    way = update == "hogwild", _together(update)
    _core.layer_descend(
        *weights, x, classes, scale, rate, squares, float(eps), *way, each, d_hidden
    )
    return _core.mean_loss(each, scale), d_hidden


def _descend_together(weights: TreeWeights, step: Step) -> tuple[float, Array]:
    """Take one step along the sum of the gradients of all rows."""
    x, classes, scale, rate = step
    gradient = weights.loss_with_grad(x, classes, scale, scale)
    with np.errstate(all="ignore"):
        # Multiplying by a Python float keeps float32.
        weights.weight[gradient.unit_ids] -= rate * gradient.d_weight
        if weights.bias is not None and gradient.d_bias is not None:
            weights.bias[gradient.unit_ids] -= rate * gradient.d_bias
    return gradient.loss, gradient.d_hidden


def descend_pairs(
    weights: TreeWeights, vectors: Array, ids: Classes, classes: Classes, rate: float, update: str
) -> float:
    """Take the steps of all pairs of a vector and a class; return their mean loss."""
    each = np.empty(len(ids))
    way = update == "hogwild", _together(update)
    _core.layer_descend_pairs(*weights, vectors, ids, classes, rate, None, 0.0, *way, each)
    return float(each.mean()) if len(each) else math.nan


def _together(update: str) -> int:
    """Return how many neighbouring rows of the same target take their step together."""
    return 1 if update == "sequential" else 16


def check_vectors(vectors: Array, weights: TreeWeights) -> None:
    """Raise an error unless hidden vectors can be trained with the weights."""
    dtype, n_features = weights.weight.dtype, weights.weight.shape[1]
    if not isinstance(vectors, np.ndarray) or vectors.dtype != dtype:
        raise TypeError(f"vectors must be an ndarray of {dtype}, which is updated in place")
    if vectors.ndim != 2 or vectors.shape[1] != n_features:
        raise ValueError(f"vectors must be (M, {n_features}), got shape {vectors.shape}")
    if not (vectors.flags.c_contiguous and vectors.flags.writeable):
        raise ValueError("vectors must be C-contiguous and writeable")
    if overlaps(vectors, weights.weight, weights.bias):
        raise ValueError("vectors must not share memory with the layer's weights")


def read_row_numbers(ids: ArrayLike, rows: int) -> Classes:
    """Return row indices, (N,)."""
    array = unmasked(ids, "ids")
    integral = array.dtype.kind in "iu" or array.size == 0  # [] is an array of float64
    if not integral or array.ndim != 1:
        raise TypeError(f"ids must be integers, (N,); got {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= rows):
        at = int(((array < 0) | (array >= rows)).argmax())
        raise IndexError(f"ids: {array[at]} at position {at} is out of range for {rows} vectors")
    return np.ascontiguousarray(array, np.int64)

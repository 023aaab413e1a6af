"""An adaptive softmax as the output of `SoftmaxClassifier`, trained by Adam.

Each array has standardised coordinates, which need a bias that compensates for a shift of the
features. A projection has none, but its tail does: for scores W P x + b, a step of P acts on
centred features if b takes up its effect on their centre.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax.adaptive.clusters import Tail, TailGradient
from boltzmax.adaptive.layer import AdaptiveSoftmax
from boltzmax.sklearn.layers import LayerModel, dense
from boltzmax.sklearn.samples import Affine, Coordinates, Samples
from boltzmax.sklearn.training import Adam, Plan, Pull, finite_loss

Array = NDArray[Any]


def _joined(arrays: Iterable[Array | None]) -> tuple[Array, list[Array]]:
    """Return one array that holds copies of the given ones, and views of its parts."""
    given = [array for array in arrays if array is not None]
    whole = np.concatenate([array.reshape(-1) for array in given])
    parts = np.split(whole, np.cumsum([array.size for array in given])[:-1])
    return whole, [part.reshape(array.shape) for part, array in zip(parts, given, strict=True)]


class AdaptiveModel:
    """An adaptive layer, of which all weights are one array and all biases another."""

    def __init__(self, layer: AdaptiveSoftmax) -> None:
        self.layer, tails = layer, layer.tails
        weights = [layer.weight, *(t.projection for t in tails), *(t.weight for t in tails)]
        self.coef, (layer.weight, *parts) = _joined(weights)
        for tail, projection, weight in zip(
            tails, parts[: len(tails)], parts[len(tails) :], strict=True
        ):
            tail.projection, tail.weight = projection, weight
        self.intercept: Array | None = None
        if layer.bias is not None:
            self.intercept, (layer.bias, *parts) = _joined([layer.bias, *(t.bias for t in tails)])
            for tail, bias in zip(tails, parts, strict=True):
                tail.bias = bias

    def loss(self, samples: Samples) -> float:
        """See `Model`."""
        return LayerModel(self.layer).loss(samples)


@dataclass(frozen=True)
class _Units:
    """Weights and biases of some units."""

    coef: Array
    intercept: Array | None


class AdaptiveAdam:
    """Adam for the head and, in batches that have a class of it, for each tail."""

    def __init__(self, model: AdaptiveModel) -> None:
        layer = model.layer
        self._head = Adam(_Units(layer.weight, layer.bias))
        self._projections = [Adam(_Units(tail.projection, None)) for tail in layer.tails]
        self._weights = [Adam(_Units(tail.weight, tail.bias)) for tail in layer.tails]
        self._is_new = True

    def epoch(
        self,
        model: AdaptiveModel,
        samples: Samples,
        order: NDArray[np.intp],
        coordinates: Coordinates,
        plan: Plan,
        usual_weight: float,
        slower: float = 1.0,
    ) -> float:
        """Make one pass over all rows, batch by batch; return the mean of the batches' losses."""
        layer, total = model.layer, 0.0
        if self._is_new:  # the projections that a layer starts with are for features of spread 1
            for tail in layer.tails:
                tail.projection /= coordinates.scale
            self._is_new = False
        for start in range(0, len(order), plan.batch_size):
            batch = samples.part(order[start : start + plan.batch_size])
            found = layer.loss_with_grad(dense(batch.x), batch.target, batch.weight)
            mass = float(batch.weight.sum())
            total += mass * finite_loss(found.loss)
            share = mass / (len(batch) * usual_weight)
            pull = Pull(share, plan.l2, slower * plan.learning_rate)
            head = _Units(layer.weight, layer.bias)
            self._head.step(head, slice(None), found.d_weight, found.d_bias, coordinates, pull)
            for i, gradient in enumerate(found.tails):
                if gradient is not None:
                    self._step_tail(i, layer.tails[i], gradient, coordinates, pull)
        return total / float(samples.weight.sum())

    def _step_tail(
        self, i: int, tail: Tail, gradient: TailGradient, coordinates: Coordinates, pull: Pull
    ) -> None:
        every, centre, before = slice(None), coordinates.centre, tail.projection.copy()
        d_projection, d_weight, d_bias = gradient
        if d_bias is not None:
            d_projection = d_projection - np.multiply.outer(d_bias @ tail.weight, centre)
        units = _Units(tail.weight, tail.bias)
        shift = Affine(before @ centre, np.ones(len(before)))
        self._weights[i].step(units, every, d_weight, d_bias, shift, pull)
        projection = _Units(tail.projection, None)
        spread = Affine(np.zeros_like(centre), coordinates.scale)
        self._projections[i].step(projection, every, d_projection, None, spread, pull)
        if tail.bias is not None:  # by the new weights, so that scores at the centre stay
            tail.bias += tail.weight @ ((before - tail.projection) @ centre)

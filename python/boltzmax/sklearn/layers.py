"""Output layers in the classifiers of `boltzmax.sklearn`: their training, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from boltzmax._lib.output_layer import LayerGradient, OutputLayer
from boltzmax.sklearn.samples import Samples, row_blocks
from boltzmax.sklearn.training import Gradients

Array = NDArray[Any]


def dense(x: Any) -> Array:
    """Return rows as an ndarray."""
    return np.asarray(x.toarray() if sparse.issparse(x) else x)


@dataclass(frozen=True)
class LayerModel:
    """An output layer for the rows; if they have to be converted, block by block."""

    layer: OutputLayer

    @property
    def coef(self) -> Array:
        """See `Model`."""
        return self.layer.weight

    @property
    def intercept(self) -> Array | None:
        """See `Model`."""
        return self.layer.bias

    def blocks(self, samples: Samples) -> list[slice]:
        """Return the slices of the rows that are converted together."""
        if not sparse.issparse(samples.x) and samples.x.dtype == self.coef.dtype:
            return [slice(None)]
        return row_blocks(*samples.x.shape)

    def gradients(self, samples: Samples) -> Gradients:
        """See `Model`."""
        blocks = self.blocks(samples)
        if len(blocks) == 1:
            found = self._with_grad(samples)
            return found.loss, found.unit_ids, found.d_weight, found.d_bias
        whole = float(samples.weight.sum())
        total, d_coef = 0.0, np.zeros_like(self.coef)
        bias = None if self.intercept is None else np.zeros_like(self.intercept)
        for rows in blocks:
            part = samples.part(rows)
            found = self._with_grad(part)
            share = float(part.weight.sum()) / whole
            total += share * found.loss
            d_coef[found.unit_ids] += share * found.d_weight
            if bias is not None and found.d_bias is not None:
                bias[found.unit_ids] += share * found.d_bias
        return total, slice(None), d_coef, bias

    def _with_grad(self, samples: Samples) -> LayerGradient:
        return self.layer.loss_with_grad(dense(samples.x), samples.target, samples.weight)

    def loss(self, samples: Samples) -> float:
        """See `Model`."""
        total = sum(
            float(part.weight.sum()) * self.layer.loss(dense(part.x), part.target, part.weight)
            for part in map(samples.part, self.blocks(samples))
        )
        return total / float(samples.weight.sum())


def likeliest(layer: OutputLayer, x: Any) -> NDArray[np.intp]:
    """Return the likeliest class of each row."""
    return np.concatenate([layer.predict(dense(x[at])) for at in row_blocks(*x.shape)])


def log_probabilities(layer: OutputLayer, x: Any) -> Array:
    """Return the log-probability of every class."""
    return np.concatenate([layer.log_prob_all(dense(x[at])) for at in row_blocks(*x.shape)])


def top(layer: OutputLayer, x: Any, k: int) -> tuple[Array, Array]:
    """Return the likeliest classes of each row, and their log-probabilities."""
    found = [layer.topk(dense(x[at]), k) for at in row_blocks(*x.shape)]
    ids, log_probs = zip(*found, strict=True)
    return np.concatenate(ids), np.concatenate(log_probs)

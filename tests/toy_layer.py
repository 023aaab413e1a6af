"""An output layer as an example of how one is added: a full softmax of scaled scores."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import boltzmax
from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.numbers import check_number
from boltzmax._lib.output_layer import (
    Array,
    Classes,
    DenseGradient,
    Doubles,
    read_min_prob,
    read_sample_weight,
)
from boltzmax._lib.unit_layer import UnitLayer
from boltzmax.linear.cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from boltzmax.linear.queries import linear_log_prob, linear_sample, linear_topk


class ToyLayer(UnitLayer):
    """Scores are ``scale * hidden @ weight.T + bias``, by a scale that is fixed.

    Hidden vectors are scaled, and so are the gradients by them; linear layers do the rest.
    """

    _kind = "boltzmax toy softmax, version 1"
    _frame = "the weights"

    def __init__(
        self,
        n_classes: int,
        n_features: int,
        *,
        scale: float = 1.0,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self._n_classes = check_count(n_classes, "n_classes", 1)
        self.scale = check_number(scale, "scale", 1e-6, 1e6)
        super().__init__(self._n_classes, n_features, bias, dtype, seed)

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return self._n_classes

    @property
    def _n_units(self) -> int:
        return self._n_classes

    @quietly  # numbers that are too large give infinities, and no warning
    def _scaled(self, hidden: Array) -> Array:
        return hidden * self.scale

    # ---- probabilities ----

    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        return linear_log_prob(self._scaled(x), weight, self._target(target, len(x)), bias)

    @quietly
    def log_prob_all(self, hidden: ArrayLike) -> Array:
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        scores = self._scaled(x) @ weight.T
        return boltzmax.log_softmax(scores if bias is None else scores + bias)

    # ---- learning ----

    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        classes, of_row = self._target(target, len(x)), read_sample_weight(sample_weight, len(x))
        loss = linear_cross_entropy(self._scaled(x), weight, classes, bias, sample_weight=of_row)
        return float(loss)

    def loss_with_grad(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> DenseGradient:
        x = self._hidden(hidden)
        classes, of_row = self._target(target, len(x)), read_sample_weight(sample_weight, len(x))
        return self._gradient(x, classes, of_row, "mean")

    def _gradient(self, x: Array, classes: Classes, of_row: Doubles, by: str) -> DenseGradient:
        weight, bias = self._parameters()
        loss, d_scaled, d_weight, d_bias = linear_cross_entropy_with_grad(
            self._scaled(x), weight, classes, bias, sample_weight=of_row, reduction=by
        )
        return DenseGradient(float(loss), self._scaled(d_scaled), d_weight, d_bias)

    def sgd_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, Array]:
        return self._descend(hidden, target, lr, sample_weight)

    def adagrad_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        eps: float = 1e-10,
    ) -> tuple[float, Array]:
        return self._descend(hidden, target, lr, sample_weight, check_number(eps, "eps", 0, 1e30))

    @quietly
    def _descend(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None,
        eps: float | None = None,
    ) -> tuple[float, Array]:
        """Step along the gradient of the sum; with Adagrad's rates if there is an `eps`."""
        x, classes, of_row, rate = self._read_step(hidden, target, lr, sample_weight)
        total, d_hidden, d_weight, d_bias = self._gradient(x, classes, of_row, "sum")
        every = d_weight if d_bias is None else np.column_stack([d_weight, d_bias])
        rates: Any = rate
        if eps is not None:
            self._squares = self._sums_of_squares() + np.square(every, dtype=float).mean(axis=1)
            root = np.sqrt(self._squares) + eps
            rates = (rate / np.where(root > 0, root, 1)).astype(self.dtype)
        self.weight -= (rates * d_weight.T).T
        if self.bias is not None:
            self.bias -= rates * d_bias
        return float(total / of_row.sum()), d_hidden

    # ---- questions ----

    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        count, least = check_count(k, "k", 1, self.n_classes), read_min_prob(min_prob)
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        ids, log_probs = linear_topk(self._scaled(x), weight, count, bias)
        missing = ~(log_probs >= least)  # also in a row with NaN
        ids[missing], log_probs[missing] = -1, -np.inf
        return ids, log_probs

    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        return linear_sample(self._scaled(x), weight, rng, bias, errors=errors)

    # ---- files ----

    def _arrays(self) -> dict[str, Any]:
        return {**super()._arrays(), "scale": np.float64(self.scale)}

    @classmethod
    def _new(cls, arrays: dict[str, Array], n_features: int, dtype: np.dtype[Any]) -> Self:
        scale = float(arrays["scale"])
        return cls(len(arrays["weight"]), n_features, scale=scale, bias=False, dtype=dtype)

"""The base class of layers that answer, but do not learn: their weights have few bits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from boltzmax import _core
from boltzmax._lib.output_layer import (
    Array,
    Classes,
    read_hidden,
    read_sample_weight,
    read_target,
)


class ReadOnlyLayer(ABC):
    """The methods of output layers, of which those that train raise.

    A row with NaN or infinity has log-probabilities of NaN and no likeliest class.
    """

    n_features: int
    dtype: np.dtype[Any]

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """Return the number of classes."""

    @abstractmethod
    def _log_prob(self, x: Array, classes: Classes) -> Array:
        """Return log p of a class for each finite row, in float64 if possible."""

    @abstractmethod
    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities."""

    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        """Return log p(target) of every row, (N,).

        Raises
        ------
        IndexError
            For a target that is not a class; the message names the first.
        """
        return self._each(hidden, target).astype(self.dtype)

    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean of -log p(target), weighted by `sample_weight`; NaN without rows."""
        each = self._each(hidden, target)
        return _core.mean_loss(-each, read_sample_weight(sample_weight, len(each)))

    def predict(self, hidden: ArrayLike) -> Classes:
        """Return the likeliest class of each row, (N,); -1 for a row that is not finite."""
        return self.topk(hidden, 1)[0][:, 0]

    def loss_with_grad(self, *args: Any, **options: Any) -> NoReturn:
        """Raise a TypeError: the layer does not learn."""
        self._refuse("loss_with_grad")

    def sgd_step(self, *args: Any, **options: Any) -> NoReturn:
        """Raise a TypeError: the layer does not learn."""
        self._refuse("sgd_step")

    def adagrad_step(self, *args: Any, **options: Any) -> NoReturn:
        """Raise a TypeError: the layer does not learn."""
        self._refuse("adagrad_step")

    def _refuse(self, method: str) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} does not learn, so it has no {method}; train the layer that it "
            "was made from, and quantize that again"
        )

    def _each(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        x, is_bad = self._finite(hidden)
        each = self._log_prob(x, read_target(target, len(x), self.n_classes)).astype(np.float64)
        each[is_bad] = np.nan
        return each

    def _finite(self, hidden: ArrayLike) -> tuple[Array, Array]:
        """Return hidden vectors, zeros instead of rows that are not finite; and which these are."""
        x = read_hidden(hidden, self.n_features, self.dtype)
        is_bad = np.asarray(~np.isfinite(x).all(axis=1))
        if is_bad.any():
            x = np.where(is_bad[:, None], x.dtype.type(0), x)
        return x, is_bad

"""Output layers, which map hidden vectors to classes, and how all of them read their arguments."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, Self, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_number, is_float
from boltzmax._lib.files import FileName
from boltzmax._lib.numbers import check_number, per_row, unmasked
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets

Array = NDArray[Any]
Classes = NDArray[np.int64]
Doubles = NDArray[np.float64]

_ALL = slice(None)
_INT64 = np.dtype(np.int64)


class LayerGradient(Protocol):
    """A loss and its gradients; those of the weights for some units only, zero for all others."""

    @property
    def loss(self) -> float:
        """Return the mean of -log p(target)."""

    @property
    def d_hidden(self) -> Array:
        """Return the gradient with respect to the hidden vectors, (N, D)."""

    @property
    def unit_ids(self) -> Classes | slice:
        """Return the units that `d_weight` and `d_bias` belong to."""

    @property
    def d_weight(self) -> Array:
        """Return the gradient with respect to the weights of these units, (U, D)."""

    @property
    def d_bias(self) -> Array | None:
        """Return the gradient with respect to their biases, (U,), if there are any."""


class DenseGradient(NamedTuple):
    """A loss and its gradients, with those of the weights for every unit."""

    loss: float
    d_hidden: Array
    d_weight: Array
    d_bias: Array | None

    @property
    def unit_ids(self) -> slice:
        """The units that `d_weight` and `d_bias` belong to: all."""
        return _ALL


@runtime_checkable
class OutputLayer(Protocol):
    """A layer that maps hidden vectors of length `n_features` to `n_classes` probabilities.

    Each *unit* (a class, or a choice on the path to one) has a row of weights and optionally a
    bias. `hidden` is (N, D) and converted to `dtype`; `target` has one class per row, and an
    IndexError names the first that is out of range. A row with NaN has log-probabilities of NaN
    and no likeliest class (-1). A call that raises has changed nothing.

    There is no option `empty`, which the losses of arrays have: without rows the loss is NaN in
    every layer, gradients are zero, and a step changes nothing.

    The layer of `boltzmax.cuda` has a subset of these methods, with the same rules.
    """

    n_features: int
    dtype: np.dtype[Any]
    weight: Array
    bias: Array | None

    @property
    def n_classes(self) -> int:
        """Return the number of classes."""

    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        """Return log p(target) of every row, (N,)."""

    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes)."""

    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean of -log p(target), weighted by `sample_weight`; NaN without rows."""

    def loss_with_grad(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> LayerGradient:
        """Return the loss and its gradients."""

    def sgd_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, Array]:
        """Take a gradient step for all rows; return the mean loss, and d_hidden of each row."""

    def adagrad_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        eps: float = 1e-10,
    ) -> tuple[float, Array]:
        """Step as `sgd_step` does, with a separate learning rate for every unit."""

    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities."""

    def predict(self, hidden: ArrayLike) -> Classes:
        """Return the likeliest class of each row, (N,)."""

    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        """Draw a class for each row, (N,).

        A row that nothing can be drawn from (one with NaN, say) is a ValueError that names it, or,
        with errors="mark", has the class -1.
        """

    def save(self, path: FileName) -> None:
        """Write the layer to one file."""

    @classmethod
    def load(cls, path: FileName) -> Self:
        """Read what `save` wrote."""


def is_plain(array: Any, dtype: np.dtype[Any]) -> TypeGuard[Array]:
    """Return whether it is an ndarray of this dtype in the layout that compiled functions read."""
    return (
        type(array) is np.ndarray
        and array.dtype == dtype
        and array.flags.c_contiguous
        and array.flags.aligned
    )


def read_hidden(hidden: ArrayLike, n_features: int, dtype: np.dtype[Any]) -> Array:
    """Return hidden vectors, (N, n_features), in this dtype, C-contiguous and aligned."""
    if is_plain(hidden, dtype) and hidden.ndim == 2 and hidden.shape[1] == n_features:
        return hidden
    array = unmasked(hidden, "hidden")
    if array.dtype.kind not in "iub" and not is_float(array.dtype):
        raise TypeError(f"hidden must be real numbers, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != n_features:
        raise ValueError(f"hidden must be (N, {n_features}), got shape {array.shape}")
    with np.errstate(all="ignore"):
        return np.require(array, dtype, ("C", "A", "E"))


def read_target(target: ArrayLike, rows: int, n_classes: int) -> Classes:
    """Return one class per row, in a copy of `target`."""
    if is_plain(target, _INT64) and target.shape == (rows,) and rows:
        classes = target.copy()
        if classes.view(np.uint64).max() < n_classes:  # as unsigned numbers, negative ones are huge
            return classes
    return checked_targets(target, Wanted((rows,), n_classes), NO_CLASS)[0]


def read_sample_weight(sample_weight: ArrayLike | None, rows: int) -> Doubles:
    """Return one weight per row."""
    if sample_weight is None:
        return np.ones(rows)
    return np.ascontiguousarray(per_row(sample_weight, (rows,)))


def read_rate(lr: float) -> float:
    """Return a learning rate: any finite number, including 0, where some schedules start."""
    rate = as_number(lr, "lr")
    if not math.isfinite(rate):
        raise ValueError(f"lr must be finite, got {lr}")
    return rate


def read_min_prob(p: float) -> float:
    """Return the logarithm of the smallest probability to report."""
    value = check_number(p, "min_prob", 0, 1)
    return math.log(value) if value > 0 else -math.inf

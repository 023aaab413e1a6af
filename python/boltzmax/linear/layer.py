r"""The full softmax layer: a linear score for every class, without the matrix of logits."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from boltzmax import _core
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
from boltzmax._lib.unit_layer import UnitLayer, adagrad_rates
from boltzmax.linear.cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.linear.quantised_layer import QuantizedSoftmax
from boltzmax.linear.queries import linear_log_prob, linear_sample, linear_topk


class LinearSoftmax(UnitLayer):
    r"""A softmax of one linear score for each class: the full softmax layer.

    The probability of class :math:`c` given the hidden vector :math:`h` is

    .. math:: p(c \mid h) = \frac{e^{w_c \cdot h + b_c}}{\sum_j e^{w_j \cdot h + b_j}}.

    All methods but `log_prob_all` take memory for a few tiles of logits, not for all (N, V).
    They are those of `HierarchicalSoftmax`, so that one layer can replace the other.

    Parameters
    ----------
    n_classes : int
        The number V of classes.
    n_features : int
        The length D of a hidden vector.
    bias : bool, default True
        Whether classes have a bias.
    dtype : {float32, float64}
        The dtype of the weights, the hidden vectors and the results.
    seed : int or numpy.random.Generator, optional
        If given, weights start normally distributed with standard deviation 1 / sqrt(D); else at
        zero: then all classes are equally likely, and training breaks the symmetry, as hidden
        vectors differ.

    Attributes
    ----------
    n_classes, n_features, dtype
        As given.
    weight : ndarray, shape (V, D)
        Writable.
    bias : ndarray, shape (V,), or None

    Raises
    ------
    ValueError
        If `n_classes` or `n_features` is less than 1.
    TypeError
        If `dtype` is neither float32 nor float64.

    See Also
    --------
    HierarchicalSoftmax : for very many classes; a class costs its depth in a tree.
    linear_cross_entropy : the same loss for weights that you manage, with more options.

    Notes
    -----
    ``hidden`` is (N, D) in all methods and converted to `dtype` if necessary. NaN in a row makes
    its probabilities NaN, and it has no top classes. A step uses the summed gradients of all its
    rows, like "batch" in `HierarchicalSoftmax`: row by row, each would have to read every class.

    Examples
    --------
    >>> import numpy as np, boltzmax
    >>> layer = boltzmax.LinearSoftmax(n_classes=4, n_features=3)
    >>> layer.log_prob_all(np.zeros((1, 3)))
    array([[-1.3862944, -1.3862944, -1.3862944, -1.3862944]], dtype=float32)
    >>> hidden, target = np.eye(3), [3, 0, 1]
    >>> for _ in range(20):
    ...     loss, d_hidden = layer.adagrad_step(hidden, target, lr=0.5)
    >>> layer.predict(hidden)
    array([3, 0, 1])
    """

    _kind = "boltzmax linear softmax, version 1"
    _frame = "the weights"

    def __init__(
        self,
        n_classes: int,
        n_features: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self._n_classes = check_count(n_classes, "n_classes", 1)
        super().__init__(self._n_classes, n_features, bias, dtype, seed)

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return self._n_classes

    @property
    def _n_units(self) -> int:
        return self._n_classes

    # ---- probabilities ----

    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        """Return log p(target) of every row.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
            A class for each row.

        Returns
        -------
        ndarray of `dtype`, shape (N,)

        Raises
        ------
        IndexError
            For a target that is not a class; the message names the first.
        """
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        return linear_log_prob(x, weight, self._target(target, len(x)), bias)

    @quietly
    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes)."""
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        scores = x @ weight.T
        if bias is not None:
            scores += bias
        return _core.log_softmax(scores, -1, out=scores)

    # ---- learning ----

    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean of -log p(target), weighted by `sample_weight`; NaN without rows."""
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        classes, of_row = self._target(target, len(x)), _of_rows(sample_weight, len(x))
        return float(linear_cross_entropy(x, weight, classes, bias, sample_weight=of_row))

    def loss_with_grad(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> DenseGradient:
        """Return the loss and its gradients.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
        sample_weight : array_like, shape (N,), optional

        Returns
        -------
        loss : float
            As returned by `loss`.
        d_hidden : ndarray, shape (N, D)
        d_weight : ndarray, shape (V, D)
        d_bias : ndarray, shape (V,), or None
        """
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        classes, of_row = self._target(target, len(x)), _of_rows(sample_weight, len(x))
        loss, d_hidden, d_weight, d_bias = linear_cross_entropy_with_grad(
            x, weight, classes, bias, sample_weight=of_row
        )
        return DenseGradient(float(loss), d_hidden, d_weight, d_bias)

    def sgd_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
    ) -> tuple[float, Array]:
        """Take a step along the negative sum of the gradients of all rows, in place.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
        lr : float
            The learning rate: ``weight -= lr * gradient of the sum of -log p(target)``.
        sample_weight : array_like, shape (N,), optional
            Multiplies the gradient of each row.

        Returns
        -------
        loss : float
            The weighted mean of -log p(target) before the step.
        d_hidden : ndarray, shape (N, D)
            The gradient of each row's weighted loss with respect to its hidden vector.
        """
        return self._descend(hidden, target, lr, sample_weight, None, 0.0)

    def adagrad_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        eps: float = 1e-10,
    ) -> tuple[float, Array]:
        """Step as `sgd_step` does, with a separate learning rate for every class.

        Row-wise Adagrad: the mean square of each class's gradient, including its bias's, is summed
        over the steps, and the rate of the class is ``lr / (sqrt(sum) + eps)`` (Duchi, Hazan &
        Singer, JMLR 2011). It stores one number per class.

        Parameters
        ----------
        hidden, target, lr, sample_weight : see `sgd_step`
        eps : float, default 1e-10
            Keeps the first steps finite.
        """
        check_number(eps, "eps", 0, 1e30)
        squares = self._sums_of_squares()
        done = self._descend(hidden, target, lr, sample_weight, squares, eps)
        self._squares = squares
        return done

    @quietly
    def _descend(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None,
        squares: Doubles | None,
        eps: float,
    ) -> tuple[float, Array]:
        x, classes, of_row, rate = self._read_step(hidden, target, lr, sample_weight)
        total, d_hidden, d_weight, d_bias = linear_cross_entropy_with_grad(
            x,
            self.weight,
            classes,
            self.bias,
            reduction="sum",
            sample_weight=None if sample_weight is None else of_row,
        )
        rates = rate if squares is None else adagrad_rates(rate, squares, eps, d_weight, d_bias)
        np.multiply(d_weight.T, rates, out=d_weight.T)
        self.weight -= d_weight
        if self.bias is not None and d_bias is not None:
            self.bias -= rates * d_bias
        return float(total / of_row.sum()), d_hidden

    # ---- queries ----

    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        k : int
            From 1 to the number of classes.
        min_prob : float, default 0.0
            Leave out classes of a lower probability.

        Returns
        -------
        ids : ndarray of int64, shape (N, k)
            The likeliest first, ties in favour of the lower class; -1 where there are no more.
        log_probs : ndarray of `dtype`, shape (N, k)
            -inf where there are no more.
        """
        count, least = check_count(k, "k", 1, self.n_classes), read_min_prob(min_prob)
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        ids, log_probs = linear_topk(x, weight, count, bias)
        found = (log_probs >= least) & ~np.isnan(log_probs).any(axis=1, keepdims=True)
        if not found.all():
            ids[~found], log_probs[~found] = -1, -np.inf
        return ids, log_probs

    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        """Draw a class for each row, (N,).

        Exact, from one uniform number per row (see `linear_sample`): the same classes for the same
        seed. A row with NaN, +inf or no finite logit is a ValueError that names it, or, with
        errors="mark", has the class -1.
        """
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        return linear_sample(x, weight, rng, bias, errors=errors)

    # ---- fewer bits ----

    def quantize(self, bits: int = 8, **options: Any) -> QuantizedSoftmax:
        """Return a layer of the same weights in fewer bits, which answers but does not learn.

        Parameters
        ----------
        bits : {8, 4}, default 8
            Of a weight.
        **options
            Those of `QuantizedLinear`.

        Returns
        -------
        QuantizedSoftmax
        """
        weight, bias = self._parameters()
        return QuantizedSoftmax(QuantizedLinear(weight, bias, bits=bits, **options), self.dtype)

    # ---- files ----

    @classmethod
    def _new(cls, arrays: dict[str, Array], n_features: int, dtype: np.dtype[Any]) -> Self:
        return cls(len(arrays["weight"]), n_features, bias=False, dtype=dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_classes}, {self.n_features}, dtype={self.dtype})"


def _of_rows(sample_weight: ArrayLike | None, rows: int) -> Doubles | None:
    return None if sample_weight is None else read_sample_weight(sample_weight, rows)

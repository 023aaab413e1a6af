"""An output layer on the sphere, trained with margins."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from boltzmax import _core
from boltzmax._lib.arguments import as_number, check_count, check_positive, one_of, quietly
from boltzmax._lib.bad_rows import are_marked, refuse_bad_rows
from boltzmax._lib.numbers import check_number
from boltzmax._lib.output_layer import (
    Array,
    Classes,
    DenseGradient,
    Doubles,
    read_min_prob,
    read_sample_weight,
)
from boltzmax._lib.random import normal_noise, random_generator, random_key
from boltzmax._lib.unit_layer import UnitLayer, adagrad_rates
from boltzmax.arrays.row_stats import row_stats
from boltzmax.losses.cross_entropy import cross_entropy, cross_entropy_with_grad
from boltzmax.margin.centers import (
    POOLINGS,
    centers_backward,
    cosines_of_centers,
    pooled,
    pooled_backward,
)
from boltzmax.margin.cosine import Directions, directions, read_scale
from boltzmax.margin.margins import Margins, read_margins, target_logit, target_slope
from boltzmax.margin.noise import check_alpha


class _Forward(NamedTuple):
    """The directions of a batch and of the centres, and their cosines, (N, V, C) and (N, V)."""

    x: Directions
    c: Directions
    each: Array
    cosine: Array


class MarginSoftmax(UnitLayer):
    r"""A softmax of scaled cosines, trained with a margin on the target's.

    The probability of class c given the hidden vector h is

    .. math:: p(c \mid h) = \frac{e^{s \cos\theta_c}}{\sum_j e^{s \cos\theta_j}},

    with the angle :math:`\theta_c` between h and the centre of c, or the pooled cosine of several
    centres. In training, the target's logit is lowered to :math:`s\, (\psi(m_1 \theta + m_2) -
    m_3)`, as in `margin_logits`. So `loss`, `loss_with_grad` and the steps have the margin;
    `log_prob` and all other methods do not.

    Parameters
    ----------
    n_classes : int
        The number V of classes.
    n_features : int
        The length D of a hidden vector.
    m1, m2, m3 : float, default 1.0, 0.5 and 0.0
        The margins, angles in radians: see `margin_logits`.
    scale : float, default 64.0
        The scale s.
    centers_per_class : int, default 1
        The number C of centres of a class.
    pooling : {"max", "soft"}, default "max"
        How their cosines are combined: see `subcenter_cosine`.
    gamma : float, default 0.1
        The temperature of soft pooling.
    noise_alpha : float, default 0.0
        The strength of noise on the target's logit, :math:`-\alpha s (1 - \cos\theta) |\xi|`, in
        `loss_with_grad` and the steps: see `noisy_logits`.
    dtype : {float32, float64}
        The dtype of the weights, the hidden vectors and the results.
    seed : int or numpy.random.Generator, optional
        Weights start normally distributed with standard deviation 1 / sqrt(D); the key of the noise
        comes from the same generator. Unlike in other layers, weights do not start at zero without
        a seed, as zeros have no direction to change.

    Attributes
    ----------
    n_classes, n_features, dtype, centers_per_class, pooling
        As given.
    m1, m2, m3, scale, gamma, noise_alpha : float
        As given; they may be changed during training.
    weight : ndarray, shape (V * C, D)
        The centres, those of a class next to each other; writable. Only their directions matter.
    bias : None

    Raises
    ------
    ValueError
        If a number is out of range.
    TypeError
        If `dtype` is neither float32 nor float64.

    See Also
    --------
    boltzmax.LinearSoftmax : the layer without normalisation.

    Notes
    -----
    The cosines of a batch and all centres, (N, V * C), are stored. The rows of all calls are
    numbered on, and the noise depends on the key and the number of the row alone. A loaded layer
    has another key.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.margin import MarginSoftmax
    >>> layer = MarginSoftmax(n_classes=3, n_features=3, scale=16, seed=0)
    >>> hidden, target = np.eye(3), [2, 0, 1]
    >>> for _ in range(50):
    ...     loss, d_hidden = layer.adagrad_step(hidden, target, lr=0.5)
    >>> layer.predict(hidden)
    array([2, 0, 1])
    """

    _kind = "boltzmax margin softmax, version 1"
    _frame = "the weights"
    _OPTIONS = ("m1", "m2", "m3", "scale", "centers_per_class", "gamma", "noise_alpha")

    def __init__(
        self,
        n_classes: int,
        n_features: int,
        *,
        m1: float = 1.0,
        m2: float = 0.5,
        m3: float = 0.0,
        scale: float = 64.0,
        centers_per_class: int = 1,
        pooling: str = "max",
        gamma: float = 0.1,
        noise_alpha: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        self._n_classes = check_count(n_classes, "n_classes", 1)
        self.m1, self.m2, self.m3 = (
            as_number(m, name) for m, name in ((m1, "m1"), (m2, "m2"), (m3, "m3"))
        )
        self.scale = scale
        self._centers_per_class = check_count(centers_per_class, "centers_per_class", 1)
        self._pooling = one_of(pooling, "pooling", POOLINGS)
        self.gamma = check_positive(gamma, "gamma")
        self.noise_alpha = check_alpha(noise_alpha, "noise_alpha")
        rng = random_generator(seed, "seed")
        super().__init__(self._n_units, n_features, False, dtype, rng)
        self._noise_key = random_key(rng)
        self._next_row = 0  # of the noise
        self._check_options()

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return self._n_classes

    @property
    def centers_per_class(self) -> int:
        """The number of centres of a class."""
        return self._centers_per_class

    @property
    def pooling(self) -> str:
        """How the cosines of a class's centres are combined."""
        return self._pooling

    def _check_options(self) -> Margins:
        """Check the options that may change during training; return the margins."""
        self.scale = read_scale(self.scale, self.dtype)
        return read_margins(self.m1, self.m2, self.m3, False, ())

    @property
    def _n_units(self) -> int:
        return self._n_classes * self.centers_per_class

    # ---- probabilities ----

    def _forward(self, x: Array) -> _Forward:
        weight = self._parameters()[0]
        of_x = directions(x)
        of_c = directions(weight.reshape(self.n_classes, self.centers_per_class, -1))
        each = cosines_of_centers(of_x, of_c)
        return _Forward(of_x, of_c, each, pooled(each, self.pooling, self.gamma))

    @quietly
    def _logits(self, hidden: ArrayLike) -> Array:
        cosine = self._forward(self._hidden(hidden)).cosine
        self._check_options()
        return cosine * self.scale

    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        """Return log p(target) of every row, without a margin.

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
        x = self._hidden(hidden)
        classes = self._target(target, len(x))
        return np.asarray(-cross_entropy(self._logits(x), classes, reduction="none"))

    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes), without a margin."""
        logits = self._logits(hidden)
        return _core.log_softmax(logits, -1, out=logits)

    # ---- learning ----

    @quietly
    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean loss with the margin, weighted by `sample_weight`; NaN without rows."""
        x = self._hidden(hidden)
        classes, of_row = self._target(target, len(x)), read_sample_weight(sample_weight, len(x))
        logits, _ = self._with_margin(self._forward(x).cosine, classes, np.zeros(len(x)))
        return float(cross_entropy(logits, classes, sample_weight=of_row))

    def loss_with_grad(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> DenseGradient:
        """Return the loss with the margin, and its gradients.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
        sample_weight : array_like, shape (N,), optional

        Returns
        -------
        loss : float
            As returned by `loss`, if there is no noise.
        d_hidden : ndarray, shape (N, D)
        d_weight : ndarray, shape (V * C, D)
        d_bias : None
        """
        x = self._hidden(hidden)
        classes, of_row = self._target(target, len(x)), read_sample_weight(sample_weight, len(x))
        return self._gradient(x, classes, of_row, "mean")

    def _with_margin(
        self, cosine: Array, classes: Classes, noise: Doubles
    ) -> tuple[Array, Doubles]:
        """Return the logits of training, and the derivative of the targets' by their cosines.

        `noise` is alpha |xi| of each row.
        """
        index = classes[:, np.newaxis]
        of_target = np.clip(np.take_along_axis(cosine, index, -1).astype(np.float64), -1.0, 1.0)
        lower = noise[:, np.newaxis]
        margins = self._check_options()
        logit = target_logit(of_target, margins) - lower * (1.0 - of_target)
        slope = target_slope(of_target, margins, self.dtype) + lower
        logits = cosine * self.scale
        np.put_along_axis(logits, index, self.scale * logit, -1)
        return logits, slope

    @quietly
    def _gradient(self, x: Array, classes: Classes, of_row: Doubles, by: str) -> DenseGradient:
        forward, noise = self._forward(x), np.zeros(len(x))
        if self.noise_alpha:
            xi = normal_noise(self._noise_key, self._next_row, len(x), 1)[:, 0]
            noise = self.noise_alpha * np.abs(xi)
            self._next_row += len(x)
        logits, slope = self._with_margin(forward.cosine, classes, noise)
        loss, d = cross_entropy_with_grad(
            logits, classes, sample_weight=of_row, reduction=by, out=logits
        )
        index = classes[:, np.newaxis]
        column = np.take_along_axis(d, index, -1) * slope
        np.put_along_axis(d, index, column, -1)
        d *= self.scale
        d_each = pooled_backward(d, forward.each, self.pooling, self.gamma)
        d_hidden, d_centers = centers_backward(d_each, forward.x, forward.c)
        return DenseGradient(float(loss), d_hidden, d_centers.reshape(self.weight.shape), None)

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
            The learning rate: ``weight -= lr * gradient of the sum of losses``.
        sample_weight : array_like, shape (N,), optional
            Multiplies the gradient of each row.

        Returns
        -------
        loss : float
            The weighted mean of the losses before the step.
        d_hidden : ndarray, shape (N, D)
            The gradient of each row's weighted loss with respect to its hidden vector.
        """
        return self._descend(hidden, target, lr, sample_weight, None)

    def adagrad_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        eps: float = 1e-10,
    ) -> tuple[float, Array]:
        """Step as `sgd_step` does, with a separate learning rate for every centre.

        Parameters
        ----------
        hidden, target, lr, sample_weight : see `sgd_step`
        eps : float, default 1e-10
            Keeps the first steps finite.
        """
        return self._descend(hidden, target, lr, sample_weight, check_number(eps, "eps", 0, 1e30))

    @quietly
    def _descend(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None,
        eps: float | None,
    ) -> tuple[float, Array]:
        """Step along the gradient of the sum; with Adagrad's rates if there is an `eps`."""
        x, classes, of_row, rate = self._read_step(hidden, target, lr, sample_weight)
        total, d_hidden, d_weight, _ = self._gradient(x, classes, of_row, "sum")
        rates: Any = rate
        if eps is not None:
            squares = self._sums_of_squares()
            rates = adagrad_rates(rate, squares, eps, d_weight, None)
            self._squares = squares
        np.multiply(d_weight.T, rates, out=d_weight.T)
        self.weight -= d_weight
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
        found = row_stats(self._logits(hidden), None, count, entropy=False)
        ids, log_probs = np.array(found.top_ids), np.array(found.top_log_probs)
        missing = ~(log_probs >= least) | np.isnan(log_probs).any(axis=1, keepdims=True)
        ids[missing], log_probs[missing] = -1, -np.inf
        return ids, log_probs

    @quietly
    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        """Draw a class for each row, (N,).

        From one uniform number per row: the same classes for the same seed. A row with NaN is a
        ValueError that names it, or, with errors="mark", has the class -1.
        """
        marks = are_marked(errors)
        sums = np.exp(self.log_prob_all(hidden).astype(np.float64)).cumsum(axis=1)
        uniform = random_generator(rng).random(len(sums)) * sums[:, -1]
        drawn = (sums > uniform[:, np.newaxis]).argmax(axis=1)
        is_bad = np.isnan(sums[:, -1])
        if not marks:
            refuse_bad_rows(is_bad, is_bad.shape)
        return np.where(is_bad, -1, drawn)

    # ---- files ----

    def _arrays(self) -> dict[str, Any]:
        options = {name: np.float64(getattr(self, name)) for name in self._OPTIONS}
        return {**super()._arrays(), **options, "soft": np.bool_(self.pooling == "soft")}

    @classmethod
    def _new(cls, arrays: dict[str, Array], n_features: int, dtype: np.dtype[Any]) -> Self:
        try:
            options: dict[str, Any] = {name: float(arrays[name]) for name in cls._OPTIONS}
            pooling = "soft" if arrays["soft"] else "max"
        except (KeyError, TypeError) as error:
            raise ValueError("not a layer: its margins are not there") from error
        each = int(options.pop("centers_per_class"))
        classes = len(arrays["weight"]) // max(each, 1)
        return cls(
            classes, n_features, centers_per_class=each, pooling=pooling, dtype=dtype, **options
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_classes}, {self.n_features}, dtype={self.dtype})"

r"""Cross-entropy of a linear layer and its gradients without the matrix of logits.

The logits of `N` rows and `V` classes are computed in tiles, once for the logarithm of the sums
of their exponentials and once more for the gradients: four matrix products, and three where all
classes of a block of rows fit into one tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._linear_scores import Rows, Scores, at_targets, merged
from boltzmax._targets import (
    REDUCTIONS,
    broadcast,
    check_scalar,
    checked_reduction,
    checked_targets,
    numbers_of_shape,
    product,
    reduce_loss,
)

Array = NDArray[Any]
Floats = NDArray[np.float64]

_SCRATCH = 2**17  # numbers in the buffer for a product that is added to something


def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    class_weight: ArrayLike | None = None,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
) -> Any:
    r"""Compute the cross-entropy of ``hidden @ weight.T + bias``, which is never built.

    With scores :math:`s = c \tanh(x / c) / T` of the logits :math:`x`, softcap :math:`c` and
    temperature :math:`T`, and with :math:`\ell_i = \log \sum_c e^{s_{ic}}`, a row loses

    .. math:: u_i \Bigl(\sum_c a_{ic} (\ell_i - s_{ic}) + z \, \ell_i^2\Bigr), \qquad
              a_{ic} = w_c \bigl((1 - \varepsilon) [c = t_i] + \varepsilon / V\bigr).

    Parameters
    ----------
    hidden : array_like, shape (..., D)
        One row for each target.
    weight : array_like, shape (V, D)
        One row for each class; a memory map is read tile by tile.
    target : array_like of int, shape (...)
        The class :math:`t_i` of each row.
    bias : array_like, shape (V,), optional
        Added to the logits.
    ignore_index : int, optional
        Rows of this target do not count; they are not even computed.
    label_smoothing : float, optional
        The part :math:`\varepsilon` of each target that is spread over all classes.
    z_loss : float, optional
        The factor :math:`z` of the squared logarithm of the sum.
    softcap : float, optional
        Caps the logits; by default they are not capped.
    temperature : float, optional
        Divides the scores.
    class_weight : array_like, shape (V,), optional
        The weights :math:`w_c` of classes.
    reduction : {"mean", "sum", "none"}, optional
        What to return; the mean is over :math:`\sum_i u_i w_{t_i}` as in PyTorch, and NaN if no
        row counts.
    sample_weight : array_like, optional
        The weights :math:`u_i` of rows; broadcasts to the shape of `target`.

    Returns
    -------
    scalar or ndarray
        In float64 if `hidden` or `weight` is (or is of integers), otherwise float32.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match, there are no classes, or an option is out of range.
    IndexError
        If a target is not a class; the first such is named.

    Notes
    -----
    Besides the result this takes memory for a few tiles of at most 2**19 numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_cross_entropy
    >>> hidden, weight = np.eye(2), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> print(linear_cross_entropy(hidden, weight, [0, 2]).round(6))
    1.051445
    """
    scores = Scores(hidden, weight, bias, temperature, softcap)
    terms = _terms(
        scores, target, ignore_index, label_smoothing, z_loss, class_weight, sample_weight
    )
    checked_reduction(reduction, REDUCTIONS)
    with np.errstate(all="ignore"):
        for where, x in scores.blocks():
            _lose(scores, terms, where, x)
        return terms.reduced(reduction, scores)


def linear_cross_entropy_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    class_weight: ArrayLike | None = None,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
) -> tuple[Any, Array, Array, Array | None]:
    r"""Compute `linear_cross_entropy` and its gradients, with the logits never built.

    With the probabilities :math:`p = e^{s - \ell}`, the gradient by a score is

    .. math:: u_i \bigl((\textstyle\sum_c a_{ic} + 2 z \ell_i) \, p_{ic} - a_{ic}\bigr),

    over the divisor of the mean.  Gradients are NaN where the loss of a row is.

    Parameters
    ----------
    hidden, weight, target, bias : see `linear_cross_entropy`
    ignore_index, label_smoothing, z_loss, softcap : see `linear_cross_entropy`
    temperature, class_weight, sample_weight : see `linear_cross_entropy`
    reduction : {"mean", "sum"}, optional
        The loss whose gradients are wanted.

    Returns
    -------
    loss : scalar
        The loss.
    d_hidden : ndarray, shape (..., D)
        The gradient by `hidden`, 0 in ignored rows.  Gradients have the dtype of the loss, also
        where `hidden` or `weight` has half precision.
    d_weight : ndarray, shape (V, D)
        The gradient by `weight`.
    d_bias : ndarray, shape (V,), or None
        The gradient by `bias`, if there is one.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match, there are no classes, or an option is out of range.
    IndexError
        If a target is not a class; the first such is named.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_cross_entropy_with_grad
    >>> loss, d_hidden, d_weight, _ = linear_cross_entropy_with_grad([[1.0]], [[0.0], [0.0]], [1])
    >>> d_weight
    array([[ 0.5],
           [-0.5]])
    """
    scores = Scores(hidden, weight, bias, temperature, softcap)
    terms = _terms(
        scores, target, ignore_index, label_smoothing, z_loss, class_weight, sample_weight
    )
    check_scalar(reduction, REDUCTIONS)
    gradients = _Gradients(scores)
    with np.errstate(all="ignore"):
        scale = terms.sample_weight / (terms.divisor() if reduction == "mean" else 1.0)
        for where, x in scores.blocks():
            total = _lose(scores, terms, where, x)
            gradients.add(scores, terms, where, x, total, scale[where])
        loss = terms.reduced(reduction, scores)
    d_hidden = gradients.hidden.reshape(*scores.shape, scores.width)
    return loss, d_hidden, gradients.weight, gradients.bias


@dataclass
class _Terms:
    """What the loss of each row is made of."""

    target: NDArray[np.int64]
    counted: NDArray[np.bool_]
    sample_weight: Floats  # per row
    class_weight: Floats | None
    target_weight: Floats  # of the class of each row
    smoothing: float
    spread: float  # what label smoothing gives to a class
    mass: Floats  # the sum of the a_c of each row
    z_loss: float
    losses: Floats

    def divisor(self) -> np.float64:
        used = (self.target_weight * self.sample_weight)[self.counted]
        return np.float64(used.sum())

    def reduced(self, reduction: str, scores: Scores) -> Any:
        weights = self.target_weight * self.sample_weight
        losses = product(self.sample_weight, self.losses)
        return reduce_loss(losses, weights, self.counted, reduction, scores.shape, scores.dtype)


def _terms(
    scores: Scores,
    target: ArrayLike,
    ignore_index: int,
    label_smoothing: float,
    z_loss: float,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
) -> _Terms:
    """Check what a loss takes besides the scores, and let these skip what does not count."""
    n, shape = scores.n_classes, scores.shape
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    if not 0.0 <= z_loss < np.inf:
        raise ValueError(f"z_loss must be finite and not negative, got {z_loss!r}")
    classes, counted = checked_targets(target, shape, n, ignore_index)
    of_class, own, mass = None, np.ones(len(classes)), 1.0
    if class_weight is not None:
        of_class = numbers_of_shape(class_weight, (n,), "class_weight", "one weight per class")
        own, mass = of_class[classes], float(of_class.mean())
    of_row = 1.0 if sample_weight is None else sample_weight
    scores.plan(counted)
    return _Terms(
        target=classes,
        counted=counted,
        sample_weight=broadcast(of_row, shape, "sample_weight", "target").reshape(-1),
        class_weight=of_class,
        target_weight=own,
        smoothing=label_smoothing,
        spread=label_smoothing / n,
        mass=own * (1.0 - label_smoothing) + mass * label_smoothing,
        z_loss=z_loss,
        losses=np.zeros(len(classes)),
    )


def _lose(scores: Scores, terms: _Terms, where: Rows, x: Array) -> Floats:
    """Store the losses of a block of rows, and return the logsumexp of each."""
    target = terms.target[where]
    total, own, every = np.full(len(x), -np.inf), np.empty(len(x)), np.zeros(len(x))
    for tile in scores.tiles:
        s = scores.tile(x, tile)
        total = merged(total, s)
        index = at_targets(s, tile, target)
        own[index[0]] = s[index]
        if terms.spread and terms.class_weight is None:
            every += s.sum(axis=1, dtype=np.float64)
        elif terms.spread and terms.class_weight is not None:
            every += s @ terms.class_weight[tile].astype(s.dtype)
    mass, own_part = terms.mass[where], terms.target_weight[where] * (1.0 - terms.smoothing)
    if terms.spread:
        losses = mass * total - own_part * own - terms.spread * every
    else:  # the difference first: that of large scores is exact
        losses = own_part * (total - own)
    terms.losses[where] = losses + terms.z_loss * total**2 if terms.z_loss else losses
    return total


class _Gradients:
    """The gradients, and what it takes to add the share of a block of rows to them."""

    def __init__(self, scores: Scores) -> None:
        self.hidden = np.zeros(scores.hidden.shape, scores.dtype)
        self.weight = np.zeros(scores.weight.shape, scores.dtype)
        self.bias = None if scores.bias is None else np.zeros(scores.n_classes, scores.dtype)
        self._scratch = np.empty(_SCRATCH, scores.dtype)
        self._untouched = True

    def add(
        self, scores: Scores, terms: _Terms, where: Rows, x: Array, total: Floats, scale: Floats
    ) -> None:
        """Add the gradients of the losses of rows `x`, each times its `scale`."""
        scale = scale / scores.temperature
        gain = scale * (terms.mass[where] + 2.0 * terms.z_loss * total)
        own = scale * terms.target_weight[where] * (1.0 - terms.smoothing)
        spread = scale * terms.spread
        shift = total.astype(scores.dtype)
        gain *= np.exp(shift - total)  # what rounding has taken from the shift
        d_hidden = self.hidden[where] if isinstance(where, slice) else np.empty_like(x)
        for tile in scores.tiles:
            # A single tile is still there from the losses.
            s = scores.tile(x, tile) if len(scores.tiles) > 1 else scores.last
            slope = None if scores.softcap is None else _slope(s, scores)
            s -= shift[:, None]
            np.exp(s, out=s)
            s *= gain.astype(s.dtype)[:, None]
            index = at_targets(s, tile, terms.target[where])
            s[index] -= own[index[0]].astype(s.dtype)
            if terms.spread and terms.class_weight is None:
                s -= spread.astype(s.dtype)[:, None]
            elif terms.spread and terms.class_weight is not None:
                of_class = terms.class_weight[tile].astype(s.dtype)
                s -= np.multiply.outer(spread.astype(s.dtype), of_class)
            if slope is not None:
                s *= slope
            self._product(s, scores.vectors(tile), d_hidden, first=tile.start == 0)
            self._product(s.T, x, self.weight[tile], first=self._untouched)
            if self.bias is not None:
                self.bias[tile] += s.sum(axis=0, dtype=np.float64)
        self.hidden[where] = d_hidden
        self._untouched = False

    def _product(self, a: Array, b: Array, out: Array, first: bool) -> None:
        """Add a product to `out`, or write the `first`."""
        if first:
            np.matmul(a, b, out=out)
            return
        columns = max(1, len(self._scratch) // len(out))
        for start in range(0, out.shape[1], columns):
            some = out[:, start : start + columns]
            scratch = self._scratch[: some.size].reshape(some.shape)
            some += np.matmul(a, b[:, start : start + columns], out=scratch)


def _slope(scores: Array, of: Scores) -> Array:
    """Return the derivative of capped scores by the logits, times the temperature."""
    slope = scores * (of.temperature / (of.softcap or 1.0))
    np.multiply(slope, slope, out=slope)
    return np.subtract(1.0, slope, out=slope, dtype=slope.dtype)

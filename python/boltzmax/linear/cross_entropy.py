r"""Cross-entropy of a linear layer and its gradients without the matrix of logits.

The logits of `N` rows and `V` classes are computed in tiles, once for the logsumexp of each row and
once more for the gradients: four matrix products, or three where all classes of a block of rows fit
into one tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly
from boltzmax._lib.numbers import check_label_smoothing, check_z_loss, per_class
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.targets import Wanted, read_targets
from boltzmax.linear import scores as linear_scores
from boltzmax.linear.scores import Products, Rows, Scores, Shares, Totals, recycled
from boltzmax.losses.reduction import Reduction, read_reduction
from boltzmax.losses.registry import Loss, register

Array = NDArray[Any]
Floats = NDArray[np.float64]


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
    empty: str = "nan",
) -> Any:
    r"""Compute the cross-entropy of ``hidden @ weight.T + bias``, which is never built.

    With scores :math:`s = c \, \tanh(x / c) / T` of the logits :math:`x`, softcap :math:`c` and
    temperature :math:`T`, with :math:`\ell_i = \log \sum_c e^{s_{ic}}` and the weight
    :math:`u_i` of the row, the loss of a row is

    .. math:: u_i \Bigl(\sum_c a_{ic} (\ell_i - s_{ic}) + z \, \ell_i^2\Bigr), \qquad
              a_{ic} = w_c \bigl((1 - \varepsilon) [c = t_i] + \varepsilon / V\bigr).

    Parameters
    ----------
    hidden : array_like, shape (..., D)
        One row for each target.
    weight : array_like, shape (V, D)
        One row for each class; a memory map is read tile by tile.
    target : array_like
        The class :math:`t_i` of each row, of any integer dtype and shape (...); or probabilities
        :math:`q_{ic}` of classes, shape (..., V), which take the place of :math:`[c = t_i]`.
    bias : array_like, shape (V,), optional
        Added to the logits.
    ignore_index : int, optional
        Rows of this target do not count; they are not even computed.
    label_smoothing : float, optional
        The share :math:`\varepsilon` of each target that is spread over all classes.
    z_loss : float, optional
        The factor :math:`z` of the squared logarithm of the sum.
    softcap : float, optional
        Caps the logits; by default they are not capped.
    temperature : float, optional
        Divides the scores.
    class_weight : array_like, shape (V,), optional
        The weights :math:`w_c` of classes.
    reduction : {"mean", "sum", "none"}, optional
        What to return; the mean divides by :math:`\sum_i u_i w_{t_i}` as in PyTorch, or by
        :math:`\sum_i u_i` if targets are probabilities.
    {sample_weight}
    {empty}

    Returns
    -------
    scalar or ndarray
        float64 if `hidden` or `weight` is float64 or integer, otherwise float32.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match, there are no classes, or an option is out of range.
    IndexError
        If a target is not a class; the message names the first.

    {see_gradient}

    Notes
    -----
    Besides the result this takes memory for a few tiles of at most 2**21 numbers.  Rows and classes
    of weight 0 are left out, even if their loss is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_cross_entropy
    >>> hidden, weight = np.eye(2), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> print(linear_cross_entropy(hidden, weight, [0, 2]).round(6))
    1.051445
    """
    small = _core.linear_small_loss(
        linear_scores.SMALL, hidden, weight, target, bias, ignore_index, label_smoothing, z_loss,
        softcap, temperature, class_weight, reduction, sample_weight, empty,
    )  # fmt: skip
    if small is not None:
        return small
    options = _Options(
        ignore_index, label_smoothing, z_loss, class_weight, reduction, sample_weight, empty
    )
    return _evaluate(hidden, weight, target, bias, temperature, softcap, options, False)[0]


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
    empty: str = "nan",
) -> tuple[Any, Array, Array, Array | None]:
    r"""Compute `linear_cross_entropy` and its gradients without building the logits.

    With the probabilities :math:`p = e^{s - \ell}`, the gradient with respect to a score is

    .. math:: u_i \bigl(({\textstyle\sum_c a_{ic}} + 2 z \ell_i) \, p_{ic} - a_{ic}\bigr),

    over the divisor of the mean.  Where the loss of a row is NaN, so are its gradients.

    {parameters}

    Returns
    -------
    {loss}
    d_hidden : ndarray, shape (..., D)
        The gradient with respect to `hidden`, 0 in ignored rows.  Gradients have the dtype of the
        loss, even if `hidden` or `weight` has half precision.
    d_weight : ndarray, shape (V, D)
        The gradient with respect to `weight`.
    d_bias : ndarray, shape (V,), or None
        The gradient with respect to `bias`, if there is one.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_cross_entropy_with_grad
    >>> loss, d_hidden, d_weight, _ = linear_cross_entropy_with_grad([[1.0]], [[0.0], [0.0]], [1])
    >>> d_weight
    array([[ 0.5],
           [-0.5]])
    """
    small = _core.linear_small_loss_with_grad(
        linear_scores.SMALL, hidden, weight, target, bias, ignore_index, label_smoothing, z_loss,
        softcap, temperature, class_weight, reduction, sample_weight, empty,
    )  # fmt: skip
    if small is not None:
        return small
    options = _Options(
        ignore_index, label_smoothing, z_loss, class_weight, reduction, sample_weight, empty
    )
    return _evaluate(hidden, weight, target, bias, temperature, softcap, options, True)


def gradients_with_room(
    hidden: Array,
    weight: Array,
    target: Array,
    bias: Array | None,
    *,
    ignore_index: int,
    sample_weight: Floats,
    room: int,
) -> tuple[Any, Array, Array, Array | None]:
    """Return the sum of the losses and its gradients, with tiles of up to `room` logits.

    Large tiles pay for few logits: if all classes of a block of rows fit, none is computed twice.
    """
    options = _Options(ignore_index, 0.0, 0.0, None, "sum", sample_weight, "nan")
    return _evaluate(hidden, weight, target, bias, 1.0, None, options, True, room)


class _Options(NamedTuple):
    """The arguments of a loss besides scores and targets."""

    ignore_index: int
    label_smoothing: float
    z_loss: float
    class_weight: ArrayLike | None
    reduction: str
    sample_weight: ArrayLike | None
    empty: str


@same_kind
@quietly
def _evaluate(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    bias: ArrayLike | None,
    temperature: float,
    softcap: float | None,
    options: _Options,
    with_grad: bool,
    room: int | None = None,
) -> tuple[Any, Any, Any, Array | None]:
    """Return the loss, and the gradients or None for each."""
    scores = Scores(hidden, weight, bias, temperature, softcap, room)
    terms = _terms(scores, target, options, with_grad)
    if not with_grad:
        for where, x in scores.blocks():
            terms.read(scores, where, x)
        return terms.reduce(terms.losses), None, None, None
    gradients = _Gradients(scores)
    scale = terms.reduce.scale() / scores.temperature
    for where, x in scores.blocks():
        totals = terms.read(scores, where, x)
        gradients.add(scores, terms, where, x, totals, scale[where])
    return terms.reduce(terms.losses), *gradients.delivered(scores)


@dataclass
class _Terms:
    """The parts of each row's loss: hard (lse - s_label), and shares of all classes."""

    label: NDArray[np.int64] | None
    hard: Floats | None
    shares: Shares
    mass: Floats | None  # the sum of the shares of each row
    z_loss: float
    losses: Floats
    reduce: Reduction

    def read(self, scores: Scores, where: Rows, x: Array) -> Totals:
        """Store the losses of a block of rows, and return the totals that they come from."""
        totals = Totals(len(x), _some(self.label, where), _some(self.mass, where))
        scores.read(x, totals, self.shares, where)
        losses = np.empty(len(x))
        _core.linear_losses(
            totals.columns, _some(self.hard, where), bool(self.shares), self.z_loss, losses
        )
        self.losses[where] = losses
        return totals


def _some(column: Any, where: Rows) -> Any:
    """Return part of a column, if there is one."""
    return None if column is None else column[where]


def _terms(scores: Scores, target: ArrayLike, options: _Options, with_grad: bool) -> _Terms:
    """Check the arguments besides the scores, and let the scores skip rows that do not count."""
    n, shape = scores.n_classes, scores.shape
    smoothing = check_label_smoothing(options.label_smoothing)
    z_loss = check_z_loss(options.z_loss)
    wanted = Wanted(shape, n, probabilities=True)
    given, counted = read_targets(target, wanted, options.ignore_index)
    label = given if given.dtype == np.int64 else None
    q = given.reshape(-1, n) if label is None else None
    own, hard, of_class, share = np.ones(len(counted)), None, None, smoothing
    if options.class_weight is not None:
        of_class = per_class(options.class_weight, n, "class_weight")
        share *= float(of_class.mean())
        if label is not None:
            own = of_class[label]
    if label is not None:
        hard = own * (1.0 - smoothing)
    reduce = read_reduction(
        options.reduction,
        options.sample_weight,
        options.empty,
        shape=shape,
        dtype=scores.dtype,
        counted=counted,
        own=own,
        with_grad=with_grad,
    )
    scores.plan(np.zeros_like(counted) if reduce.is_zero else counted)
    shares = Shares(q, of_class, 1.0 - smoothing, smoothing / n)
    return _Terms(
        label=label,
        hard=hard,
        shares=shares,
        mass=np.full(len(counted), share) if shares else None,
        z_loss=z_loss,
        losses=np.zeros(len(counted)),
        reduce=reduce,
    )


class _Gradients:
    """The gradients, and the buffers for adding the share of a block of rows."""

    def __init__(self, scores: Scores) -> None:
        self.hidden = np.zeros(scores.hidden.shape, scores.dtype)
        # The first block of rows overwrites it.
        new = recycled if scores.n_rows else np.zeros
        self.weight = new(scores.weight.shape, scores.dtype)
        self.bias = None if scores.bias is None else np.zeros(scores.n_classes)
        self._products = Products(scores.dtype)
        self._untouched = True

    def add(
        self, scores: Scores, terms: _Terms, where: Rows, x: Array, totals: Totals, scale: Floats
    ) -> None:
        """Add the gradients of the losses of rows `x`, each multiplied by its `scale`."""
        d_hidden = self.hidden[where] if isinstance(where, slice) else np.empty_like(x)
        for tile in scores.tiles:
            # A single tile is still in the buffer from the losses.
            scored = len(scores.tiles) == 1
            s = scores.last if scored else scores.product(x, tile)
            _core.linear_slopes(
                s,
                tile.start,
                scored,
                *scores.scoring(tile),
                terms.shares.of(where, tile, scores.dtype),
                totals.columns,
                _some(terms.hard, where),
                terms.z_loss,
                scale,
                None if self.bias is None else self.bias[tile],
            )
            self._products.add(s, scores.vectors(tile), d_hidden, first=tile.start == 0)
            self._products.add(s.T, x, self.weight[tile], first=self._untouched)
        self.hidden[where] = d_hidden
        self._untouched = False

    def delivered(self, scores: Scores) -> tuple[Array, Array, Array | None]:
        """Return the gradients with respect to hidden, weight and bias."""
        d_hidden = self.hidden.reshape(*scores.shape, scores.width)
        bias = None if self.bias is None else self.bias.astype(scores.dtype, copy=False)
        return d_hidden, self.weight, bias


register(
    Loss(
        linear_cross_entropy,
        linear_cross_entropy_with_grad,
        soft=True,
        class_weight="class_weight",
    )
)

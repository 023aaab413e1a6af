"""Negative log-likelihood of log-probabilities, with its gradient."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly, read_empty
from boltzmax._lib.logits import read_logits
from boltzmax._lib.numbers import gradient_like, per_class, row_weights
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.targets import Wanted, checked_targets
from boltzmax.losses.reduction import checked_reduction
from boltzmax.losses.registry import Loss, register

__all__ = ["nll_loss", "nll_loss_with_grad"]

Array = NDArray[Any]


def nll_loss(
    log_prob: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
) -> Any:
    r"""Compute the negative log-likelihood of the target classes.

    Parameters
    ----------
    log_prob : array_like
        Logarithms of probabilities.  float16, float32, float64 or bfloat16; integers become
        float64.
    target : array_like of int
        The class of each row, in the shape of `log_prob` without the class axis.
    weight : array_like, optional
        The weight of each class.
    ignore_index : int, default -100
        Rows with this target do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
        Whether to return the weighted mean of the rows, their sum, or one loss per row.
    {sample_weight}
    {axis}
    {empty}

    Returns
    -------
    ndarray or scalar
        With :math:`w` the product of both weights of a row, :math:`-w \log p_t` for each row (0
        where ignored), or their sum, or the sum divided by the sum of :math:`w`.  The dtype is that
        of `log_prob`, but float32 for half precision.

    Raises
    ------
    TypeError
        If `log_prob` is of any other dtype, or `target` is not integer.
    ValueError
        If the shapes do not match, or `reduction` is not one of the three.
    IndexError
        If a target is neither a class nor `ignore_index`.

    {see_gradient}

    Notes
    -----
    Equals ``torch.nn.functional.nll_loss``, whose class axis is 1, except that a row of weight 0
    adds nothing even if its log-probability is infinite.  Everything is computed in float64, sums
    in twice that precision, and nothing is copied, whatever the axis.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import nll_loss
    >>> log_prob = np.log([[0.5, 0.5], [0.25, 0.75]])
    >>> print(f"{nll_loss(log_prob, [0, 1]):.6f}")
    0.490415
    >>> nll_loss(log_prob, [0, -100], reduction="none").round(6)
    array([0.693147, 0.      ])
    """
    loss = _core.nll_loss(
        log_prob, target, weight, sample_weight, ignore_index, reduction, axis, empty, False, None
    )
    if loss is not None:
        return loss
    arguments = log_prob, target, weight, sample_weight, ignore_index
    return _nll(*arguments, reduction, axis, empty, False, None)


def nll_loss_with_grad(
    log_prob: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    axis: SupportsIndex = -1,
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    r"""Compute the negative log-likelihood and its gradient.

    {parameters}

    Returns
    -------
    {loss}
    d_log_prob : ndarray
        The derivatives of the loss, in the shape and dtype of `log_prob`: :math:`-w`, over the
        sum of all :math:`w` for "mean", at the target of a row that counts; 0 elsewhere.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import nll_loss_with_grad
    >>> loss, gradient = nll_loss_with_grad(np.log([[0.5, 0.5], [0.25, 0.75]]), [0, 1])
    >>> gradient
    array([[-0.5,  0. ],
           [ 0. , -0.5]])
    """
    result: tuple[Any, Array] | None = _core.nll_loss(
        log_prob, target, weight, sample_weight, ignore_index, reduction, axis, empty, True, out
    )
    if result is not None:
        return result
    arguments = log_prob, target, weight, sample_weight, ignore_index
    loss, gradient = _nll(*arguments, reduction, axis, empty, True, out)
    return loss, gradient


@same_kind
@quietly
def _nll(
    log_prob: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int,
    reduction: str,
    axis: SupportsIndex,
    empty: str,
    with_grad: bool,
    out: Array | None,
) -> Any:
    """Check the arguments, and convert them to the form that compiled code reads."""
    checked_reduction(reduction, with_grad=with_grad)
    read_empty(empty)
    scores = read_logits(log_prob, axis, "log_prob", least=0)
    shape, n_classes = scores.shape, scores.classes
    wanted = Wanted(shape, n_classes, scores.axis)
    classes, counted = checked_targets(target, wanted, ignore_index)
    classes = np.where(counted, classes, -1).reshape(shape)
    of_class = None if weight is None else per_class(weight, n_classes, "weight")
    of_row = None if sample_weight is None else row_weights(sample_weight, shape)
    rows = scores.classes_last(scores.array)
    arguments = rows, classes, of_class, of_row, -1, reduction, -1, empty
    if not with_grad:
        return _core.nll_loss(*arguments, False, None)
    gradient = gradient_like(scores.array, out)
    loss, _ = _core.nll_loss(*arguments, True, scores.classes_last(gradient))
    return loss, gradient


register(Loss(nll_loss, nll_loss_with_grad, class_weight="weight"))

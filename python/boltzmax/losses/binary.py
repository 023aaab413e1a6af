"""The loss of independent binary labels, with its gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly, read_empty
from boltzmax._lib.numbers import array_of_shape, broadcast_array, gradient_like, scores
from boltzmax._lib.same_kind import same_kind
from boltzmax.losses.reduction import checked_reduction
from boltzmax.losses.registry import Loss, register

__all__ = ["binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits_with_grad"]

Array = NDArray[Any]


def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
) -> Any:
    r"""Compute the cross-entropy of independent binary labels.

    Parameters
    ----------
    logits : array_like
        Scores; the probability of 1 is their sigmoid, :math:`\sigma(x) = 1 / (1 + e^{-x})`.
        float16, float32, float64 or bfloat16; integers become float64.
    target : array_like
        The labels :math:`z`, or their probabilities, in the shape of `logits`.
    weight : array_like, optional
        The weight of each element, in a shape that broadcasts to that of `logits`.
    pos_weight : array_like, optional
        The weight :math:`v` of positive labels, in a shape that broadcasts to that of `logits`.
    reduction : {"mean", "sum", "none"}, default "mean"
        Whether to return the sum of the elements divided by their number (regardless of weights),
        the sum, or every element.
    {empty}

    Returns
    -------
    ndarray or scalar
        Elements :math:`-w (v z \log \sigma(x) + (1 - z) \log \sigma(-x))`, or their sum or mean.
        The dtype is that of `logits`, but float32 for half precision.

    Raises
    ------
    TypeError
        If `logits` is of any other dtype, or another array is not real.
    ValueError
        If the shapes do not match, or `reduction` is not one of the three.

    {see_gradient}

    Notes
    -----
    Equals the function of this name in ``torch.nn.functional``, except that an element of weight 0
    adds nothing even if infinite.  With :math:`-\log \sigma(-x) = \max(x, 0) + \log(1 + e^{-|x|})`
    no term is a difference of larger ones.

    Everything is computed in float64 if an array is float64, otherwise in float32; then, for labels
    from 0 to 1 and positive weights, the error of an element is at most 6 ULP, and that of an
    element of the gradient at most 4 ULP of :math:`w \max(v z, 1 - z)`.  Sums are accumulated in
    twice the precision: their bits do not depend on strides or the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import binary_cross_entropy_with_logits
    >>> binary_cross_entropy_with_logits(np.array([0.0, 1e4, -1e4]), [1, 1, 1], reduction="none")
    array([6.93147181e-01, 0.00000000e+00, 1.00000000e+04])
    """
    loss = _core.binary_cross_entropy(
        logits, target, weight, pos_weight, reduction, empty, False, None
    )
    if loss is not None:
        return loss
    return _evaluate(logits, target, weight, pos_weight, reduction, empty, False, None)


def binary_cross_entropy_with_logits_with_grad(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    r"""Compute the binary cross-entropy and its gradient.

    {parameters}

    Returns
    -------
    {loss}
    d_logits : ndarray
        The derivatives of the loss, :math:`w ((1 - z) \sigma(x) - v z \sigma(-x))`, over the
        number of elements for "mean", in the shape and dtype of `logits`.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import binary_cross_entropy_with_logits_with_grad
    >>> loss, gradient = binary_cross_entropy_with_logits_with_grad(np.zeros(2), [1, 0])
    >>> gradient
    array([-0.25,  0.25])
    """
    result: tuple[Any, Array] | None = _core.binary_cross_entropy(
        logits, target, weight, pos_weight, reduction, empty, True, out
    )
    if result is not None:
        return result
    arguments = logits, target, weight, pos_weight
    loss, gradient = _evaluate(*arguments, reduction, empty, True, out)
    return loss, gradient


@partial(same_kind, labelled=True)
@quietly
def _evaluate(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    reduction: str,
    empty: str,
    with_grad: bool,
    out: Array | None,
) -> Any:
    """Check the arguments, and convert them to the form that compiled code reads."""
    checked_reduction(reduction, with_grad=with_grad)
    read_empty(empty)
    arrays = _read(logits, target, weight, pos_weight)
    gradient = gradient_like(arrays[0], out) if with_grad else None
    return _core.binary_cross_entropy(*arrays, reduction, empty, with_grad, gradient)


def _read(
    logits: ArrayLike, target: ArrayLike, weight: ArrayLike | None, pos_weight: ArrayLike | None
) -> tuple[Array, Array, Array | None, Array | None]:
    """Check the arrays and convert them to the form that compiled code reads."""
    x = scores(logits, "logits")
    z = array_of_shape(target, x.shape, "target", "the shape of logits")
    v, w = (
        None if a is None else broadcast_array(a, x.shape, name, "logits")
        for a, name in ((pos_weight, "pos_weight"), (weight, "weight"))
    )
    return x, z, w, v


register(
    Loss(
        binary_cross_entropy_with_logits,
        binary_cross_entropy_with_logits_with_grad,
        per_element=True,
    )
)

"""Kullback-Leibler divergence from log-probabilities, with its gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, quietly, read_empty
from boltzmax._lib.numbers import broadcast_array, gradient_like, scores
from boltzmax._lib.same_kind import same_kind
from boltzmax.losses.reduction import REDUCTIONS, checked_reduction
from boltzmax.losses.registry import Loss, register

__all__ = ["kl_divergence", "kl_divergence_with_grad"]

Array = NDArray[Any]

_REDUCTIONS = ("batchmean", *REDUCTIONS)


def kl_divergence(
    log_q: ArrayLike,
    p: ArrayLike,
    *,
    log_target: bool = False,
    reduction: str = "batchmean",
    empty: str = "nan",
) -> Any:
    r"""Compute the Kullback-Leibler divergence of `p` from `q`.

    Parameters
    ----------
    log_q : array_like
        Logarithms of the probabilities of the model.  float16, float32, float64 or bfloat16;
        integers become float64.
    p : array_like
        True probabilities, in a shape that broadcasts to that of `log_q`.
    log_target : bool, default False
        Whether `p` holds logarithms, too.
    reduction : {"batchmean", "mean", "sum", "none"}, default "batchmean"
        Whether to divide the sum of all elements by the length of the first axis, by the number
        of elements, or not at all, or to return every element.
    {empty}

    Returns
    -------
    ndarray or scalar
        Elements :math:`p (\log p - \log q)`, 0 where :math:`p = 0`, or their sum or mean.  The
        dtype is that of `log_q`, but float32 for half precision.

    Raises
    ------
    TypeError
        If `log_q` is of any other dtype, or `p` is not real.
    ValueError
        If `p` does not broadcast to `log_q`, or `reduction` is not one of the four.

    {see_gradient}

    Notes
    -----
    Elements are independent, so classes may be on any axis.  Equals
    ``torch.nn.functional.kl_div(log_q, p)`` (whose default is "mean"), except that :math:`p = 0`
    gives 0 even if :math:`q = 0`.  Everything is computed in float64; with `log_target` and no
    float64 array, elements are computed in float32, with an error of at most 4 ULP.  Sums are taken
    in at least float64.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import kl_divergence
    >>> print(f"{kl_divergence(np.log([[0.5, 0.5], [0.25, 0.75]]), [[1.0, 0.0], [0.5, 0.5]]):.6f}")
    0.418494
    """
    loss = _core.kl_divergence(log_q, p, log_target, reduction, empty, False, None)
    if loss is not None:
        return loss
    return _divergence(log_q, p, log_target, reduction, empty, False, None)


def kl_divergence_with_grad(
    log_q: ArrayLike,
    p: ArrayLike,
    *,
    log_target: bool = False,
    reduction: str = "batchmean",
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    r"""Compute the Kullback-Leibler divergence and its gradient.

    {parameters}

    Returns
    -------
    {loss}
    d_log_q : ndarray
        The derivatives of the loss with respect to `log_q` (as if unconstrained, not normalized),
        in its shape and dtype: :math:`-p` over the divisor of the mean.

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import kl_divergence_with_grad
    >>> loss, gradient = kl_divergence_with_grad(np.log([[0.5, 0.5]]), [[1.0, 0.0]])
    >>> gradient
    array([[-1.,  0.]])
    """
    result: tuple[Any, Array] | None = _core.kl_divergence(
        log_q, p, log_target, reduction, empty, True, out
    )
    if result is not None:
        return result
    loss, gradient = _divergence(log_q, p, log_target, reduction, empty, True, out)
    return loss, gradient


@partial(same_kind, labelled=True)
@quietly
def _divergence(
    log_q: ArrayLike,
    p: ArrayLike,
    log_target: bool,
    reduction: str,
    empty: str,
    with_grad: bool,
    out: Array | None,
) -> Any:
    """Check the arguments, and convert them to the form that compiled code reads."""
    checked_reduction(reduction, _REDUCTIONS, with_grad=with_grad)
    read_empty(empty)
    x = scores(log_q, "log_q")
    truth = broadcast_array(p, x.shape, "p", "log_q")
    gradient = gradient_like(x, out) if with_grad else None
    return _core.kl_divergence(
        x, truth, as_flag(log_target, "log_target"), reduction, empty, with_grad, gradient
    )


register(Loss(kl_divergence, kl_divergence_with_grad, _REDUCTIONS, per_element=True))

"""Logarithms of running sums of exponentials."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax._lib.arguments import as_flag, checked_out, quietly
from boltzmax._lib.same_kind import same_kind
from boltzmax.arrays.calls import Call, read_call
from boltzmax.variants.calls import map_of_call, run_map
from boltzmax.variants.scan_gradients import gradient_of_scan

Array = NDArray[Any]


@same_kind
@quietly
def logcumsumexp(
    x: ArrayLike,
    axis: Any = -1,
    *,
    reverse: bool = False,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Return the logarithm of the running sum of exponentials: log(cumsum(exp(x))).

    .. math:: y_i = \log \sum_{j \le i} \exp(x_j)

    Parameters
    ----------
    x : array_like
        Scores: float16, float32, float64, longdouble, bfloat16, integers or bool.
    axis : int, tuple of int or None, default: -1
        The axes along which it runs, several of them in C order; None for all of them.
    reverse : bool, default: False
        Run from the end: the sum over j >= i.
    where : array_like of bool, optional
        Elements that count; the others add nothing.
    dtype : dtype, optional
        The dtype to compute in and return. By default that of `x`, and float64 for integers.
    out : ndarray, optional
        Receives the result; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape of `x`; -inf as long as nothing finite has been met, and NaN from the first
        NaN on. longdouble is computed in double.

    Raises
    ------
    TypeError, ValueError
        As for `boltzmax.softmax`.

    See Also
    --------
    logcumsumexp_backward : its gradient
    boltzmax.logsumexp : the last element alone

    Notes
    -----
    Each element is a maximum near that so far, plus the logarithm of a sum relative to it, which is
    kept in double precision: max error 1 ULP of the largest of the result, the maximum and 1 for
    float32, 4 ULP for float64.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.logcumsumexp([0.0, 0.0, 1000.0, 0.0])
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03, 1.00000000e+03])
    >>> boltzmax.logcumsumexp([0.0, 0.0, 0.0], reverse=True).round(3)
    array([1.099, 0.693, 0.   ])
    """
    if not as_flag(reverse, "reverse"):
        return run_map("logcumsumexp", x, axis, where, 1.0, dtype, out)
    call = read_call("logcumsumexp", x, axis, where, 1.0, dtype)
    if call.x.ndim == 0:
        return map_of_call("logcumsumexp", call, out)
    shape = call.x.shape
    result = np.empty(shape, call.dtype) if out is None else checked_out(out, shape, call.dtype)
    map_of_call("logcumsumexp", _flipped(call), np.flip(result, call.axes))
    return result if out is None else out


@same_kind
@quietly
def logcumsumexp_backward(
    dy: ArrayLike,
    x: ArrayLike,
    axis: Any = -1,
    *,
    reverse: bool = False,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Return the gradient of `logcumsumexp` by its scores.

    .. math:: dx_j = \sum_{i \ge j} dy_i \exp(x_j - y_i)

    Parameters
    ----------
    dy : array_like
        The gradient by the result.
    x : array_like
        The scores, of the shape of `dy`.
    axis : int, tuple of int or None, default: -1
    reverse : bool, default: False
    where : array_like of bool, optional
        As in the forward call.
    out : ndarray, optional
        Receives the result.

    Returns
    -------
    ndarray
        Of the shape of `x`, in the common dtype of `dy` and `x`.

    Notes
    -----
    Computed in double from the maximum and the sum so far, without their logarithm. Max error 8 ULP
    of float64 of the sum of absolute values, wherever the row's maximum is, before the result is
    rounded to its dtype.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.logcumsumexp_backward([0.0, 0.0, 1.0], [0.0, 0.0, 0.0]).round(3)
    array([0.333, 0.333, 0.333])
    """
    backward = as_flag(reverse, "reverse")
    return gradient_of_scan("logcumsumexp", dy, x, axis, where, out, reverse=backward)


def _flipped(call: Call) -> Call:
    """Return the call with its rows from the end to the beginning."""
    mask = None if call.mask is None else np.flip(call.mask, call.axes)
    return call._replace(x=np.flip(call.x, call.axes), mask=mask)

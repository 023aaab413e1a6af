"""Sparse maps: sparsemax, entmax15 and alpha-entmax, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._core import softmax
from boltzmax._lib.arguments import (
    as_input,
    checked_out,
    is_real,
    normalized_axes,
    one_per_row,
    quietly,
    refuse_masked,
)
from boltzmax._lib.same_kind import same_kind
from boltzmax.arrays.argmax_limit import at_temperature_0
from boltzmax.arrays.calls import Call, read_call
from boltzmax.variants.calls import compiled_if_ordinary, map_of_call, run_gradient

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Axis = Any

LARGEST_ALPHA = 50.0
_KERNELS = {1.5: "entmax15", 2.0: "sparsemax"}  # for some values of alpha


@compiled_if_ordinary
@same_kind
@quietly
def sparsemax(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Sparsemax: :math:`\max(0, x_i / T - \tau)`, where :math:`\tau` makes the sum one.

    The nearest probability distribution to the scores; most of them get no probability at all.
    The result is exact but for the rounding of each element; nothing is sorted.

    Parameters
    ----------
    x : array_like
        Real scores of any shape: float16, float32, float64, bfloat16, longdouble (computed in
        float64); integers become float64.
    axis : int, tuple of int or None, default -1
        The axes that make up a row.
    where : array_like of bool, optional
        Broadcasts to `x`. False leaves an element out; its result is 0.
    temperature : float or array_like, default 1.0
        T, one for all rows or one for each. 0 is the limit: the largest elements share the
        probability.
    dtype : dtype, optional
        The dtype to compute in and return.
    out : ndarray, optional
        Receives the result, and may be `x`.

    Returns
    -------
    ndarray
        Of the shape of `x`. A row with NaN or +inf, or of -inf alone, is NaN; -inf gets 0.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; nothing is written then.

    See Also
    --------
    sparsemax_backward : the gradient.
    sparsemax_loss : the loss whose gradient is the difference from the target.

    References
    ----------
    Martins & Astudillo, "From softmax to sparsemax", ICML 2016, equation 2.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.sparsemax([2.0, 1.5, 0.1, -1.0])
    array([0.75, 0.25, 0.  , 0.  ])
    """
    call = _warmed(read_call("sparsemax", x, axis, where, temperature, dtype))
    return map_of_call("sparsemax", call, out)


@compiled_if_ordinary
@same_kind
@quietly
def entmax15(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""1.5-entmax: :math:`\max(0, x_i / (2T) - \tau)^2`, where :math:`\tau` makes the sum one.

    Halfway between softmax and sparsemax: sparse, with a smooth edge of the support.

    Parameters
    ----------
    x, axis, where, temperature, dtype, out : see `sparsemax`

    Returns
    -------
    ndarray
        Of the shape of `x`. A row with NaN or +inf, or of -inf alone, is NaN; -inf gets 0.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; nothing is written then.

    See Also
    --------
    entmax15_backward : the gradient.
    entmax : any alpha.

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019, section 3.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.entmax15([2.0, 1.5, 0.1, -1.0]).round(4)
    array([0.674, 0.326, 0.   , 0.   ])
    """
    call = _warmed(read_call("entmax15", x, axis, where, temperature, dtype))
    return map_of_call("entmax15", call, out)


def entmax(
    x: ArrayLike,
    alpha: ArrayLike = 1.5,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Alpha-entmax: :math:`\max(0, (\alpha - 1) x_i / T - \tau)^{1 / (\alpha - 1)}`.

    :math:`\tau` makes the sum one. alpha = 1 is softmax, 2 is sparsemax; the larger, the sparser.
    The threshold is found to the last digits, by Newton's method.

    Parameters
    ----------
    x, axis, where, temperature, dtype, out : see `sparsemax`
    alpha : float or array_like, default 1.5
        From 1 to 50: one for all rows, or one for each (of the shape of the rows, or of `x` with
        length 1 along `axis`).

    Returns
    -------
    ndarray
        Of the shape of `x`. A row with NaN or +inf, or of -inf alone, is NaN; -inf gets 0.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; nothing is written then.

    See Also
    --------
    entmax_backward, entmax_alpha_grad : the gradients.

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019, equation 5.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.entmax([2.0, 1.5, 0.1, -1.0], 1.3).round(4)
    array([0.6395, 0.3415, 0.019 , 0.    ])

    A learned alpha for each head of attention:

    >>> boltzmax.entmax([[1.0, 0.0], [1.0, 0.0]], alpha=[1.0, 2.0]).round(4)
    array([[0.7311, 0.2689],
           [1.    , 0.    ]])
    """
    number = _plain_alpha(alpha)
    if number > 1.0:
        function = _KERNELS.get(number, "entmax")
        y = _core.map_rows(function, x, axis, where, temperature, dtype, out, number)
        if y is not None:
            return y
    return _any_entmax(x, alpha, axis, where, temperature, dtype, out)


@same_kind
@quietly
def _any_entmax(
    x: ArrayLike,
    alpha: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    temperature: ArrayLike,
    dtype: DTypeLike | None,
    out: Array | None,
) -> Any:
    """Return `entmax` of any call."""
    number = _read_alpha(alpha)
    if number.ndim == 0 and number == 1.0:
        return softmax(x, axis, where=where, temperature=temperature, dtype=dtype, out=out)
    call = _warmed(read_call("entmax", x, axis, where, temperature, dtype))
    if number.ndim == 0:
        value = float(number)
        return map_of_call(_KERNELS.get(value, "entmax"), call, out, number=value)
    rows = one_per_row(number, "alpha", call.x, call.axes)
    is_soft = np.expand_dims(rows == 1.0, call.axes)
    soft = None
    if is_soft.any():
        soft = softmax(x, axis, where=where, temperature=temperature, dtype=dtype)
    result = _with_alphas(call, rows, out)
    if soft is None:
        return result
    if out is None:
        return np.where(is_soft, soft, result)
    np.copyto(out, soft, where=is_soft)
    return out


@same_kind
@quietly
def sparsemax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Any:
    """Gradient of `sparsemax`: dy minus its mean over the support, where y > 0; 0 elsewhere.

    Parameters
    ----------
    dy : array_like
        The gradient with respect to the result.
    y : array_like
        The result of `sparsemax`, of the shape of `dy`.
    axis : int, tuple of int or None, default -1
        As in `sparsemax`.
    out : ndarray, optional
        Receives the result, and may be `dy` or `y`.

    Returns
    -------
    ndarray
        The gradient with respect to the scores, of the shape of `dy`. With a temperature T, divide
        it by T.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; nothing is written then.

    References
    ----------
    Martins & Astudillo, "From softmax to sparsemax", ICML 2016, equation 14.

    Examples
    --------
    >>> import boltzmax
    >>> y = boltzmax.sparsemax([2.0, 1.5, 0.1])
    >>> boltzmax.sparsemax_backward([1.0, 0.0, 5.0], y)
    array([ 0.5, -0.5,  0. ])
    """
    return run_gradient("sparsemax_backward", dy, y, axis, out)


@same_kind
@quietly
def entmax15_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Any:
    """Gradient of `entmax15`: s (dy - sum(s dy) / sum(s)) with s = sqrt(y).

    Parameters
    ----------
    dy, axis, out : see `sparsemax_backward`
    y : array_like
        The result of `entmax15`, of the shape of `dy`.

    Returns
    -------
    ndarray
        The gradient with respect to the scores, of the shape of `dy`. With a temperature T, divide
        it by T.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; nothing is written then.

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019, proposition 2.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.entmax15_backward([1.0, 0.0, 5.0], [0.64, 0.36, 0.0]).round(4)
    array([ 0.3429, -0.3429,  0.    ])
    """
    return run_gradient("entmax15_backward", dy, y, axis, out)


@same_kind
@quietly
def entmax_backward(
    dy: ArrayLike, y: ArrayLike, alpha: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Any:
    """Gradient of `entmax`: s (dy - sum(s dy) / sum(s)) with s = y^(2 - alpha) where y > 0.

    Parameters
    ----------
    dy, axis, out : see `sparsemax_backward`
    y : array_like
        The result of `entmax`, of the shape of `dy`.
    alpha : float or array_like
        As in `entmax`. Above 2, s grows without limit towards the edge of the support; see Notes.

    Returns
    -------
    ndarray
        The gradient with respect to the scores, of the shape of `dy`. With a temperature T, divide
        it by T.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; nothing is written then.

    Notes
    -----
    s stops at exp(600), in float32 and 16-bit results at exp(60), about 1e26. One element of a row
    may be steeper without a loss: the relative error of the gradient is the quotient of the next
    largest s by that limit. Where two are, the gradient, of the size of the second largest s times
    a difference of dy, is cut off at the limit.

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019, proposition 2.

    Examples
    --------
    >>> import boltzmax
    >>> y = boltzmax.entmax([2.0, 1.5, 0.1], 1.3)
    >>> boltzmax.entmax_backward([1.0, 0.0, 0.0], y, 1.3).round(4)
    array([ 0.3086, -0.2725, -0.0361])
    """
    number = _plain_alpha(alpha)
    if number >= 1.0:
        dx = _core.gradient_of_rows("entmax_backward", dy, y, axis, out, number, 0)
        if dx is not None:
            return dx
    rows = _alpha_of_rows(alpha, dy, axis)
    return run_gradient("entmax_backward", dy, y, axis, out, parameter=rows)


@same_kind
@quietly
def entmax_alpha_grad(
    dy: ArrayLike, y: ArrayLike, alpha: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Any:
    """Gradient of `entmax` with respect to alpha: one number for each row.

    The derivative of ``sum(dy * entmax(x, alpha))`` by alpha, with its limit at alpha = 1. Sum it
    over the rows that share an alpha.

    Parameters
    ----------
    dy, axis : see `sparsemax_backward`
    y : array_like
        The result of `entmax`, of the shape of `dy`.
    alpha : float or array_like
        As in `entmax`.
    out : ndarray, optional
        Receives the result.

    Returns
    -------
    scalar or ndarray
        Of the shape of `dy` without `axis`.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; nothing is written then.

    References
    ----------
    Correia, Niculae & Martins, "Adaptively sparse transformers", EMNLP 2019, proposition 1.

    Examples
    --------
    >>> import boltzmax
    >>> y = boltzmax.entmax([1.0, 0.5], 1.5)
    >>> round(float(boltzmax.entmax_alpha_grad([1.0, 0.0], y, 1.5)), 6)
    0.123886
    """
    rows = _alpha_of_rows(alpha, dy, axis)
    return run_gradient("entmax_alpha_grad", dy, y, axis, out, parameter=rows, reduces=True)


def _warmed(call: Call) -> Call:
    """Return a call with the same result, without temperatures of 0."""
    return at_temperature_0("softmax", call) if call.has_zero_temperature else call


def _plain_alpha(alpha: Any) -> float:
    """Return alpha if it is a float in range, else 0."""
    return alpha if type(alpha) is float and 1.0 <= alpha <= LARGEST_ALPHA else 0.0


def _read_alpha(alpha: ArrayLike) -> Doubles:
    """Return alpha as doubles in range, or raise."""
    refuse_masked(alpha, "alpha")
    try:
        number = np.asarray(alpha)
        if not is_real(number.dtype):
            raise TypeError
        number = number.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"alpha must be a real number or an array of them, got {alpha!r}") from None
    good = (number >= 1.0) & (number <= LARGEST_ALPHA)
    if not good.all():
        raise ValueError(
            f"alpha must be from 1 to {LARGEST_ALPHA:g}, got {number[~good].flat[0]:g}"
        )
    return number


def _alpha_of_rows(alpha: ArrayLike, dy: ArrayLike, axis: Axis) -> Doubles:
    """Return an alpha for each row of `dy`."""
    gradient = as_input(dy, "dy", "pass its data")
    return one_per_row(_read_alpha(alpha), "alpha", gradient, normalized_axes(axis, gradient.ndim))


def _with_alphas(call: Call, alpha: Doubles, out: Array | None) -> Any:
    """Return the map with an alpha for each row; where it is 1, the result is of no use.

    The kernel takes either an alpha or a temperature for each row. If both differ from row to row,
    the scores are divided by the temperature before.
    """
    alpha, t, common = np.where(alpha == 1.0, 1.5, alpha), call.broadcast_temperature(), 1.0
    if t is not None and t.size and t.min() == t.max():
        common = float(t.min())
    elif t is not None:
        return _with_alphas_and_temperatures(call, alpha, t, out)
    return map_of_call("entmax", call._replace(temperature=alpha), out, number=common, flag=True)


def _with_alphas_and_temperatures(call: Call, alpha: Doubles, t: Array, out: Array | None) -> Any:
    """Divide the distances from the maximum by the temperature, in double."""
    x = call.converted.astype(np.float64)
    if call.mask is not None:
        x = np.where(call.mask, x, -np.inf)
    maximum = x.max(axis=call.axes, keepdims=True, initial=-np.inf)
    distance = np.where(np.isfinite(maximum), (x - maximum) / t, x)
    target = None if out is None else checked_out(out, x.shape, call.dtype)
    wide = call._replace(x=distance, mask=None, temperature=alpha, dtype=np.dtype(np.float64))
    p = np.asarray(map_of_call("entmax", wide, None, number=1.0, flag=True)).astype(call.dtype)
    if target is None:
        return p[()] if p.ndim == 0 else p
    target[...] = p
    return out

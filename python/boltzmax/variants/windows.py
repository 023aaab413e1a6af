"""Softmax and logsumexp over a window around each element."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.same_kind import same_kind
from boltzmax.variants.calls import run_map
from boltzmax.variants.scan_gradients import gradient_of_scan

Array = NDArray[Any]


@same_kind
@quietly
def windowed_softmax(
    x: ArrayLike,
    window: int,
    axis: Any = -1,
    *,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Return each exponential over the sum of those in a window around it ("zigzag" softmax).

    .. math:: p_i = \frac{\exp(x_i)}{\sum_{j = i - w // 2}^{i + w // 2} \exp(x_j)}

    Every element has its own denominator, so the results need **not** sum to one. The window is
    clipped at the ends of the row.

    Parameters
    ----------
    x : array_like
        Scores: float16, float32, float64, longdouble, bfloat16, integers or bool.
    window : int
        The width w, at least 1. An even w has w + 1 elements, as w + 1 has.
    axis : int, tuple of int or None, default: -1
        The axes of a row, several of them in C order; None for all of them.
    where : array_like of bool, optional
        Elements that count; the others are 0.
    dtype : dtype, optional
        The dtype to compute in and return. By default that of `x`, and float64 for integers.
    out : ndarray, optional
        Receives the result; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape of `x`, in (0, 1]. A window that covers the whole row gives `boltzmax.softmax`.
        An element of -inf is 0; in a row of nothing else it is NaN, as for softmax. A NaN or +inf
        makes its windows NaN. longdouble is computed in double.

    Raises
    ------
    ValueError
        If the window is below 1; and as for `boltzmax.softmax`.

    See Also
    --------
    windowed_softmax_backward : its gradient
    windowed_logsumexp : the logarithms of the denominators

    Notes
    -----
    The time does not depend on the window: its sum is a suffix of one block of w // 2 * 2 elements
    plus a prefix of the next (van Herk, Pattern Recognition Letters 13(7), 1992; Gil & Werman, IEEE
    PAMI 15(5), 1993), and nothing is subtracted. In rows where exponentials relative to the row's
    maximum would underflow, every sum is relative to the maximum of its own window, in double. Max
    error 6 ULP; in such rows of float64, also half an ULP of the distance from that maximum.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax
    >>> boltzmax.windowed_softmax([0.0, 0.0, 0.0, 0.0], 3).round(3)
    array([0.5  , 0.333, 0.333, 0.5  ])
    >>> boltzmax.windowed_softmax([1e4, 0.0, 0.0, 0.0, 0.0], 3)   # far from the peak
    array([1.        , 0.        , 0.33333333, 0.33333333, 0.5       ])
    """
    return run_map("windowed_softmax", x, axis, where, 1.0, dtype, out, _half(window))


@same_kind
@quietly
def windowed_softmax_backward(
    dy: ArrayLike,
    x: ArrayLike,
    window: int,
    axis: Any = -1,
    *,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Return the gradient of `windowed_softmax` by its scores.

    .. math:: dx_j = dy_j p_j - \sum_{|i - j| \le w // 2} dy_i p_i \exp(x_j - \mathrm{lse}_i)

    Parameters
    ----------
    dy : array_like
        The gradient by the result.
    x : array_like
        The scores, of the shape of `dy`.
    window : int
    axis : int, tuple of int or None, default: -1
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
    Computed in double from the maximum and the sum of each window, without their logarithm. Max
    error 8 ULP of float64 of the sum of absolute values, wherever the row's maximum is, before the
    result is rounded to its dtype.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.windowed_softmax_backward([1.0, 0.0, 0.0], [0.0, 0.0, 0.0], 3)
    array([ 0.25, -0.25,  0.  ])
    """
    return gradient_of_scan("windowed_softmax", dy, x, axis, where, out, half=_half(window))


@same_kind
@quietly
def windowed_logsumexp(
    x: ArrayLike,
    window: int,
    axis: Any = -1,
    *,
    where: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Return the logarithm of the sum of exponentials in a window around each element.

    .. math:: y_i = \log \sum_{j = i - w // 2}^{i + w // 2} \exp(x_j)

    Parameters
    ----------
    x : array_like
        Scores: float16, float32, float64, longdouble, bfloat16, integers or bool.
    window : int
        The width w, at least 1. An even w has w + 1 elements. It is clipped at the ends of the row.
    axis : int, tuple of int or None, default: -1
        The axes of a row, several of them in C order; None for all of them.
    where : array_like of bool, optional
        Elements that count; the others add nothing.
    dtype : dtype, optional
        The dtype to compute in and return. By default that of `x`, and float64 for integers.
    out : ndarray, optional
        Receives the result; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape of `x`; -inf for a window of nothing else, NaN for one with NaN. longdouble is
        computed in double.

    Raises
    ------
    ValueError
        If the window is below 1; and as for `boltzmax.logsumexp`.

    See Also
    --------
    windowed_logsumexp_backward : its gradient
    windowed_softmax : the shares of the elements in the middle

    Notes
    -----
    Sums are relative to a maximum near that of their windows, in double: max error 1 ULP of the
    largest of the result, the maxima near the window and 1 for float32, 4 ULP for float64.
    `windowed_softmax` describes how they are made.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.windowed_logsumexp([0.0, 0.0, 0.0, 0.0], 3).round(3)
    array([0.693, 1.099, 1.099, 0.693])
    """
    return run_map("windowed_logsumexp", x, axis, where, 1.0, dtype, out, _half(window))


@same_kind
@quietly
def windowed_logsumexp_backward(
    dy: ArrayLike,
    x: ArrayLike,
    window: int,
    axis: Any = -1,
    *,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    r"""Return the gradient of `windowed_logsumexp` by its scores.

    .. math:: dx_j = \sum_{|i - j| \le w // 2} dy_i \exp(x_j - y_i)

    Parameters
    ----------
    dy : array_like
        The gradient by the result.
    x : array_like
        The scores, of the shape of `dy`.
    window : int
    axis : int, tuple of int or None, default: -1
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
    Computed in double from the maximum and the sum of each window, without their logarithm. Max
    error 8 ULP of float64 of the sum of absolute values, wherever the row's maximum is, before the
    result is rounded to its dtype.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.windowed_logsumexp_backward([0.0, 1.0, 0.0], [0.0, 0.0, 0.0], 3).round(3)
    array([0.333, 0.333, 0.333])
    """
    return gradient_of_scan("windowed_logsumexp", dy, x, axis, where, out, half=_half(window))


def _half(window: int) -> int:
    """Return how many elements a window has on either side."""
    return min(check_count(window, "window", 1) // 2, 2**62)

"""Margins on the logit of the target."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_flag, checked_out, quietly
from boltzmax._lib.numbers import real_numbers, scores
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets
from boltzmax.margin.cosine import read_scale, read_upstream

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Classes = NDArray[np.int64]

_ROUNDING = 0.01  # how far a cosine, even of bfloat16, may be beyond 1


class Margins(NamedTuple):
    """The margins of rows, which broadcast to the cosines of their targets."""

    m1: Any
    m2: Any
    m3: Any
    easy: bool


def _read_margin(value: ArrayLike, name: str, shape: tuple[int, ...]) -> Any:
    numbers = real_numbers(value, name)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got {numbers[~np.isfinite(numbers)].flat[0]}")
    if name == "m1" and not (numbers > 0).all():
        raise ValueError(f"m1 must be positive, got {numbers[numbers <= 0].flat[0]:g}")
    try:
        return np.broadcast_to(numbers, shape)[..., np.newaxis]
    except ValueError:
        raise ValueError(
            f"{name} of shape {numbers.shape} does not broadcast to one per row, {shape}"
        ) from None


def read_margins(
    m1: ArrayLike, m2: ArrayLike, m3: ArrayLike, easy_margin: bool, shape: tuple[int, ...]
) -> Margins:
    """Return margins for rows of this shape, with a last axis for the target's column."""
    return Margins(
        _read_margin(m1, "m1", shape),
        _read_margin(m2, "m2", shape),
        _read_margin(m3, "m3", shape),
        as_flag(easy_margin, "easy_margin"),
    )


def _read_cosines(cosine: ArrayLike, target: ArrayLike) -> tuple[Array, Classes, Doubles]:
    """Return cosines (..., V), the targets (..., 1), and the targets' cosines within [-1, 1]."""
    array = scores(cosine, "cosine")
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"cosine must have classes on the last axis, got shape {array.shape}")
    wanted = Wanted(array.shape[:-1], array.shape[-1])
    classes = checked_targets(target, wanted, NO_CLASS)[0].reshape(*array.shape[:-1], 1)
    raw = np.take_along_axis(array, classes, -1).astype(np.float64)
    beyond = np.abs(raw) > 1.0 + _ROUNDING
    if beyond.any():
        raise ValueError(
            f"cosine must be from -1 to 1, got {raw[beyond][0]:g}; margins come before the scale"
        )
    return array, classes, np.clip(raw, -1.0, 1.0)


def target_logit(cosine: Doubles, margins: Margins) -> Doubles:
    """Return the target's logit over the scale: (-1)^k cos(a) - 2k - m3 with a = m1 theta + m2."""
    angle = margins.m1 * np.arccos(cosine) + margins.m2
    turns = np.floor(angle / np.pi)
    value: Doubles = (1 - 2 * (turns % 2)) * np.cos(angle) - 2 * turns - margins.m3
    return np.where(cosine > 0, value, cosine) if margins.easy else value


def target_slope(cosine: Doubles, margins: Margins, dtype: np.dtype[Any]) -> Doubles:
    """Return the derivative of `target_logit` by the cosine, finite at 1 and -1.

    There it is that at the neighbouring number of `dtype`.
    """
    kind = np.float64 if dtype == np.float64 else np.float32
    edge = float(np.nextafter(kind(1), kind(0)))
    inside = np.clip(cosine, -edge, edge)
    angle = margins.m1 * np.arccos(inside) + margins.m2
    sine = np.sqrt((1 - inside) * (1 + inside))
    # (-1)^k sin(a) is |sin(a)|: it is never negative, and so the logit never falls with the cosine.
    slope: Doubles = margins.m1 * np.abs(np.sin(angle)) / sine
    slope[np.isnan(cosine)] = np.nan
    return np.where(cosine > 0, slope, 1.0) if margins.easy else slope


def _largest(dtype: np.dtype[Any]) -> float:
    """Return the largest finite number of a dtype; bfloat16 has 8 digits."""
    return float(np.finfo(dtype).max) if dtype.kind == "f" else 255 * 2.0**120


def _scaled(array: Array, scale: float, out: Array | None) -> Array:
    """Return scale * array, in `out` if given: the only pass over all elements."""
    where = None if out is None else checked_out(out, array.shape, array.dtype)
    result: Array = np.multiply(array, array.dtype.type(scale), out=where)
    return result


@same_kind
@quietly
def margin_logits(
    cosine: ArrayLike,
    target: ArrayLike,
    *,
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.0,
    m3: ArrayLike = 0.0,
    scale: float = 64.0,
    easy_margin: bool = False,
    out: Array | None = None,
) -> Array:
    r"""Scale cosines, with a margin on that of the target.

    Other classes have the logit :math:`s \cos\theta`, and the target

    .. math:: s\, \bigl(\psi(m_1 \theta + m_2) - m_3\bigr), \qquad
              \psi(a) = (-1)^k \cos a - 2k, \quad k = \lfloor a / \pi \rfloor

    With no more than half a turn, :math:`\psi` is the cosine; past :math:`\pi` it goes on falling,
    so that the logit is monotone in the angle for every margin. (InsightFace's rule,
    :math:`\cos\theta - m \sin m`, is not for :math:`m_2` above 2.33.)

    The margin *lowers* the target's logit during training: the loss falls only when the target
    wins by that much. It is not used for predictions.

    Parameters
    ----------
    cosine : array_like, shape (..., V)
        The cosine of each row and class, as `cosine_logits` without a scale returns it. Rounding
        beyond 1 is clipped.
    target : array_like of int, shape (...)
        The class of each row.
    m1 : float or array_like, default 1.0
        Multiplies the angle (SphereFace); positive. Margins are numbers, or one for each row.
    m2 : float or array_like, default 0.0
        Is added to the angle (ArcFace), in radians. (pytorch-metric-learning's ``ArcFaceLoss``
        takes degrees: its default 28.6 is 0.5 here.)
    m3 : float or array_like, default 0.0
        Is subtracted from the cosine (CosFace).
    scale : float, default 64.0
        The scale s.
    easy_margin : bool, default False
        Keep the plain cosine where it is not positive, as InsightFace does. The logit then jumps
        at an angle of :math:`\pi / 2`.
    out : ndarray, optional
        Where to write the result; may be `cosine` itself.

    Returns
    -------
    ndarray, shape (..., V)
        Of the dtype of `cosine`.

    Raises
    ------
    ValueError
        For a target's cosine beyond 1, an `m1` that is not positive, or shapes that do not fit.
    IndexError
        For a target that is not a class.

    See Also
    --------
    additive_margin, arc_margin, sphere_margin : one margin each.
    margin_logits_backward : the gradient.

    Notes
    -----
    The angles of targets are computed in double precision; all other elements are one product.

    Source: Deng, Guo, Xue & Zafeiriou, "ArcFace", CVPR 2019, equation 4, which combines the three
    margins; :math:`\psi` for multiples of the angle is from Liu et al., "Large-Margin Softmax",
    ICML 2016, equation 6.

    Examples
    --------
    >>> from boltzmax.margin import margin_logits
    >>> margin_logits([[1.0, 0.0, -1.0]], [0], m2=0.5, scale=10)
    array([[  8.77582562,   0.        , -10.        ]])
    >>> margin_logits([[1.0, 0.0, -1.0]], [2], m2=0.5, scale=10)
    array([[ 10.        ,   0.        , -11.22417438]])
    """
    array, classes, of_target = _read_cosines(cosine, target)
    margins = read_margins(m1, m2, m3, easy_margin, array.shape[:-1])
    number = read_scale(scale, array.dtype)
    column = number * target_logit(of_target, margins)
    result = _scaled(array, number, out)
    np.put_along_axis(result, classes, column, -1)
    return result if out is None else out


@same_kind
@quietly
def margin_logits_backward(
    d_logits: ArrayLike,
    cosine: ArrayLike,
    target: ArrayLike,
    *,
    m1: ArrayLike = 1.0,
    m2: ArrayLike = 0.0,
    m3: ArrayLike = 0.0,
    scale: float = 64.0,
    easy_margin: bool = False,
    out: Array | None = None,
) -> Array:
    r"""Return the gradient of `margin_logits` with respect to the cosines.

    It is :math:`s\, dz` for other classes; for the target, :math:`s\, m_1\, dz\, |\sin(m_1 \theta +
    m_2)| / \sin\theta`, which is never negative times dz. At a cosine of 1 or -1, where that may
    be infinite, it is the value at the neighbouring number (of float64, else of float32), which is
    at most :math:`2900\, s\, m_1` in float32.

    Parameters
    ----------
    d_logits : array_like, shape (..., V)
        The gradient with respect to the logits.
    cosine, target, m1, m2, m3, scale, easy_margin : see `margin_logits`
    out : ndarray, optional
        Where to write the result; may be `d_logits` itself.

    Returns
    -------
    ndarray, shape (..., V)
        Of the dtype of `d_logits`.

    Examples
    --------
    >>> from boltzmax.margin import margin_logits_backward
    >>> margin_logits_backward([[1.0, 1.0]], [[0.0, 0.5]], [0], m2=0.5, scale=10)
    array([[ 8.77582562, 10.        ]])
    """
    array, classes, of_target = _read_cosines(cosine, target)
    d = read_upstream(d_logits, array.shape, "d_logits")
    margins = read_margins(m1, m2, m3, easy_margin, array.shape[:-1])
    number = read_scale(scale, array.dtype)
    slope = number * target_slope(of_target, margins, array.dtype)
    column = slope * np.take_along_axis(d, classes, -1).astype(np.float64)
    largest = _largest(d.dtype)
    column = np.where(np.isfinite(column), np.clip(column, -largest, largest), column)
    result = _scaled(d, number, out)
    np.put_along_axis(result, classes, column, -1)
    return result if out is None else out


def additive_margin(
    cosine: ArrayLike, target: ArrayLike, margin: ArrayLike = 0.35, scale: float = 30.0
) -> Array:
    r"""`margin_logits` with a margin on the cosine: :math:`s (\cos\theta - m)` for the target.

    CosFace (Wang et al., CVPR 2018) or AM-Softmax (Wang, Cheng, Liu & Liu, 2018).

    Parameters
    ----------
    cosine : array_like, shape (..., V)
    target : array_like of int, shape (...)
    margin : float or array_like, default 0.35
        The margin m, or one for each row.
    scale : float, default 30.0

    Returns
    -------
    ndarray, shape (..., V)
        Its gradient is `margin_logits_backward` with ``m3=margin`` and the same scale.

    Examples
    --------
    >>> from boltzmax.margin import additive_margin
    >>> additive_margin([[0.5, 0.25]], [0])
    array([[4.5, 7.5]])
    """
    return margin_logits(cosine, target, m3=margin, scale=scale)


def arc_margin(
    cosine: ArrayLike, target: ArrayLike, margin: ArrayLike = 0.5, scale: float = 64.0
) -> Array:
    r"""`margin_logits` with a margin on the angle: :math:`s \cos(\theta + m)` for the target.

    ArcFace (Deng, Guo, Xue & Zafeiriou, CVPR 2019). The margin is in radians.

    Parameters
    ----------
    cosine : array_like, shape (..., V)
    target : array_like of int, shape (...)
    margin : float or array_like, default 0.5
        The margin m in radians, or one for each row.
    scale : float, default 64.0

    Returns
    -------
    ndarray, shape (..., V)
        Its gradient is `margin_logits_backward` with ``m2=margin`` and the same scale.

    Examples
    --------
    >>> from boltzmax.margin import arc_margin
    >>> arc_margin([[1.0, 0.25]], [0])
    array([[56.16528396, 16.        ]])
    """
    return margin_logits(cosine, target, m2=margin, scale=scale)


def sphere_margin(
    cosine: ArrayLike, target: ArrayLike, m: ArrayLike = 4, scale: float = 30.0
) -> Array:
    r"""`margin_logits` with a multiple of the angle: :math:`s\, \psi(m \theta)` for the target.

    SphereFace (Liu, Wen, Yu, Li, Raj & Song, CVPR 2017); it need not be an integer here. The
    paper's scale is the length of the features; this one is constant, as in SphereFace-R.

    Parameters
    ----------
    cosine : array_like, shape (..., V)
    target : array_like of int, shape (...)
    m : float or array_like, default 4
        The multiple, or one for each row.
    scale : float, default 30.0

    Returns
    -------
    ndarray, shape (..., V)
        Its gradient is `margin_logits_backward` with ``m1=m`` and the same scale.

    Examples
    --------
    >>> from boltzmax.margin import sphere_margin
    >>> sphere_margin([[0.0, 0.5]], [0], scale=10)
    array([[-30.,   5.]])
    """
    return margin_logits(cosine, target, m1=m, scale=scale)

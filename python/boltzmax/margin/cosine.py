"""Cosines of feature vectors and class centres."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax._lib.arguments import as_number, quietly
from boltzmax._lib.numbers import common_dtype, scores
from boltzmax._lib.same_kind import same_kind

Array = NDArray[Any]

EPS = 1e-12


class Directions(NamedTuple):
    """Vectors divided by their lengths, or by more if they are short."""

    unit: Array
    divisor: NDArray[np.float64]  # infinite for zeros, which have no direction
    is_short: NDArray[np.bool_]


def directions(vectors: Array, eps: float = EPS) -> Directions:
    """Divide vectors, along the last axis, by their lengths or by `eps` if that is more.

    Components are first scaled by a power of two, so that their squares stay in range.
    """
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0).astype(np.float64)
    exponent = np.frexp(np.where(np.isfinite(largest), largest, 1.0))[1]
    scaled = np.ldexp(vectors, -exponent)
    squares = np.einsum("...d,...d->...", scaled, scaled, dtype=np.float64, casting="same_kind")
    length = np.sqrt(squares)[..., np.newaxis]
    floor = np.ldexp(eps, -exponent)
    unit = np.divide(scaled, np.maximum(length, floor).astype(vectors.dtype))
    is_short = length <= floor
    divisor = np.where(is_short, eps, np.ldexp(length, exponent))
    divisor[length == 0.0] = np.inf
    return Directions(unit, divisor, is_short)


def pull_back(d_unit: Array, of: Directions) -> Array:
    """Return the gradient by vectors, given that by their directions, which is overwritten.

    Only its part across the vector counts, unless that is divided by a constant.
    """
    along = np.einsum("...d,...d->...", d_unit, of.unit)[..., np.newaxis]
    d_unit -= np.where(of.is_short, 0, along) * of.unit
    d_unit /= of.divisor.astype(d_unit.dtype)
    return d_unit


def read_vectors(features: ArrayLike, centers: ArrayLike, ndim: int) -> tuple[Array, Array, Any]:
    """Return features, (N, D), and centres with `ndim` axes, in a dtype that BLAS multiplies.

    The last item is the dtype of the results.
    """
    x, c = scores(features, "features"), scores(centers, "centers")
    if x.ndim != 2:
        raise ValueError(f"features must be (N, D), got shape {x.shape}")
    shape = "(V, D)" if ndim == 2 else "(V, C, D)"
    if c.ndim != ndim:
        raise ValueError(f"centers must be {shape}, got shape {c.shape}")
    if x.shape[1] != c.shape[-1]:
        raise ValueError(
            f"centers must have the width of features, {x.shape[1]}, got shape {c.shape}"
        )
    if 0 in c.shape[1:-1]:
        raise ValueError(f"centers must have one or more for each class, got shape {c.shape}")
    common = common_dtype("boltzmax.margin", x, c, "features", "centers")
    working = np.float64 if common == np.float64 else np.float32
    return x.astype(working, copy=False), c.astype(working, copy=False), common


def read_upstream(d: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    """Return the gradient of a result of this shape."""
    array = scores(d, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def read_scale(scale: Any, dtype: DTypeLike = np.float64) -> float:
    """Return a scale of logits: positive, and finite in their dtype."""
    number = as_number(scale, "scale")
    if not 0.0 < number < math.inf:
        raise ValueError(f"scale must be positive and finite, got {scale!r}")
    with np.errstate(over="ignore"):
        if not np.isfinite(np.array(number).astype(dtype)):
            raise ValueError(f"scale must be finite in {np.dtype(dtype)}, got {scale!r}")
    return number


def _read_eps(eps: Any) -> float:
    number = as_number(eps, "eps")
    if not 0.0 < number < math.inf:
        raise ValueError(f"eps must be positive and finite, got {eps!r}")
    return number


@same_kind
@quietly
def cosine_logits(
    features: ArrayLike, centers: ArrayLike, *, scale: float = 1.0, eps: float = EPS
) -> Array:
    r"""Logits of a softmax on the sphere: scaled cosines.

    .. math:: z_{nc} = s \cos\theta_{nc} = s\, \frac{x_n \cdot w_c}{\|x_n\| \|w_c\|}

    Parameters
    ----------
    features : array_like, shape (N, D)
        A vector for each row.
    centers : array_like, shape (V, D)
        A vector for each class.
    scale : float, default 1.0
        The scale s. Without one, no probability could exceed :math:`e / (e + (V - 1) / e)`.
    eps : float, default 1e-12
        Vectors that are shorter are divided by `eps` instead of their length, so a vector of
        zeros has logits of 0.

    Returns
    -------
    ndarray, shape (N, V)
        Of the common dtype; 16-bit numbers are multiplied in float32.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `scale` or `eps` is not positive and finite.

    See Also
    --------
    cosine_logits_backward : the gradient.
    margin_logits : adds a margin for training.

    Notes
    -----
    Lengths neither overflow nor underflow. Rounding may carry a cosine beyond 1 by some units in
    the last place; `margin_logits` clips it.

    Source: Wang, Xiang, Cheng & Yuille, "NormFace", ACM MM 2017.

    Examples
    --------
    >>> from boltzmax.margin import cosine_logits
    >>> cosine_logits([[3.0, 4.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, -2.0]], scale=10)
    array([[ 6., -8.],
           [ 0.,  0.]])
    """
    x, c, dtype = read_vectors(features, centers, 2)
    number, least = read_scale(scale, dtype), _read_eps(eps)
    unit = directions(x, least).unit
    unit *= number  # N x D products instead of N x V
    return (unit @ directions(c, least).unit.T).astype(dtype, copy=False)


@same_kind
@quietly
def cosine_logits_backward(
    d_logits: ArrayLike,
    features: ArrayLike,
    centers: ArrayLike,
    *,
    scale: float = 1.0,
    eps: float = EPS,
) -> tuple[Array, Array]:
    r"""Return the gradients of `cosine_logits`.

    With the directions :math:`\hat x = x / \|x\|` and :math:`\hat w = w / \|w\|` and the gradient
    g by :math:`\hat x`, that by x is :math:`(g - \hat x (\hat x \cdot g)) / \|x\|`. Where the
    length is at most `eps`, the direction is :math:`x / \epsilon`, and the gradient :math:`g /
    \epsilon`.

    Parameters
    ----------
    d_logits : array_like, shape (N, V)
        The gradient with respect to the logits.
    features, centers, scale, eps : see `cosine_logits`

    Returns
    -------
    d_features : ndarray, shape (N, D)
    d_centers : ndarray, shape (V, D)
        Vectors of zeros have no direction, and a gradient of 0, as otherwise a row of padding would
        have an enormous one.

    Examples
    --------
    >>> from boltzmax.margin import cosine_logits_backward
    >>> cosine_logits_backward([[1.0]], [[3.0, 4.0]], [[1.0, 0.0]])
    (array([[ 0.128, -0.096]]), array([[0. , 0.8]]))
    """
    x, c, dtype = read_vectors(features, centers, 2)
    d = read_upstream(d_logits, (len(x), len(c)), "d_logits").astype(x.dtype, copy=False)
    number = x.dtype.type(read_scale(scale, dtype))
    least = _read_eps(eps)
    of_x, of_c = directions(x, least), directions(c, least)
    d_x = pull_back((d @ of_c.unit) * number, of_x)
    d_c = pull_back((d.T @ of_x.unit) * number, of_c)
    return d_x.astype(dtype, copy=False), d_c.astype(dtype, copy=False)

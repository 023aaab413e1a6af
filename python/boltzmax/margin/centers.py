"""Cosines of classes with several centres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_positive, one_of, quietly
from boltzmax._lib.same_kind import same_kind
from boltzmax.margin.cosine import Directions, directions, pull_back, read_upstream, read_vectors

Array = NDArray[Any]

POOLINGS = ("max", "soft")


def cosines_of_centers(x: Directions, c: Directions) -> Array:
    """Return the cosines of features (N, D) and centres (V, C, D): (N, V, C)."""
    classes, each, width = c.unit.shape
    product: Array = x.unit @ c.unit.reshape(classes * each, width).T
    return product.reshape(len(x.unit), classes, each)


def _mean(weights: Array, cosines: Array) -> Array:
    return np.asarray(np.einsum("nvc,nvc->nv", weights, cosines))


def pooled(cosines: Array, pooling: str, gamma: float) -> Array:
    """Return one cosine for each class."""
    if cosines.shape[-1] == 1:
        return cosines[..., 0]
    if pooling == "max":
        return np.asarray(cosines.max(axis=-1))
    return _mean(_core.softmax(cosines, -1, temperature=gamma), cosines)


def pooled_backward(d: Array, cosines: Array, pooling: str, gamma: float) -> Array:
    """Return the gradient by the cosines of centres, given that by those of classes.

    With the weights w of soft pooling, s = sum w_c cos_c and ds / dcos_c = w_c (1 + (cos_c - s) /
    gamma). The largest cosine gets all of the gradient with "max", the first one of several.
    """
    if cosines.shape[-1] == 1:
        return d[..., np.newaxis]
    if pooling == "max":
        result = np.zeros_like(cosines)
        np.put_along_axis(
            result, cosines.argmax(axis=-1, keepdims=True), d[..., np.newaxis], axis=-1
        )
        return result
    weights = _core.softmax(cosines, -1, temperature=gamma)
    mean = _mean(weights, cosines)[..., np.newaxis]
    return np.asarray(d[..., np.newaxis] * weights * (1 + (cosines - mean) / gamma))


def centers_backward(d_cosines: Array, x: Directions, c: Directions) -> tuple[Array, Array]:
    """Return the gradients by features and centres, given that by the cosines (N, V, C)."""
    classes, each, width = c.unit.shape
    d = np.ascontiguousarray(d_cosines).reshape(len(x.unit), classes * each)
    d_x = d @ c.unit.reshape(classes * each, width)
    d_c = (d.T @ x.unit).reshape(c.unit.shape)
    return pull_back(d_x, x), pull_back(d_c, c)


@same_kind
@quietly
def subcenter_cosine(
    features: ArrayLike, centers: ArrayLike, *, pooling: str = "max", gamma: float = 0.1
) -> Array:
    r"""Cosines of features and classes with several centres each.

    For a class with inner variety, such as handwritten sevens with and without a bar. The cosine
    of a class is that of the nearest centre, or a mean with weights that favour the nearest:

    .. math:: \max_k \cos\theta_{ck} \quad\text{or}\quad
              \sum_k w_k \cos\theta_{ck}, \quad w = \operatorname{softmax}(\cos\theta_c / \gamma)

    Parameters
    ----------
    features : array_like, shape (N, D)
    centers : array_like, shape (V, C, D)
        C centres for each class.
    pooling : {"max", "soft"}, default "max"
    gamma : float, default 0.1
        The temperature of the weights for "soft".

    Returns
    -------
    ndarray, shape (N, V)
        Of the common dtype; 16-bit numbers are multiplied in float32.

    Raises
    ------
    ValueError
        If the shapes do not fit, or an option is not valid.

    See Also
    --------
    subcenter_cosine_backward : the gradient.
    margin_logits : takes these cosines.

    Notes
    -----
    The cosines of all centres, (N, V, C), are stored. Vectors of zeros have cosines of 0.

    Source: "max" is from Deng, Guo, Liu, Gong & Zafeiriou, "Sub-center ArcFace", ECCV 2020; "soft"
    from Qian, Shang, Sun, Hu, Li & Jin, "SoftTriple Loss", ICCV 2019, equation 6.

    Examples
    --------
    >>> from boltzmax.margin import subcenter_cosine
    >>> centers = [[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]]
    >>> subcenter_cosine([[0.6, 0.8]], centers)
    array([[ 0.8, -0.6]])
    """
    x, c, dtype = read_vectors(features, centers, 3)
    one_of(pooling, "pooling", POOLINGS)
    cosines = cosines_of_centers(directions(x), directions(c))
    return pooled(cosines, pooling, check_positive(gamma, "gamma")).astype(dtype, copy=False)


@same_kind
@quietly
def subcenter_cosine_backward(
    d_cosine: ArrayLike,
    features: ArrayLike,
    centers: ArrayLike,
    *,
    pooling: str = "max",
    gamma: float = 0.1,
) -> tuple[Array, Array]:
    """Return the gradients of `subcenter_cosine`.

    Parameters
    ----------
    d_cosine : array_like, shape (N, V)
        The gradient with respect to the cosines.
    features, centers, pooling, gamma : see `subcenter_cosine`

    Returns
    -------
    d_features : ndarray, shape (N, D)
    d_centers : ndarray, shape (V, C, D)
        With "max", only the nearest centre of each row and class has a part in it, the first one
        of several. Vectors of zeros have no direction, and a gradient of 0.

    Examples
    --------
    >>> from boltzmax.margin import subcenter_cosine_backward
    >>> centers = [[[1.0, 0.0], [0.0, 1.0]]]
    >>> subcenter_cosine_backward([[1.0]], [[3.0, 4.0]], centers)
    (array([[-0.096,  0.072]]), array([[[0. , 0. ],
            [0.6, 0. ]]]))
    """
    x, c, dtype = read_vectors(features, centers, 3)
    one_of(pooling, "pooling", POOLINGS)
    number = check_positive(gamma, "gamma")
    d = read_upstream(d_cosine, (len(x), len(c)), "d_cosine").astype(x.dtype, copy=False)
    of_x, of_c = directions(x), directions(c)
    d_cosines = pooled_backward(d, cosines_of_centers(of_x, of_c), pooling, number)
    d_x, d_c = centers_backward(d_cosines, of_x, of_c)
    return d_x.astype(dtype, copy=False), d_c.astype(dtype, copy=False)

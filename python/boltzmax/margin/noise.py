"""Noise on the logits, for training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_number, one_of, quietly
from boltzmax._lib.numbers import array_of_shape, scores
from boltzmax._lib.random import check_first_row, normal_noise, random_key
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def check_alpha(alpha: Any, name: str = "alpha") -> float:
    """Return a strength of noise: not negative, and finite."""
    number = as_number(alpha, name)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {alpha!r}")
    return number


def _given(x: ArrayLike | None, shape: tuple[int, ...], name: str, what: str) -> Doubles:
    if x is None:
        raise TypeError(f'{name} is None; noise="target" needs {what}')
    return array_of_shape(x, shape, name, what).astype(np.float64)


@same_kind
@quietly
def noisy_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float,
    weight_norm: ArrayLike | None = None,
    feature_norm: ArrayLike | None = None,
    cosine: ArrayLike | None = None,
    rng: int | np.random.Generator | None = None,
    first_row: int = 0,
    noise: str = "target",
) -> Array:
    r"""Lower the target's logit by noise that falls with its angle ("noisy softmax").

    .. math:: z_y - \alpha\, \|W_y\|\, \|x\|\, (1 - \cos\theta_y)\, |\xi|,
              \qquad \xi \sim \mathcal N(0, 1)

    A row whose target is already likely would hardly contribute to the gradient any more; the
    noise puts off this saturation, and regularises. Like a margin it lowers the target's logit
    during training only.

    Parameters
    ----------
    logits : array_like, shape (N, V)
    target : array_like of int, shape (N,)
        The class of each row.
    alpha : float
        The strength of the noise, not negative.
    weight_norm : array_like, shape (V,)
        The length of each class's weights. For normalised weights, 1.
    feature_norm : array_like, shape (N,)
        The length of each row's features. For normalised features, the scale of the logits.
    cosine : array_like, shape (N,)
        The cosine of each row's features and its target's weights.
    rng : int, numpy.random.Generator or None
        As for `gumbel_softmax`: an int is the key of the noise, from 0 to 2**64 - 1; a generator
        yields a key for each call, and None takes one from the system.
    first_row : int, default 0
        The number of the first row, modulo 2**64. The noise depends on the key, the number of the
        row and, for "all", the class, and on nothing else: parts of a batch have the noise of the
        whole if each states its first row.
    noise : {"target", "all"}, default "target"
        With "all", every logit gets :math:`\alpha\, \xi` with a separate :math:`\xi`, and neither
        lengths nor cosines are read.

    Returns
    -------
    ndarray, shape (N, V)
        Of the dtype of `logits`. With the lengths and cosines regarded as constants, its gradient
        by the logits is the identity.

    Raises
    ------
    TypeError, ValueError
        If `alpha` is negative, a shape does not fit, or `rng` is neither a key nor a generator.
    IndexError
        For a target that is not a class.

    Notes
    -----
    Source: Chen, Deng & Du, "Noisy Softmax", CVPR 2017, equation 6.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.margin import noisy_logits
    >>> logits = np.array([[2.0, 1.0], [2.0, 1.0]])
    >>> lengths = {"weight_norm": np.ones(2), "feature_norm": np.ones(2)}
    >>> noisy = noisy_logits(logits, [0, 1], alpha=0.5, cosine=[1.0, -1.0], rng=0, **lengths)
    >>> noisy[0], bool(noisy[1, 1] < 1.0)
    (array([2., 1.]), True)
    """
    z = scores(logits, "logits")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"logits must be (N, V), got shape {z.shape}")
    rows, classes = z.shape
    ids, _ = checked_targets(target, Wanted((rows,), classes), NO_CLASS)
    strength, row = check_alpha(alpha), check_first_row(first_row)
    if one_of(noise, "noise", ("target", "all")) == "all":
        of_logits = normal_noise(random_key(rng), row, rows, classes)
        return np.asarray(z + (strength * of_logits).astype(z.dtype))
    of_class = _given(weight_norm, (classes,), "weight_norm", "one length per class")
    of_row = _given(feature_norm, (rows,), "feature_norm", "one length per row")
    distance = 1.0 - _given(cosine, (rows,), "cosine", "one cosine per row")
    xi = normal_noise(random_key(rng), row, rows, 1)[:, 0]
    lower = strength * of_class[ids] * of_row * distance * np.abs(xi)
    noisy = z.copy()
    noisy[np.arange(rows), ids] -= lower.astype(z.dtype)
    return noisy

"""Every loss by its definition, in long double, and its specific options.

A new loss gets an entry in `ORACLES`; then all tests that iterate over the registry cover it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import point_oracle
from point_oracle import wide
from variant_samples import exact_entmax

Array = npt.NDArray[Any]
Options = dict[str, Any]
Fill = Callable[..., Array]  # makes numbers of a shape


class Oracle(NamedTuple):
    """A loss by its definition.

    `losses` gets scores, targets and options; all rows count, and classes are on the last axis. It
    returns the loss of each row (or element), and the weights whose sum the mean divides by.
    `options` gets a function that makes numbers and the shape of the scores; it returns the options
    besides the weights of classes and rows.
    """

    losses: Callable[[Array, Array, Options], tuple[Array, Array]]
    options: Callable[[Fill, tuple[int, ...]], Options] = lambda fill, shape: {}


def logsumexp(s: Array) -> Array:
    top = s.max(axis=-1)
    return np.asarray(top + np.log(np.exp(s - top[..., None]).sum(axis=-1)))


def log_prob(s: Array, target: Array) -> Array:
    return np.asarray(np.take_along_axis(s, target[..., None], axis=-1)[..., 0] - logsumexp(s))


def of_targets(weight: Any, target: Array) -> Array:
    """The class weights of the targets."""
    return np.ones(target.shape) if weight is None else np.asarray(weight)[target]


def cross_entropy(x: Array, target: Array, o: Options, name: str = "weight") -> tuple[Array, Array]:
    s, k = wide(x), x.shape[-1]
    if o.get("softcap") is not None:
        s = o["softcap"] * np.tanh(s / o["softcap"])
    s = s / o.get("temperature", 1.0)
    if target.dtype.kind == "f":
        q, used = wide(target), np.ones(target.shape[:-1])
    else:
        q, used = np.eye(k)[target], of_targets(o.get(name), target)
    smoothing, lse = o.get("label_smoothing", 0.0), logsumexp(s)
    a = np.asarray(o.get(name, 1.0)) * ((1 - smoothing) * q + wide(smoothing) / k)
    return (a * (lse[..., None] - s)).sum(axis=-1) + o.get("z_loss", 0.0) * lse**2, used


def focal_loss(x: Array, target: Array, o: Options) -> tuple[Array, Array]:
    log_p = log_prob(wide(x), target)
    each = -((-np.expm1(log_p)) ** o.get("gamma", 2.0)) * log_p
    return of_targets(o.get("alpha"), target) * each, np.ones(target.shape)


def fenchel_young(x: Array, target: Array, o: Options, alpha: float) -> tuple[Array, Array]:
    def entropy(p: Array) -> Array:
        return np.asarray((p - p ** wide(alpha)).sum(axis=-1) / (wide(alpha) * (wide(alpha) - 1)))

    z = wide(x)
    y = wide(target) if target.dtype.kind == "f" else wide(np.eye(x.shape[-1])[target])
    p = np.array([exact_entmax(row, alpha) for row in z])
    total = y.sum(axis=-1)
    losses = total * ((z * p).sum(axis=-1) + entropy(p)) - (z * y).sum(axis=-1) - entropy(y)
    return losses, np.ones(len(p))


def nll_loss(x: Array, target: Array, o: Options) -> tuple[Array, Array]:
    used = of_targets(o.get("weight"), target)
    return -used * np.take_along_axis(wide(x), target[..., None], axis=-1)[..., 0], used


def binary(x: Array, target: Array, o: Options) -> tuple[Array, Array]:
    weights = o.get("weight", 1.0), o.get("pos_weight", 1.0)
    return point_oracle.binary_losses(x, target, *weights), np.ones(x.shape)


def kl_divergence(x: Array, p: Array, o: Options) -> tuple[Array, Array]:
    return point_oracle.divergences(x, p, o.get("log_target", False)), np.ones(x.shape)


def linear_cross_entropy(x: Array, target: Array, o: Options) -> tuple[Array, Array]:
    return cross_entropy(x, target, o, "class_weight")


def of_logits(fill: Fill, shape: tuple[int, ...]) -> Options:
    return {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 2.0, "temperature": 0.7}


ORACLES = {
    "cross_entropy": Oracle(cross_entropy, of_logits),
    "focal_loss": Oracle(focal_loss, lambda fill, shape: {"gamma": 0.5}),
    "sparsemax_loss": Oracle(partial(fenchel_young, alpha=2.0)),
    "entmax15_loss": Oracle(partial(fenchel_young, alpha=1.5)),
    "entmax_loss": Oracle(
        lambda x, target, o: fenchel_young(x, target, o, o.get("alpha", 1.5)),
        lambda fill, shape: {"alpha": 1.2},
    ),
    "nll_loss": Oracle(nll_loss),
    "binary_cross_entropy_with_logits": Oracle(
        binary, lambda fill, shape: {"weight": fill(*shape), "pos_weight": fill(shape[-1])}
    ),
    "kl_divergence": Oracle(kl_divergence, lambda fill, shape: {"log_target": True}),
    "linear_cross_entropy": Oracle(linear_cross_entropy, of_logits),
}

"""Losses of drawn classes and of pairs in long double, from every score; and what to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import boltzmax

Array = npt.NDArray[Any]
wide = np.longdouble

V, D = 30, 5
DRAWS = {"shared": (17,), "own": (9, 17)}


def log_sum_exp(s: Array) -> Array:
    """The logsumexp of rows; -inf for rows of -inf."""
    top = s.max(axis=-1, keepdims=True)
    top = np.where(np.isinf(top), 0, top)
    return np.log(np.exp(s - top).sum(axis=-1)) + top[..., 0]


def softplus(x: Array) -> Array:
    return np.logaddexp(wide(0), x)


def drawn_losses(
    name: str,
    hidden: Array,
    weight: Array,
    target: Array,
    draws: tuple[Array, Array, Array],
    bias: Array | None = None,
    remove_hits: bool = True,
) -> Array:
    """The loss of each row of `sampled_softmax_loss` and the like."""
    h, w = hidden.astype(wide), weight.astype(wide)
    b = np.zeros(len(w), wide) if bias is None else bias.astype(wide)
    ids, log_q, of_target = draws
    ids, log_q = (np.broadcast_to(a, (len(h), a.shape[-1])) for a in (ids, log_q))
    own = (h * w[target]).sum(axis=-1) + b[target]
    s = np.einsum("nd,nkd->nk", h, w[ids]) + b[ids]
    if name != "negative_sampling_loss":
        s = s - log_q
    if remove_hits:
        s = np.where(ids == target[:, None], -np.inf, s)
    if name == "sampled_softmax_loss":
        return log_sum_exp(np.concatenate([own[:, None], s], axis=-1)) - own
    own = own - (of_target if name == "nce_loss" else 0)
    return softplus(-own) + softplus(s).sum(axis=-1)


def info_nce(
    query: Array,
    key: Array,
    negatives: Array | None = None,
    temperature: float = 0.07,
    symmetric: bool = False,
    own_view: bool = False,
) -> Any:
    """The contrastive loss of pairs."""
    q, k = query.astype(wide), key.astype(wide)
    more = np.zeros((0, q.shape[1]), wide) if negatives is None else negatives.astype(wide)

    def direction(a: Array, b: Array, more: Array) -> Any:
        s = a @ b.T / wide(temperature)
        rows = [s, a @ more.T / wide(temperature)]
        if own_view:
            own = a @ a.T / wide(temperature)
            np.fill_diagonal(own, -np.inf)
            rows.append(own)
        return (log_sum_exp(np.concatenate(rows, axis=-1)) - np.diagonal(s)).mean()

    one = direction(q, k, more)
    if not symmetric:
        return one
    return (one + direction(k, q, more if own_view else more[:0])) / 2


# ---- calls


def layer(n: int = 9, dtype: Any = np.float64, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Hidden vectors, weights, targets and biases."""
    rng = np.random.default_rng(seed)
    h, w, b = rng.normal(size=(n, D)), rng.normal(size=(V, D)), rng.normal(size=V)
    return h.astype(dtype), w.astype(dtype), rng.integers(V, size=n), b.astype(dtype)


def draws_of(shape: tuple[int, ...], target: Array, seed: int = 1) -> tuple[Array, Array, Array]:
    """Candidates, some twice and some hits, with any expected counts."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(V, size=shape)
    ids[..., :3], ids[..., 3] = target[:3], ids[..., 4]
    return ids, rng.normal(size=shape), rng.normal(size=target.shape)


def loss_of(name: str) -> Callable[..., Any]:
    return getattr(boltzmax, name)


def gradient_of(name: str) -> Callable[..., Any]:
    return getattr(boltzmax, f"{name}_with_grad")


def differences(f: Callable[[Array], Any], x: Array, step: float = 1e-5) -> Array:
    """The gradient of f by central differences."""
    found = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][i] += step
        moved[1][i] -= step
        found[i] = (f(moved[0]) - f(moved[1])) / (2 * step)
    return found

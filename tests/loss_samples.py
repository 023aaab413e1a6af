"""Arguments of losses, and reference gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax

Array = npt.NDArray[Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return 3 * np.random.default_rng(seed).standard_normal(shape)


def log_probs(*shape: int, seed: int = 0) -> Array:
    return np.asarray(boltzmax.log_softmax(normal(*shape, seed=seed)))


def positive(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).uniform(0.1, 2.0, shape)


def classes(n: int, *shape: int, seed: int = 2) -> Array:
    return np.random.default_rng(seed).integers(0, n, shape)


def differences(loss: Callable[[Array], Any], x: Array, h: float = 1e-5) -> Array:
    """The gradient by central differences."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        gradient[i] = (loss(x + step) - loss(x - step)) / (2 * h)
    return gradient


def torch_gradient(loss: Callable[[Any], Any], x: Array) -> tuple[Any, Array]:
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(x, requires_grad=True)
    value = loss(leaf)
    value.backward()
    return value.item(), leaf.grad.numpy()


def cross_entropy(logits: Array, target: Array, options: dict[str, Any]) -> float:
    """Return the loss by its definition, in float64."""
    k = logits.shape[-1]
    o = {"weight": np.ones(k), "sample_weight": np.ones(target.shape[: logits.ndim - 1])} | options
    s = logits.astype(np.float64)
    if "softcap" in o:
        s = o["softcap"] * np.tanh(s / o["softcap"])
    s = s / o.get("temperature", 1.0)
    lse = np.log(np.exp(s).sum(-1))
    e = o.get("label_smoothing", 0.0)
    if target.dtype.kind == "f":
        counted, own = np.ones(target.shape[:-1], bool), 1.0
        share = target
    else:
        counted = target != -100
        t = np.where(counted, target, 0)
        own, share = o["weight"][t], np.zeros(logits.shape)
        np.put_along_axis(share, t[..., None], 1.0, axis=-1)
    a = o["weight"] * ((1 - e) * share + e / k)
    each = (a * (lse[..., None] - s)).sum(-1) + o.get("z_loss", 0.0) * lse**2
    total = (each * o["sample_weight"])[counted].sum()
    mean = o.get("reduction", "mean") == "mean"
    return float(total / ((own * o["sample_weight"])[counted].sum() if mean else 1.0))


def wide_log_probs(logits: Array, temperature: float = 1.0) -> Array:
    """Return the logarithm of the softmax, in float64."""
    s = logits.astype(np.float64) / temperature
    s = s - s.max(-1, keepdims=True)
    return np.asarray(s - np.log(np.exp(s).sum(-1, keepdims=True)))


def check_row_stats(logits: Array, target: Array, k: int, temperature: float, rtol: float) -> None:
    """Compare everything."""
    stats = boltzmax.row_stats(logits, target, k, temperature=temperature)
    wide = logits.astype(np.float64)
    expected = wide_log_probs(logits, temperature)
    k = min(k, logits.shape[-1])
    ids = np.argsort(-wide, axis=-1, kind="stable")[..., :k]
    np.testing.assert_array_equal(stats.top_ids, ids)
    close = {"rtol": rtol, "atol": rtol}
    np.testing.assert_allclose(stats.top_log_probs, np.take_along_axis(expected, ids, -1), **close)
    np.testing.assert_allclose(stats.lse, boltzmax.logsumexp(wide / temperature), **close)
    np.testing.assert_allclose(stats.energy, -temperature * np.asarray(stats.lse), **close)
    np.testing.assert_allclose(stats.entropy, -(np.exp(expected) * expected).sum(-1), **close)
    at = np.asarray(target)[..., None]
    own = np.take_along_axis(expected, at, -1)[..., 0]
    np.testing.assert_allclose(stats.target_log_prob, own, **close)
    rank = 1 + (wide > np.take_along_axis(wide, at, -1)).sum(-1)
    np.testing.assert_array_equal(stats.target_rank, rank)

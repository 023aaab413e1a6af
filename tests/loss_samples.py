"""Arguments of losses, and gradients to compare with."""

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

"""Samples for the tests of `boltzmax.margin`, and numeric gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

N, V, C, D = 6, 5, 3, 4
MARGINS: list[dict[str, Any]] = [
    {},
    {"m2": 0.5},
    {"m2": 3.0},
    {"m2": -0.4},
    {"m3": 0.35},
    {"m1": 4.0},
    {"m1": 1.7, "m2": 0.3, "m3": 0.1},
    {"m2": 0.5, "m3": 0.1, "easy_margin": True},
]


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def cosines(*shape: int, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(3).uniform(-1, 1, shape).astype(dtype)


def classes(*shape: int, n: int = V) -> Array:
    return np.random.default_rng(4).integers(0, n, shape)


def numeric(function: Callable[[], float], array: Array, step: float = 1e-6) -> Array:
    """The gradient of `function`, which reads `array`, by central differences."""
    result = np.empty_like(array)
    for i in range(array.size):
        kept, ends = array.flat[i], []
        for shift in (step, -step):
            array.flat[i] = kept + shift
            ends.append(function())
        array.flat[i] = kept
        result.flat[i] = (ends[0] - ends[1]) / (2 * step)
    return result


def lengths() -> dict[str, Any]:
    return {
        "weight_norm": np.linspace(1, 2, V),
        "feature_norm": np.linspace(3, 4, N),
        "cosine": np.linspace(-1, 1, N),
    }

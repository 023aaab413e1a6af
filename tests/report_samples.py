"""Logits and labels for the tests of the report."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def sample(rows: int = 3001, classes: int = 5, sure: float = 2.0) -> tuple[Array, Array]:
    """Logits that are too large by a factor, and labels."""
    rng = np.random.default_rng(7)
    honest = 3 * rng.normal(size=(rows, classes))
    y = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    return (sure * honest).astype(np.float32), y


def write(logits: Array, y: Array) -> list[str]:
    np.save("z.npy", logits)
    np.save("y.npy", y)
    return ["report", "z.npy", "y.npy"]

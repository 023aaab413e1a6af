"""Random number generators."""

from __future__ import annotations

from typing import Any

import numpy as np


def random_generator(rng: Any, name: str = "rng") -> np.random.Generator:
    """Return a generator: `rng` itself, or one seeded with it; None seeds from the system."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be a seed that is not negative or a numpy.random.Generator, got {rng!r}"
        ) from None

"""Random number generators, and keys of random numbers from counters."""

from __future__ import annotations

import operator
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count


def random_generator(rng: Any, name: str = "rng") -> np.random.Generator:
    """Return a generator: `rng` itself, or one seeded with it; None seeds from the system."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be a seed that is not negative or a numpy.random.Generator, got {rng!r}"
        ) from None


def random_key(rng: Any, name: str = "rng") -> int:
    """Return a key of 64 bits: an int itself, the generator's next one, or one of the system's."""
    if rng is None:
        return int.from_bytes(os.urandom(8), "little")
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**64, dtype=np.uint64))
    return check_key(rng, name)


def check_key(key: Any, name: str = "rng") -> int:
    """Return `key` as an int if it has 64 bits."""
    try:
        value = operator.index(key)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, a numpy.random.Generator or None, got {key!r}"
        ) from None
    if not 0 <= value < 2**64:
        raise ValueError(f"{name} must be from 0 to 2**64 - 1, got {value}")
    return value


def check_first_row(first_row: Any) -> int:
    """Return the number of the first row, which random numbers depend on."""
    return check_count(first_row, "first_row", 0, 2**64 - 1)


def normal_noise(key: int, first_row: int, rows: int, n: int) -> NDArray[np.float64]:
    """Return standard normal numbers, (rows, n): each depends on the key, its row and element."""
    noise = np.empty((rows, n))
    _core.run_function("noise", np.empty_like(noise), None, noise, 1, None, None,
                       key=key, first_row=first_row, count=1)  # fmt: skip
    return noise


def uniform_numbers(
    key: int, first_row: int, rows: int, first: int = 0, count: int = 1
) -> NDArray[np.float64]:
    """Return numbers from [0, 1), (rows, count), of the elements `first` and following of rows.

    Each depends on the key, the number of its row and its element alone.
    """
    u = np.empty((rows, count))
    _core.uniform(key, first_row, first, u)
    return u

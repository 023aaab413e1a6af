r"""A random orthogonal map that spreads large features over all, from signs and Hadamard matrices.

With m the largest power of four up to D, a pass flips random signs, permutes the features, and
multiplies each whole block of m of them by :math:`H_m / \sqrt m`; two passes mix all features.
The factor is a power of two, so only additions round.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import check_count

Floats = NDArray[np.float64]

_PASSES = 2


class Rotation:
    """An orthogonal map Q of vectors of length D; the seed alone determines it."""

    def __init__(self, n_features: int, seed: int) -> None:
        self.seed = seed
        rng = np.random.Generator(np.random.Philox(seed))
        self._size: int = 4 ** ((n_features.bit_length() - 1) // 2)
        self._passes = [
            (rng.permutation(n_features), 2.0 * rng.integers(0, 2, n_features) - 1.0)
            for _ in range(_PASSES)
        ]

    @property
    def error(self) -> float:
        r"""A bound of :math:`\|\mathrm{fl}(Qx) - Qx\| / \|x\|`, apart from underflow.

        Each of the log2(m) stages of a pass rounds every element once, so it adds an error of at
        most 2^-53 of the norm, which stays the same.
        """
        return float(_PASSES * (self._size.bit_length() - 1) * 2.0**-52)

    def __call__(self, x: NDArray[Any]) -> Floats:
        """Return the rotated rows of `x`, in float64."""
        y = np.asarray(x, np.float64)
        for order, signs in self._passes:
            y = y[:, order] * signs
            whole = y.shape[1] // self._size * self._size
            y[:, :whole] = self._mixed(y[:, :whole])
        return y

    def inverse(self, y: NDArray[Any]) -> Floats:
        """Return the rows that are rotated to those of `y`, apart from rounding."""
        x = np.array(y, np.float64)
        for order, signs in reversed(self._passes):
            whole = x.shape[1] // self._size * self._size
            x[:, :whole] = self._mixed(x[:, :whole])
            back = np.empty_like(x)
            back[:, order] = x * signs
            x = back
        return x

    def _mixed(self, y: Floats) -> Floats:
        """Multiply the blocks of each row by the Hadamard matrix over the root of its size."""
        rows, width, half = len(y), y.shape[1], 1
        y = np.array(y)
        while half < self._size:
            pairs = y.reshape(rows, width // (2 * half), 2, half)
            y = np.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), axis=2)
            half *= 2
        mixed: Floats = y.reshape(rows, width) / math.isqrt(self._size)
        return mixed


def read_rotation(rotate: bool | int, width: int) -> Rotation | None:
    """Return the rotation that the option `rotate` asks for."""
    if isinstance(rotate, bool | np.bool_):
        return Rotation(width, 0) if rotate else None
    return Rotation(width, check_count(rotate, "rotate", 0, 2**62))

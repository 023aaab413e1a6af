"""Bounds that hold in floating-point arithmetic: norms from above, and errors of products.

With n roundings of relative error u one after the other, a result is off by at most
gamma(n) = n u / (1 - n u) times the sum of absolute values (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., eq. 3.5), in whatever order the terms are added.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.output_layer import Array, Doubles

U32, U64 = 2.0**-24, 2.0**-53

_BLOCK = 2**19  # numbers of a temporary in double


def gamma(n: int, u: float) -> float:
    """Return the relative error of n roundings; infinite where the bound says nothing."""
    return n * u / (1.0 - n * u) if n * u < 1.0 else np.inf


def underflow(n: int) -> float:
    """Return how much a sum of n products of floats may lose below the smallest normal number."""
    return n * 2.0**-125


def above(x: Doubles) -> NDArray[np.float32]:
    """Return the least floats that are not below these doubles."""
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float32)
    low = rounded < x
    rounded[low] = np.nextafter(rounded[low], np.float32(np.inf))
    return rounded


def norms_above(x: Array) -> Doubles:
    """Return upper bounds of the Euclidean norms of rows of floats or doubles.

    Squares of floats are exact in double, those of doubles are rounded; underflow of the squares of
    doubles is covered by the last term.
    """
    n = x.shape[1]
    result = np.empty(len(x))
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, len(x), step):
        block = x[start : start + step].astype(np.float64)
        result[start : start + step] = np.einsum("nd,nd->n", block, block)
    lost = 0.0 if x.dtype == np.float32 else np.sqrt(n) * 2.0**-510
    return np.sqrt(result) * (1.0 + gamma(n + 8, U64)) + lost

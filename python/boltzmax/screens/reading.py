"""Read the weights and hidden vectors of layers whose bounds must hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import as_input, is_float, quietly
from boltzmax._lib.output_layer import Array, read_hidden

Floats = NDArray[np.float32]

_BLOCK = 2**20  # numbers that are checked at a time, so that a memory map need not fit in memory
_FLOAT32 = np.dtype(np.float32)


def read_vectors(hidden: ArrayLike, n_features: int) -> Floats:
    """Return hidden vectors, (N, n_features), in float32, C-contiguous; all must be finite."""
    x = read_hidden(hidden, n_features, _FLOAT32)
    refuse_infinite(x, "hidden", "row")
    return x


@quietly
def read_weights(weight: ArrayLike, bias: ArrayLike | None) -> tuple[Floats, Floats | None]:
    """Return weights, (V, D), and a bias, (V,), in float32, C-contiguous; all must be finite.

    A float32 matrix in C order is not copied; float64 is rounded.
    """
    w = _read(weight, "weight")
    if w.ndim != 2 or 0 in w.shape:
        raise ValueError(f"weight must be (V, D), with V and D at least 1, got shape {w.shape}")
    refuse_infinite(w, "weight", "row")
    if bias is None:
        return w, None
    b = _read(bias, "bias")
    if b.shape != w.shape[:1]:
        raise ValueError(f"bias must have one number per class, ({len(w)},), got shape {b.shape}")
    refuse_infinite(b[:, None], "bias", "class")
    return w, b


def _read(x: ArrayLike, name: str) -> Floats:
    array = as_input(x, name, "pass its data")
    if array.dtype.kind not in "iub" and not is_float(array.dtype):
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return np.require(array, np.float32, ("C", "A"))


def refuse_infinite(x: Array, name: str, what: str) -> None:
    """Raise for the first row with NaN or infinity, which also stands for float32's overflow."""
    step = max(1, _BLOCK // max(x.shape[1], 1))
    for start in range(0, len(x), step):
        # A sum is finite only if all its numbers are, so a single pass decides nearly always.
        block = x[start : start + step]
        if np.isfinite(block.sum(dtype=np.float64)):
            continue
        is_bad = ~np.isfinite(block).all(axis=1)
        if is_bad.any():
            row = start + int(is_bad.argmax())
            raise ValueError(f"{name} must be finite in float32, but {what} {row} is not")

r"""Weights in few bits: codes, scales, and bounds of what the codes leave out.

Classes come in blocks of 16, the *lanes* of a block. In a block, whole numbers of 8 bits are stored
by steps of four features: byte ``4 * lane + i`` of step j is feature 4 j + i of that class, plus
128. Of 4 bits, a byte has two features, four apart: the lower half that of an even step, the upper
half that of the next one, plus 8. Numbers of 16 bits are stored by features, a number for each
lane. Missing classes and features are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

LANES = 16  # classes in a block
LONGEST_SECTION = 512  # features whose products with 16-bit numbers fit into an int32


@dataclass(frozen=True)
class Format:
    """How weights are stored; `group` features share a scale, and 0 means that all of a row do."""

    n_features: int
    bits: int  # 4, 8, or 16 for bfloat16
    group: int

    @property
    def width(self) -> int:
        """The number of features that are stored, with padding."""
        multiple = {4: 8, 8: 4, 16: 1}[self.bits]
        return -(-self.n_features // multiple) * multiple

    @property
    def groups(self) -> int:
        """The number of scales of a class."""
        return -(-self.width // self.group) if self.group else 1

    @property
    def section(self) -> int:
        """The number of features whose products are summed as whole numbers."""
        return self.group or LONGEST_SECTION

    @property
    def largest(self) -> int:
        """The largest whole number that is stored."""
        return int(2 ** (self.bits - 1)) - 1

    def arrays(self, classes: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return the shapes and dtypes of the arrays of a layer."""
        blocks = -(-classes // LANES)
        codes: tuple[tuple[int, ...], Any] = (
            ((blocks, self.width, LANES), np.uint16)
            if self.bits == 16
            else ((blocks, self.width * self.bits // 32, 4 * LANES), np.uint8)
        )
        of_class = (blocks * LANES,)
        found = {
            "codes": codes,
            "scale": ((blocks, self.groups, LANES), np.float32),
            "error": (of_class, np.float32),
            "norm": (of_class, np.float32),
            "bias": (of_class, np.float64),
            "bias_above": (of_class, np.float32),
        }
        return {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in found.items()}

    def pack(self, numbers: Array) -> Array:
        """Return the stored form of (16 n, width) whole numbers."""
        blocks = len(numbers) // LANES
        steps = numbers.reshape(blocks, LANES, -1, 4).swapaxes(1, 2)
        plus = (steps + (self.largest + 1)).astype(np.uint8)
        if self.bits == 4:
            plus = plus[:, 0::2] | plus[:, 1::2] << 4
        return plus.reshape(blocks, -1, 4 * LANES)

    def unpack(self, codes: Array) -> Array:
        """Return the whole numbers that `pack` stored, as int16."""
        blocks = len(codes)
        plus = codes.reshape(blocks, -1, LANES, 4)
        if self.bits == 4:
            plus = np.stack((plus & 15, plus >> 4), axis=2).reshape(blocks, -1, LANES, 4)
        steps = plus.astype(np.int16) - np.int16(self.largest + 1)
        return steps.swapaxes(1, 2).reshape(blocks * LANES, self.width)


@dataclass(frozen=True)
class Encoded:
    """Some classes: their codes, scales (blocks, groups, 16), and bounds, one for each class."""

    codes: Array
    scale: Array
    error: Array  # of the norm of what the codes leave out
    norm: Array  # of the norm of what they stand for


def encode(form: Format, weight: Floats, rounding: float) -> Encoded:
    """Encode finite weights, (n, D), that were computed with this error relative to their norm."""
    classes = -(-len(weight) // LANES) * LANES
    w = np.zeros((classes, form.width))
    w[: len(weight), : form.n_features] = weight
    if form.bits == 16:
        codes, kept, scale = _as_bfloat16(w)
        scale = scale.reshape(-1, 1, LANES)
    else:
        numbers, scales = _as_integers(form, w)
        kept = numbers * _spread(form, scales)  # exact: the scales have 24 bits
        codes, scale = form.pack(numbers), _by_block(scales)
    norm = norms(w)
    error = norms(w - kept) + rounding * norm
    return Encoded(codes, scale, nearest_above(error), nearest_above(norms(kept)))


def decode(form: Format, codes: Array, scale: Array) -> Floats:
    """Return what codes stand for, (16 blocks, D)."""
    if form.bits == 16:
        bits = codes.swapaxes(1, 2).reshape(-1, form.width).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64)[:, : form.n_features]
    scales = scale.swapaxes(1, 2).reshape(-1, form.groups).astype(np.float64)
    return (form.unpack(codes) * _spread(form, scales))[:, : form.n_features]


def _as_integers(form: Format, w: Floats) -> tuple[Floats, Floats]:
    """Return whole numbers, and the scale of each group, which is a float32."""
    rows, group = len(w), form.group or form.width
    padded = np.zeros((rows, form.groups * group))
    padded[:, : form.width] = np.abs(w)
    size = padded.reshape(rows, form.groups, group).max(axis=2)
    scales = (size / form.largest).astype(np.float32).astype(np.float64)
    spread = _spread(form, scales)
    numbers = np.rint(np.divide(w, spread, out=np.zeros_like(w), where=spread > 0.0))
    return np.clip(numbers, -form.largest, form.largest), scales


def _as_bfloat16(w: Floats) -> tuple[Array, Floats, Array]:
    """Return the bits of the nearest bfloat16, by lanes; their values; and scales of 1."""
    bits = w.astype(np.float32).view(np.uint32)
    nearest = np.minimum(
        (bits + 0x7FFF + (bits >> 16 & 1)) >> 16, (bits & 0x80000000) >> 16 | 0x7F7F
    )
    kept = (nearest << 16).view(np.float32).astype(np.float64)
    codes = nearest.astype(np.uint16).reshape(-1, LANES, w.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(codes), kept, np.ones(len(w), np.float32)


def _spread(form: Format, scales: Floats) -> Floats:
    """Return the scale of every feature."""
    return np.repeat(scales, form.group or form.width, axis=1)[:, : form.width]


def _by_block(scales: Floats) -> Array:
    """Return scales, (16 blocks, groups), as (blocks, groups, 16) float32."""
    each = scales.astype(np.float32).reshape(-1, LANES, scales.shape[1])
    return np.ascontiguousarray(each.swapaxes(1, 2))


def norms(x: Floats) -> Floats:
    """Return upper bounds of the norms of rows whose elements have a relative error of 2^-53.

    A sum of D squares has a relative error of at most (D + 2) 2^-53. Squares of numbers below
    1e-150 may vanish, so that a row which is not 0 has at least 1e-140.
    """
    found = np.sqrt(np.einsum("ij,ij->i", x, x)) * (1.0 + (x.shape[1] + 8) * 2.0**-52)
    return np.where(np.any(x, axis=1), np.maximum(found, 1e-140), 0.0)


def nearest_above(x: Floats) -> Array:
    """Return the least float32 that is at least `x`."""
    short = x.astype(np.float32)
    return np.where(short < x, np.nextafter(short, np.float32(np.inf)), short)

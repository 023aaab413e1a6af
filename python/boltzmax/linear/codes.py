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

from boltzmax._lib.arguments import as_integer, check_count, one_of

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

    def unpack(self, codes: Array) -> Array:
        """Return the whole numbers of some blocks, (16 blocks, width), as int16."""
        blocks = len(codes)
        plus = codes.reshape(blocks, -1, LANES, 4)
        if self.bits == 4:
            plus = np.stack((plus & 15, plus >> 4), axis=2).reshape(blocks, -1, LANES, 4)
        steps = plus.astype(np.int16) - np.int16(self.largest + 1)
        return steps.swapaxes(1, 2).reshape(blocks * LANES, self.width)


def decode(form: Format, codes: Array, scale: Array) -> Floats:
    """Return what codes stand for, (16 blocks, D)."""
    if form.bits == 16:
        bits = codes.swapaxes(1, 2).reshape(-1, form.width).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64)[:, : form.n_features]
    scales = scale.swapaxes(1, 2).reshape(-1, form.groups).astype(np.float64)
    return (form.unpack(codes) * _spread(form, scales))[:, : form.n_features]


def _spread(form: Format, scales: Floats) -> Floats:
    """Return the scale of every feature."""
    return np.repeat(scales, form.group or form.width, axis=1)[:, : form.width]


def nearest_above(x: Floats) -> Array:
    """Return the least float32 that is at least `x`."""
    short = x.astype(np.float32)
    return np.where(short < x, np.nextafter(short, np.float32(np.inf)), short)


def read_format(width: int, bits: int, scheme: str, group: int, dtype: str) -> Format:
    """Return the form that the options of a layer with rows of this width ask for."""
    stored = one_of(dtype, "dtype", ("int8", "bfloat16"))
    number = as_integer(bits, "bits")
    if number not in (4, 8):
        raise ValueError(f"bits must be 8 or 4, got {number}")
    by_group = one_of(scheme, "scheme", ("per_row", "per_group")) == "per_group"
    size = check_count(group, "group", 8, 512)
    if size % 8:
        raise ValueError(f"group must be a multiple of 8, got {size}")
    if stored == "bfloat16":
        if number != 8 or by_group:
            raise ValueError("bfloat16 has neither bits nor groups")
        return Format(width, 16, 0)
    return Format(width, number, size if by_group else 0)

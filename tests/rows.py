"""The kinds of rows on which accuracy is measured, by name, and the lengths."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ulp import Format, format_of

Array = npt.NDArray[Any]
Kind = Callable[[np.random.Generator, int, Format], Array]

# Every tail length of every vector width, unrolled or not.
TAILS = tuple(range(1, 131))
# Around the block sizes an implementation may use, and beyond.
LENGTHS = (255, 256, 257, 1000, 1023, 1024, 1025, 4095, 4096, 4097)
LONG = (100_000,)
LONGEST = (10_000_000,)


def _normal(rng: np.random.Generator, n: int, f: Format) -> Array:
    return 3 * rng.standard_normal(n)


def _wide(rng: np.random.Generator, n: int, f: Format) -> Array:
    return rng.uniform(-50, 50, n)


def _peaked(rng: np.random.Generator, n: int, f: Format) -> Array:
    x = rng.standard_normal(n)
    x[rng.integers(n)] += 40
    return x


def _zero_and_minus_40(rng: np.random.Generator, n: int, f: Format) -> Array:
    x = np.full(n, -40.0)
    x[rng.integers(n)] = 0
    return x


def _constant(rng: np.random.Generator, n: int, f: Format) -> Array:
    return np.full(n, 0.7)


def _far_constant(rng: np.random.Generator, n: int, f: Format) -> Array:
    # All differences round the same way: their errors add up instead of averaging out.
    x = np.full(n, -10.03)
    x[rng.integers(n)] = 0.1234
    return x


def _vanishing(rng: np.random.Generator, n: int, f: Format) -> Array:
    # In float32, exp(-17.5) is below half an ULP of the 1 that it is added to.
    x = np.full(n, -17.5 if f.bits < 52 else -37.5)
    x[rng.integers(n)] = 0
    return x


def _whisper(rng: np.random.Generator, n: int, f: Format) -> Array:
    # The sum without its largest term is tiny, with terms of many sizes.
    x = rng.uniform(-45, -15, n)
    x[rng.integers(n)] = 0.1
    return x


def _offset(rng: np.random.Generator, n: int, f: Format) -> Array:
    return 1e4 + rng.standard_normal(n)


def _negative_offset(rng: np.random.Generator, n: int, f: Format) -> Array:
    return -1e4 + rng.standard_normal(n)


def _tiny_differences(rng: np.random.Generator, n: int, f: Format) -> Array:
    return 1.5 + f.eps * rng.integers(-4, 5, n)


def _subnormal_inputs(rng: np.random.Generator, n: int, f: Format) -> Array:
    return rng.uniform(-1, 1, n) * math.ldexp(1.0, f.min_exponent)


def _subnormal_results(rng: np.random.Generator, n: int, f: Format) -> Array:
    # For float32, from -80 to -106 below the largest: normal, subnormal and zero results.
    low, high = (f.min_exponent - f.bits) * math.log(2) - 2, f.min_exponent * math.log(2) + 7
    x = rng.uniform(low, high, n) - 0.3
    x[rng.integers(n)] = -0.3
    return x


def _two_values(rng: np.random.Generator, n: int, f: Format) -> Array:
    return rng.choice([-1.3, 2.7], n)


def _with_minus_infinity(rng: np.random.Generator, n: int, f: Format) -> Array:
    x = 3 * rng.standard_normal(n)
    x[rng.random(n) < 0.3] = -np.inf
    x[rng.integers(n)] = 1.1
    return x


def _ascending(rng: np.random.Generator, n: int, f: Format) -> Array:
    # A running maximum would change at every step.
    return np.sort(rng.uniform(-30, 30, n))


def _descending(rng: np.random.Generator, n: int, f: Format) -> Array:
    return -np.sort(rng.uniform(-30, 30, n))


def _overflowing(rng: np.random.Generator, n: int, f: Format) -> Array:
    # exp without the shift overflows: 88.7 for float32, 709.8 for float64, 11.1 for float16.
    return math.log(f.largest) + rng.uniform(-1, 1, n)


def _underflowing(rng: np.random.Generator, n: int, f: Format) -> Array:
    # exp without the shift is 0 everywhere.
    return (f.min_exponent - f.bits - 3) * math.log(2) + rng.uniform(-1, 1, n)


def _huge(rng: np.random.Generator, n: int, f: Format) -> Array:
    return rng.uniform(-1, 1, n) * (f.largest / 4)


def _cancelling(rng: np.random.Generator, n: int, f: Format) -> Array:
    # logsumexp is near 0: the maximum and the logarithm of the sum cancel.
    return -math.log(n) + 0.01 * rng.standard_normal(n)


KINDS: dict[str, Kind] = {
    "normal": _normal,
    "wide": _wide,
    "peaked": _peaked,
    "zero_and_minus_40": _zero_and_minus_40,
    "constant": _constant,
    "far_constant": _far_constant,
    "vanishing": _vanishing,
    "whisper": _whisper,
    "offset": _offset,
    "negative_offset": _negative_offset,
    "tiny_differences": _tiny_differences,
    "subnormal_inputs": _subnormal_inputs,
    "subnormal_results": _subnormal_results,
    "two_values": _two_values,
    "with_minus_infinity": _with_minus_infinity,
    "ascending": _ascending,
    "descending": _descending,
    "overflowing": _overflowing,
    "underflowing": _underflowing,
    "huge": _huge,
    "cancelling": _cancelling,
}


def make(kind: str, n: int, dtype: np.dtype[Any], seed: int = 0) -> Array:
    """A row of `n` elements; the same one for the same arguments, on any machine."""
    rng = np.random.default_rng([seed, n, zlib.crc32(kind.encode())])
    return KINDS[kind](rng, n, format_of(dtype)).astype(dtype)


def normal(*shape: int, dtype: npt.DTypeLike = np.float64, seed: int = 0) -> Array:
    """An array of normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def uneven(shape: Any, dtype: npt.DTypeLike, seed: int = 0) -> Array:
    """An array of normal numbers with rare ones far above them, increasingly towards the end.

    This holds along any axis, so code that takes the first elements of a row as typical fails.
    """
    rng = np.random.default_rng(seed)
    x = 3 * rng.standard_normal(shape, np.float32)
    height = np.full(x.shape, 20, np.float32)
    for axis, n in enumerate(x.shape):
        ramp = np.linspace(0, 60, n, dtype=np.float32)
        height += np.expand_dims(ramp, [a for a in range(x.ndim) if a != axis])
    return np.asarray(x + height * (rng.random(x.shape, np.float32) < 0.02)).astype(dtype)


def many_short(n: int, dtype: np.dtype[Any], seed: int = 0, count: int = 20_000) -> Array:
    """Short rows, in which no error averages out, of many widths and offsets, to find the worst."""
    rng = np.random.default_rng([seed, n])
    width = 2.0 ** rng.uniform(-10, 7, (count, 1))
    x = width * rng.standard_normal((count, n)) + rng.uniform(-20, 20, (count, 1))
    return x.astype(dtype)

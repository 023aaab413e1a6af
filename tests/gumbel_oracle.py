"""Philox4x32-10 and the variates that come from it, in NumPy, with nothing of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint64]
Long = npt.NDArray[np.longdouble]

_LOW = np.uint64(0xFFFFFFFF)
NOISE, TAIL, DRAW = range(3)


def philox(key: int, counter: list[Any]) -> list[Words]:
    """Return the four words at each counter, whose four words are arrays that broadcast."""
    c = [np.asarray(word, np.uint64) for word in counter]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [p1 >> np.uint64(32) ^ c[1] ^ np.uint64(k0), p1 & _LOW,
             p0 >> np.uint64(32) ^ c[3] ^ np.uint64(k1), p0 & _LOW]  # fmt: skip
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return list(np.broadcast_arrays(*c))


def block(key: int, row: int, purpose: int, index: Any) -> Words:
    """Return the words at (index, purpose, row), on a new last axis."""
    return np.stack(philox(key, [index, purpose, row & 0xFFFFFFFF, row >> 32]), axis=-1)


def signed_uniforms(key: int, row: int, n: int) -> Long:
    """Return s for n elements of a row: w = s above 0, w = 1 + s below."""
    index = np.arange((n + 3) // 4)
    word, further = (block(key, row, p, index).reshape(-1)[:n] for p in (NOISE, TAIL))
    signed = word.astype(np.uint32).view(np.int32).astype(np.longdouble)
    usual = (signed + np.longdouble(0.5)) / 2**32
    refined = (signed + (further.astype(np.longdouble) + np.longdouble(0.5)) / 2**32) / 2**32
    return np.where(np.abs(usual) < 2.0**-12, refined, usual)


def gumbel_of(s: Long) -> Long:
    """Return -log(-log(1 - w))."""
    above, below = np.where(s > 0, s, 0.25), np.where(s < 0, s, -0.25)
    return -np.log(np.where(s > 0, -np.log1p(-above), -np.log(-below)))


def gumbel(key: int, row: int, n: int) -> Long:
    """Return the Gumbel noise of n elements of a row."""
    return gumbel_of(signed_uniforms(key, row, n))


def scores(shape: Any, dtype: Any = np.float32, seed: int = 0, scale: float = 1.0) -> Array:
    with np.errstate(under="ignore"):
        return (scale * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()

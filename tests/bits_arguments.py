"""Random arguments of the calls in `bits_corpus`."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LONG = (70_001, 200_003)
DTYPES = ["float16", "float32", "float64"]
SPECIAL = np.array([-np.inf, np.inf, np.nan, 0.0, -0.0, 1e4, -1e4, 6e-8])


class Draw:
    """Arguments from one stream of random numbers, which depends only on the function's name."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.number = 0

    def one_of(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def maybe(self, **options: Any) -> dict[str, Any]:
        """Some of the options, each with an even chance."""
        return {name: value for name, value in options.items() if self.rng.random() < 0.5}

    def length(self) -> int:
        return int(self.one_of(1, 2, 3, 10, 17, 33, 64, 100, 257, self.rng.integers(1, 301)))

    def shape(self) -> tuple[int, ...]:
        """One in twelve has a single long row."""
        self.number += 1
        if self.number % 12 == 0:
            return (1, self.one_of(*LONG))
        return self.one_of(
            (self.length(),),
            (int(self.rng.integers(0, 41)), self.length()),
            (2, 3, self.length()),
            (self.length(), int(self.rng.integers(1, 9))),
        )

    def numbers(self, *shape: int, dtype: str = "float64") -> Array:
        return self.rng.standard_normal(shape).astype(dtype)

    def scores(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        """In some dtype and layout, one in five with infinities and the like."""
        x = self.one_of(0.1, 3.0, 30.0) * self.numbers(*shape)
        if self.rng.random() < 0.2 and x.size:
            places = self.rng.integers(x.size, size=max(1, x.size // 10))
            x.flat[places] = self.rng.choice(SPECIAL, size=len(places))
        with np.errstate(all="ignore"):
            return self.laid(x.astype(dtype or self.one_of(*DTYPES)))

    def laid(self, x: Array) -> Array:
        layout = self.one_of("C", "C", "F", "strided", "backwards")
        if layout == "F":
            return np.asfortranarray(x)
        if layout == "strided":
            return np.repeat(x, 2, axis=-1)[..., ::2]
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1] if layout == "backwards" else x

    def classes(self, n: int, shape: tuple[int, ...]) -> Array:
        """One in eight is to be ignored."""
        found = self.rng.integers(0, n, shape)
        return np.where(self.rng.random(shape) < 0.125, -100, found)

    def positive(self, *shape: int) -> Array:
        return self.rng.uniform(0.1, 2.0, shape)

    def probabilities(self, *shape: int) -> Array:
        p = self.positive(*shape)
        return np.asarray(p / p.sum(axis=-1, keepdims=True))


def reduction(draw: Draw, name: str, *more: str) -> dict[str, Any]:
    scalars = ("mean", "sum", *more)
    chosen = draw.one_of(*scalars, *(() if name.endswith("_with_grad") else ("none",)))
    return {"reduction": chosen} | draw.maybe(empty="zero")


def layer(draw: Draw) -> tuple[Array, Array, Array]:
    """Hidden vectors, weights and biases of a linear layer, of one dtype."""
    n, v, d = int(draw.rng.integers(0, 40)), draw.length(), int(draw.rng.integers(1, 40))
    if draw.number % 10 == 9:
        n, v = 200, 1200  # in tiles
    draw.number += 1
    dtype = draw.one_of(*DTYPES)
    hidden, weight = (draw.laid(draw.numbers(*shape, dtype=dtype)) for shape in ((n, d), (v, d)))
    return hidden, weight, draw.numbers(v, dtype=dtype)

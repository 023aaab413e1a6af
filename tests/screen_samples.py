"""Screens, hostile layers, and their exact logits, for the tests of all screens.

A new screen is added to SCREENS, and then has the tests of test_screens.py and test_two_stage.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import (
    ClusteredLinear,
    LowRankLinear,
    PrunedLinear,
    QuantizedLinear,
    Screen,
)
from boltzmax.screens.reading import read_vectors, read_weights

Array = NDArray[Any]


class PlainScreen(Screen):
    """The least that a screen must have: intervals, here of the exact logits and a tenth."""

    def __init__(self, weight: Any, bias: Any = None) -> None:
        self.weight, self.bias = read_weights(weight, bias)
        self.n_classes, self.n_features = self.weight.shape

    def intervals(
        self, hidden: Any, first: int = 0, last: int | None = None
    ) -> tuple[Array, Array]:
        x = read_vectors(hidden, self.n_features)
        exact = exact_logits(
            x, self.weight[first:last], None if self.bias is None else self.bias[first:last]
        )
        radius = 0.1 + 1e-9 * np.abs(exact)
        return exact - radius, exact + radius


SCREENS: dict[str, Callable[..., Screen]] = {
    "plain": PlainScreen,
    "8 bits": QuantizedLinear,
    "4 bits": partial(QuantizedLinear, bits=4),
    "low rank": lambda w, b=None: LowRankLinear(w, b, rank=min(3, np.shape(w)[-1])),
    "full rank": lambda w, b=None: LowRankLinear(w, b, rank=np.shape(w)[-1]),
    "clusters": ClusteredLinear,
    "a cluster each": lambda w, b=None: ClusteredLinear(w, b, n_clusters=len(w)),
    "pruned": partial(PrunedLinear, ratio=0.5, method="magnitude", block=1),
    "pruned rows": partial(PrunedLinear, ratio=0.3, method="row", block=1),
    "pruned blocks": partial(PrunedLinear, ratio=0.6, method="block", block=4),
    "nothing kept": partial(PrunedLinear, ratio=1.0, method="row", block=1),
}


@np.errstate(all="ignore")
def exact_logits(x: Array, w: Array, b: Array | None) -> Array:
    """Logits rounded once: products of floats are exact in double, and fsum rounds their sum."""
    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    own = [[]] * len(w) if b is None else [[float(bias)] for bias in b]
    rows = [
        [math.fsum([*(row * c).tolist(), *o]) for c, o in zip(w64, own, strict=True)] for row in x64
    ]
    return np.array(rows, np.float64).reshape(len(x), len(w))


def exact_order(x: Array, w: Array, b: Array | None) -> Array:
    """Classes of one row by decreasing exact logit, ties by id, in whole numbers.

    Floats are whole multiples of 2^-149, their products of 2^-298.
    """
    whole = [[int(math.ldexp(v, 149)) if v else 0 for v in map(float, row)] for row in (x, *w)]
    biases = [0] * len(w) if b is None else [int(math.ldexp(float(v), 298)) for v in b]
    sums = [
        sum(p * q for p, q in zip(whole[0], row, strict=True)) + bias
        for row, bias in zip(whole[1:], biases, strict=True)
    ]
    return np.array(sorted(range(len(w)), key=lambda c: (-sums[c], c)))


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def _equal_rows(rng: np.random.Generator) -> tuple[Array, Array, Array | None]:
    w = _normal(rng, 8, 9)[rng.integers(0, 8, 70)]
    return w, _normal(rng, 6, 9), None


def _neighbours(rng: np.random.Generator) -> tuple[Array, Array, Array | None]:
    """Rows that differ in the last bit of one weight."""
    w = np.tile(_normal(rng, 1, 12), (60, 1))
    for c in range(60):
        for _ in range(c % 4):
            w[c, c % 12] = np.nextafter(w[c, c % 12], np.float32(9))
    return w, _normal(rng, 5, 12), _normal(rng, 1)[[0] * 60]


def _cancelling(rng: np.random.Generator) -> tuple[Array, Array, Array | None]:
    """Sums whose terms are far larger than they are."""
    half = _normal(rng, 50, 8) * np.float32(1e6)
    w = np.concatenate([half, -half, _normal(rng, 50, 3)], axis=1)
    x = _normal(rng, 4, 8)
    return w, np.concatenate([x, x, _normal(rng, 4, 3)], axis=1), None


def _shuffled(rng: np.random.Generator) -> tuple[Array, Array, Array | None]:
    """Exact ties of different rows: the same numbers in another order, for a constant vector."""
    row = _normal(rng, 16)
    w = np.stack([rng.permutation(row) for _ in range(40)])
    w[10:] += _normal(rng, 30, 1)
    return w, np.repeat(np.float32([[1.0], [-2.0], [0.5]]), 16, axis=1), None


def _sizes(rng: np.random.Generator) -> tuple[Array, Array, Array | None]:
    scale = np.float32(10.0) ** rng.integers(-30, 15, (80, 1)).astype(np.float32)
    return _normal(rng, 80, 7) * scale, _normal(rng, 6, 7), _normal(rng, 80)


HOSTILE: dict[str, Callable[[np.random.Generator], tuple[Array, Array, Array | None]]] = {
    "normal": lambda rng: (_normal(rng, 150, 17), _normal(rng, 9, 17), _normal(rng, 150)),
    "equal rows": _equal_rows,
    "neighbours": _neighbours,
    "cancelling": _cancelling,
    "shuffled": _shuffled,
    "sizes": _sizes,
    "huge": lambda rng: (_normal(rng, 50, 6) * np.float32(1e36), _normal(rng, 5, 6), None),
    "huge rows": lambda rng: (
        _normal(rng, 50, 6) * np.float32(1e30),
        _normal(rng, 5, 6) * np.float32(1e30),
        None,
    ),
    "subnormal": lambda rng: (_normal(rng, 50, 6) * np.float32(1e-42), _normal(rng, 5, 6), None),
    "tiny products": lambda rng: (
        _normal(rng, 50, 6) * np.float32(1e-25),
        _normal(rng, 5, 6) * np.float32(1e-25),
        None,
    ),
    "zeros": lambda rng: (np.zeros((30, 5), np.float32), _normal(rng, 4, 5), None),
    "zero vectors": lambda rng: (
        _normal(rng, 30, 5),
        np.zeros((3, 5), np.float32),
        _normal(rng, 30),
    ),
    "one class": lambda rng: (_normal(rng, 1, 5), _normal(rng, 4, 5), None),
    "one feature": lambda rng: (_normal(rng, 33, 1), _normal(rng, 4, 1), _normal(rng, 33)),
    "no rows": lambda rng: (_normal(rng, 20, 5), np.zeros((0, 5), np.float32), None),
}


@np.errstate(all="ignore")
def hostile(name: str) -> tuple[Array, Array, Array | None]:
    """The weights, hidden vectors and bias of a hostile layer."""
    return HOSTILE[name](np.random.default_rng(sorted(HOSTILE).index(name)))

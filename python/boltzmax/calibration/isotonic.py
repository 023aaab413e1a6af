"""Isotonic regression: the nearest numbers that do not fall."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Doubles = NDArray[np.float64]


class Blocks(NamedTuple):
    """Neighbouring numbers with one value: where they begin, their weights and values."""

    starts: NDArray[np.intp]
    weight: Doubles
    value: Doubles


def pool_adjacent_violators(value: Doubles, weight: Doubles) -> Blocks:
    """Return the blocks of the weighted least-squares fit that does not fall.

    Neighbours out of order belong to one block, in whatever order they are pooled (Best &
    Chakravarti, Mathematical Programming 47, 1990), so all falling runs are pooled together, until
    none is left: some ten to thirty times.
    """
    blocks = Blocks(np.arange(len(value)), weight, value)
    while True:
        rises = np.append(True, blocks.value[1:] > blocks.value[:-1])
        if rises.all():
            return blocks
        first = np.flatnonzero(rises)
        total = np.add.reduceat(blocks.weight, first)
        mean = np.add.reduceat(blocks.weight * blocks.value, first) / total
        blocks = Blocks(blocks.starts[first], total, mean)


def isotonic_knots(x: Doubles, y: Array, weight: Doubles | None) -> tuple[Doubles, Doubles]:
    """Return knots between which the isotonic fit of y to x is linear: both ends of each block.

    Rows with the same x have one value. Rows of weight 0 do not count.
    """
    w = np.ones(len(x)) if weight is None else weight
    counted = w > 0
    x, y, w = x[counted], y[counted].astype(np.float64), w[counted]
    order = np.argsort(x, kind="stable")
    x, y, w = x[order], y[order], w[order]
    first = np.flatnonzero(np.append(True, x[1:] != x[:-1]))
    x, total = x[first], np.add.reduceat(w, first)
    blocks = pool_adjacent_violators(np.add.reduceat(w * y, first) / total, total)
    ends = np.append(blocks.starts[1:], len(x)) - 1
    knots = np.stack([x[blocks.starts], x[ends]], axis=1).reshape(-1)
    values = np.clip(np.repeat(blocks.value, 2), 0.0, 1.0)
    is_new = np.append(True, (knots[1:] != knots[:-1]))
    return knots[is_new], values[is_new]

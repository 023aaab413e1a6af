"""Run a sequence of steps on logits: filter them, or draw from what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, as_input, broadcast_mask, check_count
from boltzmax._lib.bad_rows import are_marked, at_place, of_row, refuse_bad_rows
from boltzmax._lib.logits import read_logits
from boltzmax._lib.random import random_key
from boltzmax.sampling.steps import Bias, Numbers, Step

Array = NDArray[Any]

_LARGEST_COUNTER = 2**64 - 1
_BAD, _TOO_FEW = 1, 2  # RowState of cpp/core/sampling/sampling.hpp


class Sample(NamedTuple):
    """Classes that were drawn.

    Attributes
    ----------
    ids : ndarray of int64, or int64
        One class per row, or `n` on the last axis; -1 for a row that was marked as bad.
    log_probs : ndarray of float64, or float64
        Their log-probabilities in the distribution that was drawn from: the filtered one, whose
        probabilities have the sum 1. NaN for a bad row.
    kept : ndarray of int64, or int64
        The number of classes that the filters left in each row; 0 for a bad row.

    Examples
    --------
    >>> from boltzmax.sampling import sample
    >>> ids, log_probs, kept = sample([[5.0, 1.0], [1.0, 5.0]], top_k=1)
    >>> ids, kept
    (array([0, 1]), array([1, 1]))
    """

    ids: Any
    log_probs: Any
    kept: Any


def run_sample(
    logits: ArrayLike,
    steps: Sequence[Step],
    *,
    where: ArrayLike | None = None,
    n: int | None = None,
    replace: bool = True,
    rng: Any = None,
    counters: ArrayLike | None = None,
    errors: str = "raise",
    first_place: int = 0,
) -> Sample:
    """Draw from the distribution that the steps, in this order, make of the logits.

    The random numbers of a step depend on its place among the filters, of which some may have
    been run before.
    """
    call = _Call(logits, steps, where, counters, errors, first_place)
    draws = 1 if n is None else check_count(n, "n", 1, 2**32)
    with_replacement = as_flag(replace, "replace")
    rows = len(call.matrix)
    ids, log_probs = np.empty((rows, draws), np.int64), np.empty((rows, draws))
    kept = np.empty(rows, np.int64)
    _core.sample(*call.arguments(random_key(rng)), with_replacement, ids, log_probs, kept)
    call.check()
    few = np.flatnonzero(call.state == _TOO_FEW)
    if few.size:
        row = few[0]
        raise ValueError(
            f"n must be at most the number of classes that are left without replacement, "
            f"{kept[row]}{of_row(int(row), call.shape)}, got {draws}"
        )
    shape = call.shape if n is None else (*call.shape, draws)
    return Sample(
        ids.reshape(shape)[()], log_probs.reshape(shape)[()], kept.reshape(call.shape)[()]
    )


def run_filter(
    logits: ArrayLike,
    steps: Sequence[Step],
    *,
    where: ArrayLike | None = None,
    probabilities: bool = False,
    rng: Any = 0,
    counters: ArrayLike | None = None,
    errors: str = "raise",
    first_place: int = 0,
) -> Array:
    """Return the logits that the steps leave, -inf elsewhere; or their probabilities."""
    call = _Call(logits, steps, where, counters, errors, first_place)
    result = np.empty_like(call.matrix)
    _core.filter_logits(*call.arguments(random_key(rng)), result, probabilities)
    call.check()
    return result.reshape(*call.shape, result.shape[-1])


class _Call:
    """The checked arguments, as the compiled code reads them."""

    def __init__(
        self,
        logits: ArrayLike,
        steps: Sequence[Step],
        where: ArrayLike | None,
        counters: ArrayLike | None,
        errors: str,
        first_place: int,
    ) -> None:
        read = read_logits(logits)
        self.matrix = read.rows()
        self.shape = read.shape
        self.marks = are_marked(errors)
        mask = broadcast_mask(where, read.array)
        self.mask = None if mask is None else _as_rows(mask, self.matrix.shape)
        self.biases: list[Any] = []
        self.lines: list[Any] = []
        for step in steps:
            if not isinstance(step, Bias):
                name, number, other, rule = step.line()
                if name == "xtc":
                    rule = first_place + len(self.lines)
                lines = (self.per_row(number, name), self.per_row(other, name))
                self.lines.append((name, *lines, rule))
            elif self.lines:
                raise ValueError("a bias must come before the filters")
            else:
                self.biases.append(step.read(read.array.shape))
        self.counters = None if counters is None else _counters(counters, self.shape)
        self.state = np.empty(len(self.matrix), np.uint8)

    def per_row(self, number: Numbers, name: str) -> Numbers:
        """Return a number, or one for each row."""
        if not isinstance(number, np.ndarray):
            return number
        try:
            return np.ascontiguousarray(np.broadcast_to(number, self.shape)).reshape(-1)
        except ValueError:
            raise ValueError(
                f"{name} of shape {number.shape} does not broadcast to one per row, {self.shape}"
            ) from None

    def arguments(self, key: int) -> tuple[Array, Any, list[Any], list[Any], int, Any, Array]:
        """Return what both compiled functions take."""
        return (self.matrix, self.mask, self.biases, self.lines, key, self.counters, self.state)

    def check(self) -> None:
        """Raise for the first row that nothing can be drawn from, unless such rows are marked."""
        if not self.marks:
            refuse_bad_rows(self.state == _BAD, self.shape)


def _as_rows(array: Array, shape: tuple[int, ...]) -> Array:
    """Return a broadcast array as a matrix, without a copy of its elements if possible."""
    return array.reshape(shape) if array.ndim != 1 else array[None]


def _counters(counters: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Return the number of each row."""
    array = as_input(counters, "counters", "pass its data")
    if array.dtype.kind not in "iu":
        # NumPy reads an empty list, and one of integers above 2**63 and others, as floats.
        wide = np.array(counters, object)
        if hasattr(counters, "dtype") or not all(type(i) is int for i in wide.flat):
            raise TypeError(f"counters must be integers, got dtype {array.dtype}")
        array = wide
    bad = (array < 0) | (array > _LARGEST_COUNTER)
    if bad.any():
        place = np.argwhere(bad)[0]
        raise ValueError(
            f"counters must be from 0 to 2**64 - 1, got {array[tuple(place)]}{at_place(place)}"
        )
    try:
        full = np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"counters of shape {array.shape} do not broadcast to one per row, {shape}"
        ) from None
    return full.astype(np.uint64).reshape(math.prod(shape))

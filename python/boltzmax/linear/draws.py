"""Arguments of losses that read some rows of a layer's weights: the layer, candidates, hits.

A *candidate* is a class that a sampler drew; a *hit*, a candidate that is the target of its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count, refuse_masked
from boltzmax._lib.numbers import numbers_of_shape, per_class, unmasked_ids
from boltzmax._lib.output_layer import is_plain
from boltzmax._lib.random import random_generator
from boltzmax.candidates.base import MOST_CLASSES
from boltzmax.linear.scores import check_layer, computed_dtype, matrix, recycled

Array = NDArray[Any]
Classes = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sampler(Protocol):
    """Draws classes, and knows how often it draws them."""

    def sample(
        self, n: int, *, rng: Any = None, hidden: ArrayLike | None = None
    ) -> tuple[Classes, Floats]:
        """Return `n` classes, and the logarithm of how often each is expected among them."""

    def log_expected_count(
        self, ids: ArrayLike, n: int, *, hidden: ArrayLike | None = None
    ) -> Floats:
        """Return the logarithm of how often each of `ids` is expected among `n` draws."""


@dataclass(frozen=True)
class Layer:
    """The checked hidden vectors, weights and biases of a layer."""

    hidden: Array  # (..., D)
    weight: Array  # (V, D)
    bias: Floats | None
    dtype: np.dtype[Any]  # of results

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return self.hidden.shape[:-1]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.weight)

    @property
    def width(self) -> int:
        """The number of features."""
        return int(self.weight.shape[1])

    def vectors(self, counted: NDArray[np.bool_]) -> Array:
        """Return the hidden vectors of the rows that count, as compiled code reads them."""
        x = self.hidden.reshape(len(counted), self.width)
        x = x if counted.all() else x[counted]
        return np.require(x, self.dtype, ("C", "A", "E"))

    def units(self, ids: Classes) -> Array:
        """Return the weights of some classes."""
        if not is_plain(self.weight, self.dtype):
            return np.ascontiguousarray(self.weight[ids].astype(self.dtype, copy=False))
        units = recycled((len(ids), self.width), self.dtype)
        _core.copy_rows(self.weight, ids, units)
        return units

    def unit_rows(self, ids: Classes) -> tuple[Array, Classes | None]:
        """Return a matrix with the weights of some classes, and where in it they are."""
        return (self.weight, ids) if is_plain(self.weight, self.dtype) else (self.units(ids), None)

    def biases(self, ids: Classes) -> Floats:
        """Return the biases of some classes, 0 without a bias."""
        return np.zeros(ids.shape) if self.bias is None else self.bias[ids]


def read_layer(hidden: ArrayLike, weight: ArrayLike, bias: ArrayLike | None) -> Layer:
    """Check hidden vectors, weights and biases; large arrays are not copied."""
    x, w = matrix(hidden, "hidden"), matrix(weight, "weight")
    check_layer(x.shape, w.shape)
    of_classes = None if bias is None else per_class(bias, len(w), "bias")
    return Layer(x, w, of_classes, computed_dtype(x, w))


class Draws(NamedTuple):
    """Candidates, and the logarithms of their expected counts, and of those of the targets.

    The candidates are those of all rows, (n,), or each row has its own, (N, n).
    """

    ids: Classes
    log_q: Floats
    of_target: Floats


class Wishes(NamedTuple):
    """Which logarithms of expected counts a loss needs."""

    log_q: bool = True
    of_target: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that may take the place of a sampler."""
        return ("ids", *("log_q",) * self.log_q, *("target_log_q",) * self.of_target)


def read_draws(
    sampler: Any, n: Any, rng: Any, layer: Layer, target: Classes, counted: Any, wishes: Wishes
) -> Draws:
    """Draw candidates for the rows that count, or check those that are given in a tuple."""
    given: tuple[Any, ...]
    if rng is not None:
        random_generator(rng)
    if hasattr(sampler, "sample") and not isinstance(sampler, type):
        x = layer.vectors(counted)
        given = _drawn(sampler, n, rng, layer.n_classes, x)
        if wishes.of_target:
            of_target = sampler.log_expected_count(target[counted], n, hidden=x) if len(x) else []
            given = (*given, of_target)
        shape: tuple[int, ...] = (len(x),)
        counted = np.ones(len(x), np.bool_)
    else:
        given, shape = _given(sampler, wishes), layer.rows
        if n is not None:
            raise TypeError("n is for a sampler; here the candidates are given")
    for part, name in zip(given, ("ids", "log_q", "target_log_q"), strict=False):
        refuse_masked(part, name)
    ids = _read_ids(given[0], layer.n_classes, shape)
    log_q, of_target = np.zeros(ids.shape), np.zeros(np.count_nonzero(counted))
    if wishes.log_q:
        log_q = numbers_of_shape(given[1], ids.shape, "log_q", "one number per candidate")
        _refuse_infinite(log_q)
    if wishes.of_target:
        of_target = numbers_of_shape(given[2], shape, "target_log_q", "one number per row")
        of_target = of_target.reshape(-1)[counted]
    if ids.ndim > 1:
        own = (len(counted), ids.shape[-1])
        ids, log_q = ids.reshape(own)[counted], log_q.reshape(own)[counted]
    return Draws(np.ascontiguousarray(ids, np.int64), log_q, of_target)


def _drawn(sampler: Any, n: Any, rng: Any, n_classes: int, x: Array) -> tuple[Any, Any]:
    """Return what a sampler draws for the hidden vectors `x`: nothing if there are none."""
    if n is None:
        raise TypeError("n, the number of candidates to draw, is missing")
    known = getattr(sampler, "n_classes", n_classes)
    if known != n_classes and known != MOST_CLASSES:  # which stands for any number
        raise ValueError(f"the sampler draws from {known} classes, but weight has {n_classes} rows")
    n = check_count(n, "n", 1)
    if not len(x):
        return np.zeros((0, n), np.int64), np.zeros((0, n))
    given = sampler.sample(n, rng=rng, hidden=x)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(f"sampler.sample must return (ids, log_q), got {named_kind(given)}")
    return given[0], given[1]


def _given(sampler: Any, wishes: Wishes) -> tuple[Any, ...]:
    """Return the arrays that take the place of a sampler, and perhaps more."""
    names = wishes.names
    if isinstance(sampler, tuple) and len(sampler) >= len(names):
        return sampler
    if len(names) == 1 and not isinstance(sampler, (tuple, type, NoneType)):
        return (sampler,)
    raise TypeError(
        f"sampler must be an object with a method `sample`, or the tuple ({', '.join(names)}), "
        f"got {named_kind(sampler)}"
    )


def named_kind(value: Any) -> str:
    """Return what `value` is, for messages about samplers."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _read_ids(given: ArrayLike, n_classes: int, rows: tuple[int, ...]) -> Array:
    """Return candidates of any integer dtype: one list, or one for each row."""
    ids = unmasked_ids(given, "ids")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got dtype {ids.dtype}")
    if ids.ndim == 0 or ids.shape[-1] == 0 or ids.shape[:-1] not in ((), rows):
        own = ", ".join(map(str, (*rows, "n")))
        raise ValueError(f"ids must be (n,) or ({own}) with n > 0, got shape {ids.shape}")
    bad = (ids < 0) | (ids >= n_classes)
    if bad.any():
        where = np.unravel_index(int(bad.argmax()), ids.shape)
        place = ", ".join(map(str, where))
        raise IndexError(f"ids[{place}] is {ids[where]}, out of range for {n_classes} classes")
    return ids


def _refuse_infinite(log_q: Floats) -> None:
    bad = ~np.isfinite(log_q)
    if bad.any():
        where = np.unravel_index(int(bad.argmax()), log_q.shape)
        place = ", ".join(map(str, where))
        raise ValueError(f"log_q must be finite, got log_q[{place}] = {log_q[where]}")


@dataclass(frozen=True)
class Hits:
    """Which candidates are targets: columns[start[r] : start[r + 1]] in row r."""

    start: Classes
    columns: Classes

    def of(self, rows: slice) -> tuple[Classes, Classes]:
        """Return the rows, counted from the first, and the columns of the hits in these rows."""
        ends = self.start[rows.start : rows.stop + 1]
        return np.repeat(np.arange(len(ends) - 1), np.diff(ends)), self.columns[ends[0] : ends[-1]]


def find_hits(ids: Classes, target: Classes) -> Hits:
    """Find the candidates, the same for all rows, that are the target of a row."""
    order = np.argsort(ids, kind="stable")
    first, last = (np.searchsorted(ids[order], target, side) for side in ("left", "right"))
    start = np.concatenate([[0], np.cumsum(last - first)])
    within = np.arange(start[-1]) - np.repeat(start[:-1] - first, last - first)
    return Hits(start, order[within])

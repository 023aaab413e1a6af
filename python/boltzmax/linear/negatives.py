"""Drawn classes as the negatives of all rows, and the gradients of their weights.

A *candidate* is a class that a sampler drew; a *hit*, a candidate that is the target of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count
from boltzmax._lib.numbers import numbers_of_shape, per_class, unmasked_ids
from boltzmax._lib.random import random_generator
from boltzmax.linear.scores import Scores, check_layer, computed_dtype, matrix

Array = NDArray[Any]
Classes = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sampler(Protocol):
    """Draws classes, and knows how often it draws them."""

    def sample(
        self,
        n: int,
        *,
        rng: Any = None,
        unique: bool = False,
        exclude: ArrayLike | None = None,
        hidden: ArrayLike | None = None,
    ) -> tuple[Classes, Floats]:
        """Return `n` classes, and the logarithm of how often each is expected among them."""

    def log_expected_count(
        self,
        ids: ArrayLike,
        n: int,
        *,
        unique: bool = False,
        exclude: ArrayLike | None = None,
        hidden: ArrayLike | None = None,
    ) -> Floats:
        """Return the logarithm of how often each of `ids` is expected among `n` draws."""


class SampledGradient(NamedTuple):
    """A loss and its gradients, with those of the weights for the classes that it has read.

    Attributes
    ----------
    loss : scalar
        The loss.
    d_hidden : ndarray, shape (..., D)
        The gradient with respect to `hidden`.
    unit_ids : ndarray of int64, shape (U,)
        The candidates and targets, in ascending order, each once.
    d_weight : ndarray, shape (U, D)
        The gradient with respect to the rows `unit_ids` of `weight`; it is zero in all others.
    d_bias : ndarray, shape (U,), or None
        The gradient with respect to these elements of `bias`, if there is one.
    """

    loss: Any
    d_hidden: Array
    unit_ids: Classes
    d_weight: Array
    d_bias: Array | None


class Layer(NamedTuple):
    """The checked arguments of a loss that reads some rows of `weight`."""

    hidden: Array  # (..., D)
    weight: Array  # (V, D)
    bias: Floats | None
    dtype: np.dtype[Any]  # of results

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return self.hidden.shape[:-1]

    def bias_of(self, ids: Classes) -> Floats:
        """Return the biases of some classes, 0 without a bias."""
        return np.zeros(len(ids)) if self.bias is None else self.bias[ids]


def read_layer(hidden: ArrayLike, weight: ArrayLike, bias: ArrayLike | None) -> Layer:
    """Check hidden vectors, weights and biases; nothing is copied."""
    x, w = matrix(hidden, "hidden"), matrix(weight, "weight")
    check_layer(x.shape, w.shape)
    of_classes = None if bias is None else per_class(bias, len(w), "bias")
    return Layer(x, w, of_classes, computed_dtype(x, w))


class Draws(NamedTuple):
    """Candidates, and the logarithms of their expected counts and of those of targets."""

    ids: Classes
    log_q: Floats
    of_target: Floats


def read_draws(
    sampler: Any, n: Any, rng: Any, layer: Layer, target: Classes | None, *, counts: bool = True
) -> Draws:
    """Draw candidates, or check those that are given as ``(ids, log_q)``.

    With `target` the expected counts of these classes are wanted, too: ``(ids, log_q,
    target_log_q)``. Without `counts` none are, and zeros take their place.
    """
    classes = len(layer.weight)
    if hasattr(sampler, "sample"):
        if n is None:
            raise TypeError("n, the number of candidates, is missing")
        n = check_count(n, "n", 1)
        ids, log_q = sampler.sample(n, rng=random_generator(rng), hidden=layer.hidden)
        given = (ids, log_q)
        if target is not None:
            given += (sampler.log_expected_count(target, n, hidden=layer.hidden),)
    else:
        given = _parts(sampler, target is not None, counts)
        if n is not None:
            raise TypeError("n is for samplers; here the candidates are given")
    ids = _candidates(given[0], classes)
    log_q, of_target = np.zeros(len(ids)), np.zeros(0)
    if counts:
        log_q = numbers_of_shape(given[1], ids.shape, "log_q", "one number per candidate")
        _refuse_infinite(log_q)
    if target is not None:
        of_target = numbers_of_shape(given[2], target.shape, "target_log_q", "one number per row")
    return Draws(ids, log_q, of_target)


def _parts(sampler: Any, of_target: bool, counts: bool) -> tuple[Any, ...]:
    """Return the arrays that take the place of a sampler."""
    names = ("ids", "log_q", "target_log_q")[: 1 + counts + of_target]
    if not counts and not isinstance(sampler, tuple):
        return (sampler,)
    if not isinstance(sampler, tuple) or len(sampler) < len(names):
        got = f"a tuple of {len(sampler)}" if isinstance(sampler, tuple) else repr(sampler)
        raise TypeError(
            f"sampler must be an object with a method sample, or the tuple ({', '.join(names)}), "
            f"got {got}"
        )
    return sampler


def _candidates(given: ArrayLike, classes: int) -> Classes:
    """Return candidates, one or more of any integer dtype."""
    ids = unmasked_ids(given, "ids")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got dtype {ids.dtype}")
    if ids.ndim != 1 or not len(ids):
        raise ValueError(f"ids must be (n,) with n > 0, got shape {ids.shape}")
    bad = (ids < 0) | (ids >= classes)
    if bad.any():
        first = int(bad.argmax())
        raise IndexError(f"ids[{first}] is {ids[first]}, out of range for {classes} classes")
    return ids.astype(np.int64, copy=False)


def _refuse_infinite(log_q: Floats) -> None:
    bad = ~np.isfinite(log_q)
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(f"log_q must be finite, got {log_q[first]} at position {first}")


@dataclass(frozen=True)
class Hits:
    """Which candidates are targets: columns[start[r] : start[r + 1]] in row r."""

    start: Classes
    columns: Classes

    def of(self, rows: slice) -> tuple[Classes, Classes]:
        """Return the rows, counted from the first, and the columns of hits in these rows."""
        ends = self.start[rows.start : rows.stop + 1]
        count = rows.stop - rows.start
        return np.repeat(np.arange(count), np.diff(ends)), self.columns[ends[0] : ends[-1]]


def find_hits(ids: Classes, target: Classes) -> Hits:
    """Find the candidates that are the target of their row."""
    order = np.argsort(ids, kind="stable")
    first, last = (np.searchsorted(ids[order], target, side) for side in ("left", "right"))
    start = np.concatenate([[0], np.cumsum(last - first)])
    within = np.arange(start[-1]) - np.repeat(start[:-1] - first, last - first)
    return Hits(start, order[within])


class Negatives(Scores):
    """The scores of the candidates, -inf where a hit is removed."""

    def __init__(self, x: Array, layer: Layer, ids: Classes, minus: Floats, hits: Hits | None):
        self._hits, self._rows = hits, slice(0, 0)
        super().__init__(x, layer.weight[ids].astype(layer.dtype, copy=False), None)
        bias = layer.bias_of(ids) - minus
        if bias.any():
            self.bias = bias.astype(self.dtype)

    def blocks(self) -> Any:
        """Yield blocks of rows, as `Scores` does."""
        for where, x in super().blocks():
            self._rows = where
            yield where, x

    def product(self, x: Array, tile: slice) -> Array:
        """Return the logits of rows `x` for the candidates of a tile."""
        logits = super().product(x, tile)
        if self._hits is not None:
            rows, columns = self._hits.of(self._rows)
            inside = (columns >= tile.start) & (columns < tile.stop)
            logits[rows[inside], columns[inside] - tile.start] = -np.inf
        return logits

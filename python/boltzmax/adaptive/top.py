"""The likeliest classes of an adaptive softmax, found without opening every tail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from boltzmax._lib.output_layer import Array, Classes
from boltzmax.adaptive.clusters import Clusters, Tail
from boltzmax.linear.queries import linear_topk

_BLOCK = 1 << 20  # most log-probabilities at a time of the rows that are sorted whole


class _Best:
    """The k likeliest classes of each row so far, equal ones by their numbers."""

    def __init__(self, rows: int, k: int, n_classes: int, least: float, dtype: Any) -> None:
        self._n_classes, self._least, self.k = n_classes, least, k
        # A class of n_classes stands for none.
        self.ids = np.full((rows, k), n_classes, np.int64)
        self.log_probs = np.full((rows, k), -np.inf, dtype)
        self.is_doubtful = np.zeros(rows, np.bool_)  # a class may be missing that ties with one
        self.has_nan = np.zeros(rows, np.bool_)
        # The least log-probability of those that were asked for: others may be equal to it.
        self._edges: list[tuple[Classes, Array]] = []
        self.opened = 0  # rows of tails that were computed

    def add(self, some: Classes, ids: Classes, log_probs: Array) -> None:
        """Add candidates for some rows."""
        self.has_nan[some] |= np.isnan(log_probs).any(axis=1)
        every = np.concatenate([self.ids[some], ids], axis=1)
        each = np.concatenate([self.log_probs[some], log_probs], axis=1)
        order = np.lexsort((every, -each), axis=1)[:, : self.k]
        self.ids[some] = np.take_along_axis(every, order, axis=1)
        self.log_probs[some] = np.take_along_axis(each, order, axis=1)

    def add_edge(self, some: Classes, log_probs: Array) -> None:
        """Note that unseen classes of these rows are at most this likely."""
        self._edges.append((some, log_probs))

    def bar(self) -> Array:
        """Return what a class has to reach to be among the best, or to be reported at all."""
        return np.maximum(self.log_probs[:, -1], self._least)

    def finish(self) -> None:
        """Find the rows in which an unseen class may be equal to the last one."""
        for some, log_probs in self._edges:
            self.is_doubtful[some] |= log_probs >= self.bar()[some]
        self.is_doubtful &= ~self.has_nan

    def doubtful_blocks(self) -> Iterator[Classes]:
        """Yield the rows in which equal classes may have been missed, in blocks."""
        rows = np.flatnonzero(self.is_doubtful)
        step = max(1, _BLOCK // self._n_classes)
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def decide(self, some: Classes, log_probs: Array) -> None:
        """Take the best of all classes of these rows."""
        self.ids[some], self.log_probs[some] = self._n_classes, -np.inf
        ids = np.broadcast_to(np.arange(self._n_classes), log_probs.shape)
        self.add(some, ids, log_probs)

    def result(self) -> tuple[Classes, Array]:
        """Return classes and log-probabilities, without those below the least."""
        is_found = (self.ids < self._n_classes) & (self.log_probs >= self._least)
        is_found &= ~self.has_nan[:, None]
        return np.where(is_found, self.ids, -1), np.where(
            is_found, self.log_probs, self.log_probs.dtype.type(-np.inf)
        )


def top_of_clusters(
    clusters: Clusters,
    tails: tuple[Tail, ...],
    x: Array,
    weight: Array,
    bias: Array | None,
    k: int,
    least: float,
) -> _Best:
    """Return the k likeliest classes of each row whose log-probability is at least `least`.

    Of the head, k units and one for each tail are enough: a tail below them is less likely than k
    classes. A tail is opened for the rows in which it is as likely as the k-th class so far.
    """
    best = _Best(len(x), k, clusters.n_classes, least, weight.dtype)
    every = np.arange(len(x))
    asked = min(k + clusters.n_tails + 1, clusters.n_units)
    units, log_probs = linear_topk(x, weight, asked, bias)
    is_class = units < clusters.shortlist
    ids = clusters.classes(np.where(is_class, units, 0))
    best.add(
        every,
        np.where(is_class, ids, clusters.n_classes),
        np.where(is_class | np.isnan(log_probs), log_probs, -np.inf).astype(weight.dtype),
    )
    is_ordered = clusters.order is None  # then equal classes come in the right order anyway
    if asked < clusters.n_units and not is_ordered:
        best.add_edge(every, log_probs[:, -1])
    for i, begin, end in clusters.tail_places():
        of_tail = np.where(units == clusters.shortlist + i, log_probs, -np.inf).max(axis=1)
        some = np.flatnonzero((of_tail >= best.bar()) & (of_tail > -np.inf))
        if not len(some):
            continue
        best.opened += len(some)
        tail, wanted = tails[i], min(k + 1, end - begin)
        h = x[some] @ tail.projection.T
        within, of_class = linear_topk(h, tail.weight, wanted, tail.bias)
        total = of_class + of_tail[some, None]
        best.add(some, clusters.classes(begin + within), total)
        if wanted < end - begin and not is_ordered:
            best.add_edge(some, total[:, -1])
    best.finish()
    return best

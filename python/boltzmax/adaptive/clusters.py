"""The clusters of an adaptive softmax: its tails, and which of them a target concerns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax._lib.targets import NO_CLASS, Wanted, read_targets

Counted: TypeAlias = NDArray[np.bool_]

IGNORED = -100  # in the targets of head and tails: what linear losses and queries leave out
_BLOCK = 1 << 22  # numbers of class probabilities that are sorted into clusters at a time


class Tail:
    """A cluster of rarer classes, whose scores come from projected, shorter vectors.

    Attributes
    ----------
    projection : ndarray, shape (width, D)
        Maps hidden vectors to those of the tail.
    weight : ndarray, shape (n, width)
        A row for each class of the tail.
    bias : ndarray, shape (n,), or None
    """

    def __init__(self, projection: Array, weight: Array, bias: Array | None) -> None:
        self.projection, self.weight, self.bias = projection, weight, bias
        # Adagrad's sums for the rows of the projection and of the weights, once it is used.
        self.squares: tuple[Doubles, Doubles] | None = None

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays that training changes, by name."""
        arrays = {"projection": self.projection, "weight": self.weight, "bias": self.bias}
        return {name: array for name, array in arrays.items() if array is not None}

    def arrays(self) -> dict[str, Array]:
        """Return everything that a file holds, by name."""
        if self.squares is None:
            return self.parameters
        names = ("projection_squares", "squares")
        return self.parameters | dict(zip(names, self.squares, strict=True))

    def sums_of_squares(self) -> tuple[Doubles, Doubles]:
        """Return Adagrad's sums of squares for the rows of the projection and of the weights."""
        return self.squares or (np.zeros(len(self.projection)), np.zeros(len(self.weight)))

    def __repr__(self) -> str:
        return f"Tail({len(self.weight)} classes, width {len(self.projection)})"


class TailGradient(NamedTuple):
    """The gradients with respect to the arrays of a tail."""

    d_projection: Array
    d_weight: Array
    d_bias: Array | None


class AdaptiveGradient(NamedTuple):
    """A loss and its gradients: of every unit of the head, and of the tails that were opened."""

    loss: float
    d_hidden: Array
    d_weight: Array
    d_bias: Array | None
    tails: tuple[TailGradient | None, ...]

    @property
    def unit_ids(self) -> slice:
        """The units of the head that `d_weight` and `d_bias` belong to: all."""
        return slice(None)


class Clusters:
    """Which classes are in the head and in each tail.

    Inside, classes are numbered from the most frequent one on: `order[i]` is the class in place i.
    """

    def __init__(self, n_classes: int, cutoffs: tuple[int, ...], order: Classes | None) -> None:
        self.n_classes, self.cutoffs, self.order = n_classes, cutoffs, order
        self.bounds = (*cutoffs, n_classes)
        self.place: Classes | None = None
        if order is not None:
            self.place = np.empty_like(order)
            self.place[order] = np.arange(n_classes)

    @property
    def n_tails(self) -> int:
        """The number of tails."""
        return len(self.cutoffs)

    @property
    def shortlist(self) -> int:
        """The number of classes that are units of the head."""
        return self.bounds[0]

    @property
    def n_units(self) -> int:
        """The number of units of the head: its classes and the tails."""
        return self.shortlist + self.n_tails

    def places(self, classes: Classes) -> Classes:
        """Return the places of classes."""
        return classes if self.place is None else self.place[classes]

    def classes(self, places: Classes) -> Classes:
        """Return the classes at places; -1 stays."""
        if self.order is None:
            return places
        return np.where(places < 0, -1, self.order[places])

    def columns(self, begin: int, end: int) -> slice | Classes:
        """Return the classes at neighbouring places, as an index."""
        return slice(begin, end) if self.order is None else self.order[begin:end]

    def tail_places(self) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each tail, its first place, and the place after its last."""
        for tail, (begin, end) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
            yield tail, begin, end


class Clustered:
    """What layers of clusters say about their classes."""

    _clusters: Clusters

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return self._clusters.n_classes

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """Where the tails begin, in the order of frequency."""
        return self._clusters.cutoffs

    @property
    def order(self) -> Classes | None:
        """The classes in the order of their frequency; None if that is that of their numbers."""
        return None if self._clusters.order is None else self._clusters.order.copy()


class TailTarget(NamedTuple):
    """Targets within a tail, for the rows that have any."""

    tail: int
    rows: Classes
    target: Array  # classes of the tail, or probabilities


class Route(NamedTuple):
    """Targets of some rows: units of the head, and classes within tails."""

    rows: slice
    head: Array
    tails: list[TailTarget]


@dataclass(frozen=True)
class Targets:
    """One class for each row, by its place, or class probabilities."""

    clusters: Clusters
    given: Array
    counted: Counted

    @property
    def are_soft(self) -> bool:
        """Whether there are probabilities."""
        return self.given.ndim == 2

    def routes(self) -> Iterator[Route]:
        """Yield the targets of head and tails: those of all rows together, if they are classes."""
        if not self.are_soft:
            yield self._hard()
            return
        step = max(1, _BLOCK // self.clusters.n_classes)
        for start in range(0, len(self.given), step):
            yield self._soft(slice(start, min(start + step, len(self.given))))

    def _hard(self) -> Route:
        places = np.where(self.counted, self.clusters.places(self.given), IGNORED)
        head, tails = places.copy(), []
        for tail, begin, end in self.clusters.tail_places():
            rows = np.flatnonzero((places >= begin) & (places < end))
            if len(rows):
                tails.append(TailTarget(tail, rows, places[rows] - begin))
                head[rows] = self.clusters.shortlist + tail
        return Route(slice(0, len(head)), head, tails)

    def _soft(self, rows: slice) -> Route:
        q, clusters = self.given[rows], self.clusters
        head = np.empty((len(q), clusters.n_units), np.promote_types(q.dtype, np.float32))
        head[:, : clusters.shortlist] = q[:, clusters.columns(0, clusters.shortlist)]
        tails = []
        for tail, begin, end in clusters.tail_places():
            of_tail = q[:, clusters.columns(begin, end)]
            mass = of_tail.sum(axis=1, dtype=np.float64)
            head[:, clusters.shortlist + tail] = mass
            some = np.flatnonzero((of_tail != 0).any(axis=1))
            if len(some):
                tails.append(TailTarget(tail, some, of_tail[some]))
        return Route(rows, head, tails)


def read_layer_targets(
    target: ArrayLike, rows: int, clusters: Clusters, ignore_index: int | None
) -> Targets:
    """Return one class for each row, or class probabilities, (rows, n_classes)."""
    may_be_soft = len(getattr(target, "shape", ())) == 2 or (
        isinstance(target, (list, tuple))
        and len(target) > 0
        and isinstance(target[0], (list, tuple, np.ndarray))
    )
    wanted = Wanted((rows,), clusters.n_classes, probabilities=may_be_soft)
    given, counted = read_targets(
        target, wanted, NO_CLASS if ignore_index is None else ignore_index
    )
    return Targets(clusters, given, counted)


def starting_tail(
    n: int, width: int, n_features: int, dtype: np.dtype[Any], rng: np.random.Generator | None
) -> Tail:
    """Return a tail without biases.

    Its projection is random even without a generator: were both matrices zero, so would be the
    gradients of both, and the tail would never learn.
    """
    kind = np.float32 if dtype == np.float32 else np.float64
    projection = (rng or np.random.default_rng(0)).standard_normal((width, n_features), kind)
    projection /= math.sqrt(n_features)
    if rng is None:
        return Tail(projection, np.zeros((n, width), dtype), None)
    weight = rng.standard_normal((n, width), kind)
    weight /= math.sqrt(width)
    return Tail(projection, weight, None)


def clusters_from_arrays(arrays: dict[str, Array], shape: tuple[int, ...]) -> Clusters:
    """Return the clusters of a file; raise if none are valid, or fit weights of this shape."""
    bounds, order = arrays.get("bounds"), arrays.get("order")
    if bounds is None or bounds.ndim != 1 or bounds.dtype != np.int64 or not len(bounds):
        raise ValueError("not a layer: no bounds of clusters")
    if bounds[0] < 1 or (np.diff(bounds) < 1).any():
        raise ValueError("not a layer: its bounds do not increase from 1")
    n, n_units = int(bounds[-1]), int(bounds[0]) + len(bounds) - 1
    if shape[0] != n_units:
        raise ValueError(f"not a layer: weights of shape {shape} do not fit the clusters")
    if order is not None:
        is_integral = order.dtype.kind in "iu" and order.shape == (n,)
        if not is_integral or not (np.sort(order) == np.arange(n)).all():
            raise ValueError(f"not a layer: its order does not have each of {n} classes once")
        order = order.astype(np.int64)
    return Clusters(n, tuple(int(bound) for bound in bounds[:-1]), order)


def tail_from_arrays(
    arrays: dict[str, Array], prefix: str, n: int, n_features: int, dtype: np.dtype[Any]
) -> Tail:
    """Return a tail of a file, copied; raise unless its arrays match."""
    projection = arrays.get(f"{prefix}projection", np.empty(0))
    width = len(projection) if projection.ndim else 0
    wanted = {
        "projection": ((width, n_features), dtype),
        "weight": ((n, width), dtype),
        "bias": ((n,), dtype),
        "projection_squares": ((width,), np.dtype(np.float64)),
        "squares": ((n,), np.dtype(np.float64)),
    }
    found: dict[str, Array] = {}
    for name, (shape, kind) in wanted.items():
        array = arrays.get(prefix + name)
        if array is not None:
            if array.shape != shape or array.dtype != kind or not width:
                raise ValueError(
                    f"not a layer: {prefix}{name} does not fit the clusters: it is {array.dtype} "
                    f"of shape {array.shape}, not {kind} of shape {shape}"
                )
            found[name] = np.array(array, order="C")
    if not {"projection", "weight"} <= found.keys():
        raise ValueError(f"not a layer: {prefix}projection and {prefix}weight are needed")
    tail = Tail(found["projection"], found["weight"], found.get("bias"))
    if "squares" in found and "projection_squares" in found:
        tail.squares = found["projection_squares"], found["squares"]
        if any((squares < 0).any() for squares in tail.squares):
            raise ValueError("Adagrad's sums of squares must not be negative")
    return tail

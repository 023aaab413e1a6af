"""Adaptive softmax with weights of few bits, which answers but does not learn."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from boltzmax import _core
from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.bad_rows import are_marked, refuse_bad_rows
from boltzmax._lib.files import FileName
from boltzmax._lib.mapped import map_npz, write_mapped
from boltzmax._lib.output_layer import (
    Array,
    Classes,
    read_hidden,
    read_min_prob,
    read_sample_weight,
)
from boltzmax._lib.random import random_generator
from boltzmax._lib.read_only import ReadOnlyLayer
from boltzmax.adaptive.clusters import (
    Clustered,
    Clusters,
    Tail,
    Targets,
    clusters_from_arrays,
    read_layer_targets,
)
from boltzmax.adaptive.gradients import Weights, reduced_loss
from boltzmax.adaptive.top import top_of_clusters
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.linear.queries import linear_log_prob, sample_at
from boltzmax.losses.reduction import checked_reduction

_KIND = "boltzmax quantised adaptive softmax, version 1"


class QuantizedTail(NamedTuple):
    """A cluster of rarer classes: a projection (width, D), and its classes in few bits."""

    projection: Array
    linear: QuantizedLinear


class QuantizedAdaptiveSoftmax(Clustered, ReadOnlyLayer):
    """An adaptive softmax whose weights have few bits: what `AdaptiveSoftmax.quantize` returns.

    It has the methods of that layer, except those for PyTorch; those that train raise a TypeError.
    The projections of the tails keep their bits. Weights are decoded for the call alone: those of
    the head, and in `log_prob` and `sample` those of the tails that a target or a draw is in; else
    all.

    Parameters
    ----------
    clusters : Clusters
        The cutoffs and the order of the classes.
    head : QuantizedLinear
        The classes of the head, then a unit for each tail.
    tails : tuple of (projection, linear)
        The projection of each tail, and its classes.
    dtype : {float32, float64}
        The dtype of hidden vectors and results.

    Attributes
    ----------
    head, tails
        As given.
    n_classes, n_features, nbytes : int
    cutoffs : tuple of int
    order : ndarray of int64, shape (V,), or None
        As in `AdaptiveSoftmax`.
    dtype : numpy.dtype
        Of hidden vectors and results.

    Examples
    --------
    >>> import numpy as np, boltzmax
    >>> layer = boltzmax.AdaptiveSoftmax(64, 1000, cutoffs=[100], seed=0)
    >>> small = layer.quantize(8)
    >>> hidden = np.ones((2, 64))
    >>> bool(abs(small.loss(hidden, [3, 400]) - layer.loss(hidden, [3, 400])) < 0.05)
    True
    """

    def __init__(
        self,
        clusters: Clusters,
        head: QuantizedLinear,
        tails: tuple[QuantizedTail, ...],
        dtype: DTypeLike = np.float32,
    ) -> None:
        self._clusters, self.head, self.tails = clusters, head, tails
        self.n_features, self.dtype = head.n_features, np.dtype(dtype)

    @property
    def nbytes(self) -> int:
        """The bytes of weights, projections, biases and bounds."""
        return self.head.nbytes + sum(t.projection.nbytes + t.linear.nbytes for t in self.tails)

    def _log_prob(self, x: Array, classes: Classes) -> Array:
        counted = np.ones(len(x), np.bool_)
        (route,) = Targets(self._clusters, classes, counted).routes()
        weight, bias = self._decoded(self.head)
        found = linear_log_prob(x, weight, route.head, bias)
        for i, some, within in route.tails:
            projection, linear = self.tails[i]
            weight, bias = self._decoded(linear)
            found[some] += linear_log_prob(x[some] @ projection.T, weight, within, bias)
        return found

    @quietly
    def loss(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> Any:
        """Return the loss of all rows; see `AdaptiveSoftmax.loss`."""
        how, x = checked_reduction(reduction), read_hidden(hidden, self.n_features, self.dtype)
        targets = read_layer_targets(target, len(x), self._clusters, ignore_index)
        of_row = read_sample_weight(sample_weight, len(x))
        weights = Weights(*self._decoded(self.head), self._decoded_tails())
        return reduced_loss(weights, x, targets, of_row, how)

    @quietly
    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes)."""
        x, is_bad = self._finite(hidden)
        log_probs = self._log_prob_all(x)
        log_probs[is_bad] = np.nan
        return log_probs

    def _log_prob_all(self, x: Array) -> Array:
        clusters = self._clusters
        head = self._log_softmax(x, self.head)
        found = np.empty((len(x), clusters.n_classes), self.dtype)
        found[:, clusters.columns(0, clusters.shortlist)] = head[:, : clusters.shortlist]
        for i, begin, end in clusters.tail_places():
            projection, linear = self.tails[i]
            within = self._log_softmax(x @ projection.T, linear)
            unit = clusters.shortlist + i
            found[:, clusters.columns(begin, end)] = within + head[:, unit : unit + 1]
        return found

    def _log_softmax(self, x: Array, linear: QuantizedLinear) -> Array:
        weight, bias = self._decoded(linear)
        scores = x @ weight.T + bias
        return _core.log_softmax(scores, -1, out=scores)

    def _decoded(self, linear: QuantizedLinear) -> tuple[Array, Array]:
        bias = linear._bias[: linear.n_classes]
        return linear.dequantize().astype(self.dtype, copy=False), bias.astype(self.dtype)

    def _decoded_tails(self) -> tuple[Tail, ...]:
        return tuple(Tail(t.projection, *self._decoded(t.linear)) for t in self.tails)

    @quietly
    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        See `AdaptiveSoftmax.topk`.
        """
        count, least = check_count(k, "k", 1, self.n_classes), read_min_prob(min_prob)
        x, is_bad = self._finite(hidden)
        head, tails = self._decoded(self.head), self._decoded_tails()
        found = top_of_clusters(self._clusters, tails, x, *head, count, least)
        for some in found.doubtful_blocks():
            found.decide(some, self._log_prob_all(x[some]))
        ids, log_probs = found.result()
        ids[is_bad], log_probs[is_bad] = -1, -np.inf
        return ids, log_probs

    @quietly
    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        """Draw a class for each row, (N,).

        A row that is not finite is a ValueError that names it, or, with errors="mark", has the
        class -1.
        """
        marks, clusters = are_marked(errors), self._clusters
        x, is_bad = self._finite(hidden)
        levels = random_generator(rng).random((2, len(x)))
        units = sample_at(x, *self._decoded(self.head), levels[0])
        places = units.copy()
        for i, begin, _ in clusters.tail_places():
            some = np.flatnonzero(units == clusters.shortlist + i)
            if len(some):
                projection, linear = self.tails[i]
                h = x[some] @ projection.T
                within = sample_at(h, *self._decoded(linear), levels[1, some])
                places[some] = np.where(within < 0, -1, begin + within)
        places[is_bad] = -1
        if not marks:
            refuse_bad_rows(places < 0, places.shape)
        return clusters.classes(places)

    # ---- files ----

    def save(self, path: FileName) -> None:
        """Write the layer to one file, which appears only when complete."""
        arrays = {"dtype": np.zeros(0, self.dtype), "bounds": np.array(self._clusters.bounds)}
        if self._clusters.order is not None:
            arrays["order"] = self._clusters.order
        arrays |= {f"head_{name}": array for name, array in self.head._arrays().items()}
        for i, (projection, linear) in enumerate(self.tails):
            arrays[f"projection{i}"] = projection
            arrays |= {f"tail{i}_{name}": array for name, array in linear._arrays().items()}
        write_mapped(path, _KIND, arrays)

    @classmethod
    def load(cls, path: FileName, *, verify: bool = True) -> Self:
        """Map what `save` wrote into memory, read-only.

        See `QuantizedLinear.load`, also for the errors.
        """
        layer: Self = map_npz(path, _KIND, lambda arrays: cls._read(arrays, verify), verify=verify)
        return layer

    @classmethod
    def _read(cls, arrays: dict[str, Array], verify: bool) -> Self:
        def linear(prefix: str) -> QuantizedLinear:
            n = len(prefix)
            own = {name[n:]: array for name, array in arrays.items() if name.startswith(prefix)}
            return QuantizedLinear._from_arrays(own, verify)

        head, dtype = linear("head_"), arrays["dtype"].dtype
        clusters = clusters_from_arrays(arrays, (head.n_classes, head.n_features))
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"not a layer: its dtype is {dtype}")
        tails = []
        for i, begin, end in clusters.tail_places():
            projection, of_tail = arrays[f"projection{i}"], linear(f"tail{i}_")
            wanted = (of_tail.n_features, head.n_features), dtype
            fits = of_tail.n_classes == end - begin
            if not fits or (projection.shape, projection.dtype) != wanted:
                raise ValueError(f"not a layer: tail {i} does not fit the clusters")
            if verify and not np.isfinite(projection).all():
                raise ValueError(f"not a layer: projection{i} is not finite")
            tails.append(QuantizedTail(projection, of_tail))
        return cls(clusters, head, tuple(tails), dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._clusters, self.head, self.tails, self.dtype)

    def __repr__(self) -> str:
        sizes = f"{self.n_features}, {self.n_classes}, cutoffs={list(self.cutoffs)}"
        return f"QuantizedAdaptiveSoftmax({sizes}, head={self.head!r}, dtype={self.dtype})"

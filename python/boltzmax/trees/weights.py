"""The weights of a layer on a tree, and the compiled functions on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count
from boltzmax._lib.output_layer import Array, Classes, Doubles


class SparseGradient(NamedTuple):
    """A loss and its gradients; those of the weights only for the units involved."""

    loss: float
    d_hidden: Array
    unit_ids: Classes
    d_weight: Array
    d_bias: Array | None


class TopClasses(NamedTuple):
    """The likeliest classes of each row, and how many nodes were visited to find them."""

    ids: Classes
    log_probs: Array
    visited: Classes

    def pair(self) -> tuple[Classes, Array]:
        """Return ids and log-probabilities only."""
        return self.ids, self.log_probs


def read_beam(beam: int | None, n_nodes: int) -> int:
    """Return how many nodes of each level a search follows; 0 for no limit."""
    return 0 if beam is None else min(check_count(beam, "beam", 1), n_nodes)


class TreeWeights(NamedTuple):
    """Weights of the units at the nodes of a tree; all have been checked."""

    tree: Any  # its handle
    weight: Array
    bias: Array | None

    def log_prob(self, x: Array, classes: Classes, dtype: DTypeLike) -> Array:
        """Return log p(class) of every row, in one of the two dtypes."""
        out = np.empty(len(x), dtype)
        _core.layer_log_prob(*self, x, classes, out)
        return out

    def log_prob_of_nodes(self, x: Array, n_nodes: int) -> Array:
        """Return the log-probabilities of the first nodes, (N, n_nodes)."""
        out = np.empty((len(x), n_nodes), x.dtype)
        _core.layer_log_prob_of_nodes(*self, x, out)
        return out

    def loss_with_grad(
        self, x: Array, classes: Classes, sample_weight: Doubles, scale: Doubles
    ) -> SparseGradient:
        """Return the mean loss, and the gradients of the scaled sum of losses."""
        units = _core.touched_units(self.tree, classes)
        each, d_hidden = np.empty(len(x)), np.empty_like(x)
        d_weight = np.zeros((len(units), self.weight.shape[1]), self.weight.dtype)
        d_bias = None if self.bias is None else np.zeros(len(units), self.weight.dtype)
        _core.layer_loss_gradient(*self, x, classes, scale, each, d_hidden, units, d_weight, d_bias)
        loss = _core.mean_loss(each, sample_weight)
        return SparseGradient(loss, d_hidden, units, d_weight, d_bias)

    def top(self, x: Array, count: int, beam: int, min_log_prob: float) -> TopClasses:
        """Return the likeliest classes; a `beam` of 0 means no limit."""
        ids = np.empty((len(x), count), np.int64)
        log_probs = np.empty((len(x), count), x.dtype)
        visited = np.empty(len(x), np.int64)
        _core.layer_topk(*self, x, count, beam, min_log_prob, ids, log_probs, visited)
        return TopClasses(ids, log_probs, visited)

    def sure_nodes(self, x: Array, min_log_prob: float) -> tuple[Classes, Array]:
        """Return the deepest node of each row that is likely enough, and its log-probability."""
        nodes, log_probs = np.empty(len(x), np.int64), np.empty(len(x), x.dtype)
        _core.layer_sure_nodes(*self, x, min_log_prob, nodes, log_probs)
        return nodes, log_probs

    def sample(self, x: Array, seeds: NDArray[np.uint64]) -> Classes:
        """Draw a class for each row; -1 where a choice has no probabilities."""
        out = np.empty(len(x), np.int64)
        _core.layer_sample(*self, x, seeds, out)
        return out

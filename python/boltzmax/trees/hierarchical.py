"""Hierarchical softmax: a layer whose cost grows with the logarithm of the number of classes."""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax.trees.training import DescendingLayer
from boltzmax.trees.weights import Array


class SparseGradient(NamedTuple):
    """A loss and its gradients; those of the weights only for units that took part."""

    loss: float
    d_hidden: Array
    unit_ids: NDArray[np.int64]
    d_weight: Array
    d_bias: Array | None


class TopClasses(NamedTuple):
    """The likeliest classes of each row, and how many nodes were looked at to find them."""

    ids: NDArray[np.int64]
    log_probs: Array
    visited: NDArray[np.int64]

    def pair(self) -> tuple[NDArray[np.int64], Array]:
        """Return ids and log-probabilities alone."""
        return self.ids, self.log_probs


class HierarchicalSoftmax(DescendingLayer):
    """A softmax over the leaves of a tree.

    The probability of a class is the product of the choices on the way to its leaf::

        p(c | h) = prod over inner nodes v above c of p(child on the way | v, h)

    A node of two children takes the first with probability sigma(w . h + b); one of more chooses by
    the softmax of a score w_j . h + b_j for each child. The probabilities of the classes add up to
    1, and a class costs its depth rather than the number of classes (Morin & Bengio, AISTATS 2005;
    Mnih & Hinton, NIPS 2008).

    Parameters
    ----------
    tree : Tree
        The classes.
    n_features : int
        The length D of a hidden vector.
    bias : bool, default True
        Whether units have a bias.
    dtype : {float32, float64}
        Of the weights, the hidden vectors and the results.
    seed : int or numpy.random.Generator, optional
        Weights begin normal with the standard deviation 1 / sqrt(D) if it is given, else at zero:
        then every choice is even, and learning begins at once, as the hidden vectors differ.

    Attributes
    ----------
    tree, n_features, dtype
        As given.
    weight : ndarray, shape (tree.n_units, D)
        May be written to.
    bias : ndarray, shape (tree.n_units,), or None

    Notes
    -----
    ``hidden`` is (N, D) in all methods and converted to `dtype` if need be. Scores are rounded as
    `dtype`; what is made of them is computed in double precision and rounded once (in steps of a
    float32 layer, in float32). Results are the
    same bits in any batch and for any number of threads. NaN in a row makes its probabilities NaN,
    and it has no top classes.

    Examples
    --------
    >>> import numpy as np, boltzmax
    >>> layer = boltzmax.HierarchicalSoftmax(boltzmax.Tree.huffman([4, 2, 1, 1]), 3)
    >>> layer.log_prob_all(np.zeros((1, 3)))
    array([[-0.6931472, -1.3862944, -2.0794415, -2.0794415]], dtype=float32)
    """

    # ---- probabilities ----

    def log_prob(self, hidden: ArrayLike, target: ArrayLike) -> Array:
        """Return log p(target) of every row.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
            A class for each row.

        Returns
        -------
        ndarray of `dtype`, shape (N,)

        Raises
        ------
        IndexError
            For a target that is not a class; it names the first.
        """
        found = _core.try_log_prob(self, hidden, target)
        if found is not None:
            return found
        x = self._hidden(hidden)
        out = np.empty(len(x), self.dtype)
        _core.layer_log_prob(*self._layer(), x, self._target(target, len(x)), out)
        return out

    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes): linear in their number."""
        return self._log_prob_of(hidden, self.tree.n_classes)

    def node_log_prob(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every node, (N, n_nodes): that of the leaves below it."""
        return self._log_prob_of(hidden, self.tree.n_nodes)

    def _log_prob_of(self, hidden: ArrayLike, nodes: int) -> Array:
        x = self._hidden(hidden)
        out = np.empty((len(x), nodes), self.dtype)
        _core.layer_log_prob_of_nodes(*self._layer(), x, out)
        return out

    # ---- learning ----

    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean of -log p(target), weighted by `sample_weight`; nan without a row."""
        x = self._hidden(hidden)
        each = np.empty(len(x))
        _core.layer_log_prob(*self._layer(), x, self._target(target, len(x)), each)
        return _core.mean_loss(-each, self._scale(sample_weight, len(x)))

    def loss_with_grad(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> SparseGradient:
        """Return the loss and its gradients.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
        sample_weight : array_like, shape (N,), optional

        Returns
        -------
        loss : float
            As from `loss`.
        d_hidden : ndarray, shape (N, D)
        unit_ids : ndarray of int64, shape (U,)
            The units on the way to a target, ascending; the gradient of all others is zero.
        d_weight : ndarray, shape (U, D)
        d_bias : ndarray, shape (U,), or None
        """
        x = self._hidden(hidden)
        classes = self._target(target, len(x))
        weights = self._scale(sample_weight, len(x))
        with np.errstate(all="ignore"):
            scale = weights / weights.sum()
        each, d_hidden, units, d_weight, d_bias = self._gradient(x, classes, scale)
        return SparseGradient(_core.mean_loss(each, weights), d_hidden, units, d_weight, d_bias)

    # ---- questions ----

    def topk(
        self,
        hidden: ArrayLike,
        k: int,
        *,
        beam: int | None = None,
        min_prob: float = 0.0,
    ) -> tuple[NDArray[np.int64], Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        Exact unless `beam` is given: nodes are opened from the likeliest on, a few at a time, and
        a node that is less likely than the k-th class found hides no better one. On peaked
        distributions few nodes are opened; on flat ones nearly all.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        k : int
            From 1 to the number of classes.
        beam : int, optional
            Follow only this many nodes of each level: faster, may miss classes.
        min_prob : float, default 0.0
            Leave out classes of a lower probability.

        Returns
        -------
        ids : ndarray of int64, shape (N, k)
            The likeliest first, of equal ones the lower class; -1 where there are no more.
        log_probs : ndarray of `dtype`, shape (N, k)
            Those of `log_prob_all`, bit for bit; -inf where there are no more.

        See Also
        --------
        topk_visited : also tells how many nodes were looked at.
        """
        return self.topk_visited(hidden, k, beam=beam, min_prob=min_prob).pair()

    def topk_visited(
        self,
        hidden: ArrayLike,
        k: int,
        *,
        beam: int | None = None,
        min_prob: float = 0.0,
    ) -> TopClasses:
        """Return what `topk` does, and how many nodes it looked at for each row."""
        found = _core.try_topk(self, hidden, k, beam, min_prob)
        if found is not None:
            return TopClasses(*found)
        count = operator.index(k)
        if not 1 <= count <= self.tree.n_classes:
            raise ValueError(f"k must be from 1 to {self.tree.n_classes}, got {k}")
        width = 0 if beam is None else operator.index(beam)
        if beam is not None and width < 1:
            raise ValueError(f"beam must be at least 1, got {beam}")
        width = min(width, self.tree.n_nodes)
        x = self._hidden(hidden)
        ids = np.empty((len(x), count), np.int64)
        log_probs = np.empty((len(x), count), self.dtype)
        visited = np.empty(len(x), np.int64)
        least = _log_of_probability(min_prob)
        _core.layer_topk(*self._layer(), x, count, width, least, ids, log_probs, visited)
        return TopClasses(ids, log_probs, visited)

    def predict(self, hidden: ArrayLike) -> NDArray[np.int64]:
        """Return the likeliest class of each row, (N,); -1 for a row with NaN."""
        return self.topk(hidden, 1)[0][:, 0]

    def predict_node(
        self, hidden: ArrayLike, min_prob: float = 0.9
    ) -> tuple[NDArray[np.int64], Array]:
        """Return the deepest node that is sure enough: a class, or one of its ancestors.

        From the root, the likeliest child is followed as long as its probability (of all below it
        together) is at least `min_prob`. Above 1/2 no other node as deep is so likely.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        min_prob : float, default 0.9
            From 0 to 1.

        Returns
        -------
        nodes : ndarray of int64, shape (N,)
            Numbers below `tree.n_classes` are classes, others inner nodes.
        log_probs : ndarray of `dtype`, shape (N,)
        """
        x = self._hidden(hidden)
        nodes, log_probs = np.empty(len(x), np.int64), np.empty(len(x), self.dtype)
        least = _log_of_probability(min_prob)
        _core.layer_sure_nodes(*self._layer(), x, least, nodes, log_probs)
        return nodes, log_probs

    def sample(
        self, hidden: ArrayLike, rng: int | np.random.Generator | None = None
    ) -> NDArray[np.int64]:
        """Draw a class for each row, (N,), in time proportional to its depth."""
        x = self._hidden(hidden)
        seeds = np.random.default_rng(rng).integers(2**64, size=len(x), dtype=np.uint64)
        out = np.empty(len(x), np.int64)
        _core.layer_sample(*self._layer(), x, seeds, out)
        return out


def _log_of_probability(p: float) -> float:
    value = float(p)
    if not 0 <= value <= 1:
        raise ValueError(f"min_prob must be from 0 to 1, got {p}")
    return math.log(value) if value > 0 else -math.inf

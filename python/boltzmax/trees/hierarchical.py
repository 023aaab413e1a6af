"""Hierarchical softmax: a layer whose cost grows with the logarithm of the number of classes."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count
from boltzmax._lib.bad_rows import are_marked, refuse_bad_rows
from boltzmax._lib.numbers import check_number
from boltzmax._lib.output_layer import (
    Array,
    Doubles,
    read_min_prob,
    read_rate,
    read_sample_weight,
)
from boltzmax._lib.random import random_generator
from boltzmax._lib.unit_layer import UnitLayer
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.trees import training
from boltzmax.trees.quantised_layer import QuantizedHierarchicalSoftmax
from boltzmax.trees.tree import Tree
from boltzmax.trees.weights import SparseGradient, TopClasses, TreeWeights, read_beam


class HierarchicalSoftmax(UnitLayer):
    """A softmax over the leaves of a tree.

    The probability of a class is the product of the choices on the path to its leaf::

        p(c | h) = prod over inner nodes v above c of p(child on the path | v, h)

    A node with two children takes the first with probability sigma(w . h + b); one with more uses
    the softmax of a score w_j . h + b_j for each child. The probabilities of the classes sum to 1,
    and the cost of a class is its depth rather than the number of classes (Morin & Bengio, AISTATS
    2005; Mnih & Hinton, NIPS 2008).

    Parameters
    ----------
    tree : Tree
        The classes.
    n_features : int
        The length D of a hidden vector.
    bias : bool, default True
        Whether units have a bias.
    dtype : {float32, float64}
        The dtype of the weights, the hidden vectors and the results.
    seed : int or numpy.random.Generator, optional
        If given, weights start normally distributed with standard deviation 1 / sqrt(D); else at
        zero: then every choice is even, and training breaks the symmetry, as hidden vectors differ.

    Attributes
    ----------
    tree, n_features, dtype, n_classes
        As given; the number of classes is the tree's.
    weight : ndarray, shape (tree.n_units, D)
        Writable.
    bias : ndarray, shape (tree.n_units,), or None

    Notes
    -----
    ``hidden`` is (N, D) in all methods and converted to `dtype` if necessary. Scores are rounded to
    `dtype`; everything after that is computed in double precision and rounded once (in training
    steps of a float32 layer, in float32). The bits of results do not depend on the batch or the
    number of threads. NaN in a row makes its probabilities NaN, and it has no top classes.

    Examples
    --------
    >>> import numpy as np, boltzmax
    >>> layer = boltzmax.HierarchicalSoftmax(boltzmax.Tree.huffman([4, 2, 1, 1]), 3)
    >>> layer.log_prob_all(np.zeros((1, 3)))
    array([[-0.6931472, -1.3862944, -2.0794415, -2.0794415]], dtype=float32)
    """

    _kind = "boltzmax hierarchical softmax, version 1"
    _frame = "the tree"

    def __init__(
        self,
        tree: Tree,
        n_features: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(tree, Tree):
            raise TypeError(f"tree must be a boltzmax.Tree, got {type(tree).__name__}")
        self.tree = tree
        super().__init__(tree.n_units, n_features, bias, dtype, seed)

    @property
    def n_classes(self) -> int:
        """The number of leaves."""
        return self.tree.n_classes

    @property
    def _n_units(self) -> int:
        return self.tree.n_units

    def _weights(self) -> TreeWeights:
        return TreeWeights(self.tree._handle, *self._parameters())

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
            For a target that is not a class; the message names the first.
        """
        found = _core.try_log_prob(self, hidden, target)
        if found is not None:
            return found
        x = self._hidden(hidden)
        return self._weights().log_prob(x, self._target(target, len(x)), self.dtype)

    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes), in time linear in that."""
        return self._weights().log_prob_of_nodes(self._hidden(hidden), self.tree.n_classes)

    def node_log_prob(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every node, (N, n_nodes): the total of its leaves."""
        return self._weights().log_prob_of_nodes(self._hidden(hidden), self.tree.n_nodes)

    # ---- learning ----

    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean of -log p(target), weighted by `sample_weight`; NaN without rows."""
        x = self._hidden(hidden)
        each = self._weights().log_prob(x, self._target(target, len(x)), np.float64)
        return _core.mean_loss(-each, read_sample_weight(sample_weight, len(x)))

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
            As returned by `loss`.
        d_hidden : ndarray, shape (N, D)
        unit_ids : ndarray of int64, shape (U,)
            The units on the path to a target, ascending; the gradient of all others is zero.
        d_weight : ndarray, shape (U, D)
        d_bias : ndarray, shape (U,), or None
        """
        x = self._hidden(hidden)
        classes = self._target(target, len(x))
        of_row = read_sample_weight(sample_weight, len(x))
        with np.errstate(all="ignore"):
            scale = of_row / of_row.sum()
        return self._weights().loss_with_grad(x, classes, of_row, scale)

    def sgd_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        update: str = "sequential",
    ) -> tuple[float, Array]:
        """Take a gradient step for each row, in place.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
        lr : float
            The learning rate: ``weight -= lr * gradient of -log p(target)``, for every row.
        sample_weight : array_like, shape (N,), optional
            Multiplies the gradient of each row.
        update : {"sequential", "grouped", "batch", "hogwild"}
            "sequential": row by row, each with the weights left by the previous one, on one thread;
            reproducible bit for bit. "grouped": like "sequential", but up to 16 neighbouring rows
            of the same target take one step together (Ji et al., arXiv:1604.04661): faster if
            targets come in runs. "batch": one step along the sum of the gradients of all rows, on
            all threads; the same bits for any number of threads. "hogwild": like "grouped", but all
            threads share the rows and write without locks (Niu et al., NIPS 2011): the fastest, but
            not reproducible.

        Returns
        -------
        loss : float
            The weighted mean of -log p(target), each before the step of its row.
        d_hidden : ndarray, shape (N, D)
            The gradient of each row's weighted loss with respect to its hidden vector.
        """
        return self._descend(hidden, target, lr, sample_weight, update, None, 0.0)

    def adagrad_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        eps: float = 1e-10,
        update: str = "sequential",
    ) -> tuple[float, Array]:
        """Step as `sgd_step` does, with a separate learning rate for every unit.

        Row-wise Adagrad: the mean square of each unit's gradient is summed over the steps, and the
        rate of the unit is ``lr / (sqrt(sum) + eps)``. So the units of rare classes take few but
        large steps (Duchi, Hazan & Singer, JMLR 2011). It stores one number per unit.

        Parameters
        ----------
        hidden, target, lr, sample_weight : see `sgd_step`
        eps : float, default 1e-10
            Keeps the first steps finite.
        update : {"sequential", "grouped", "hogwild"}
            See `sgd_step`.
        """
        training.check_update(update, training.ONE_BY_ONE)
        check_number(eps, "eps", 0, 1e30)
        squares = self._sums_of_squares()
        done = self._descend(hidden, target, lr, sample_weight, update, squares, eps)
        self._squares = squares
        return done

    def _descend(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None,
        update: str,
        squares: Doubles | None,
        eps: float,
    ) -> tuple[float, Array]:
        done = _core.try_descend(self, hidden, target, lr, sample_weight, update, squares, eps)
        if done is not None:
            return done
        training.check_update(update, training.UPDATES)
        step = self._read_step(hidden, target, lr, sample_weight)
        return training.descend(self._weights(), step, squares, eps, update)

    def pair_step(
        self,
        vectors: Array,
        ids: ArrayLike,
        target: ArrayLike,
        lr: float,
        *,
        update: str = "sequential",
    ) -> float:
        """Take a gradient step for each pair in turn, of its vector and units: the skip-gram loop.

        The hidden vector of pair i is ``vectors[ids[i]]``. The units on the path to its target and
        the vector itself are updated before the next pair.

        Parameters
        ----------
        vectors : ndarray of `dtype`, shape (M, D), C-contiguous
            Updated in place.
        ids : array_like of int, shape (N,)
            Rows of `vectors`.
        target : array_like of int, shape (N,)
            Classes.
        lr : float
            The learning rate of units and vectors.
        update : {"sequential", "grouped", "hogwild"}
            See `sgd_step`.

        Returns
        -------
        float
            The mean of -log p(target), each before the step of its pair.

        Notes
        -----
        Mikolov et al., "Distributed Representations of Words and Phrases and their
        Compositionality", NIPS 2013.
        """
        rate = read_rate(lr)
        training.check_update(update, training.ONE_BY_ONE)
        weights = self._weights()
        self._check_writeable()
        training.check_vectors(vectors, weights)
        index = training.read_row_numbers(ids, len(vectors))
        classes = self._target(target, len(index))
        return training.descend_pairs(weights, vectors, index, classes, rate, update)

    # ---- queries ----

    def topk(
        self, hidden: ArrayLike, k: int, *, beam: int | None = None, min_prob: float = 0.0
    ) -> tuple[NDArray[np.int64], Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        Exact unless `beam` is given: nodes are expanded in order of decreasing probability, a few
        at a time, and below a node that is less likely than the k-th class found there is no better
        one. Peaked distributions expand few nodes, flat ones nearly all.

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
            The likeliest first, ties in favour of the lower class; -1 where there are no more.
        log_probs : ndarray of `dtype`, shape (N, k)
            Those of `log_prob_all`, bit for bit; -inf where there are no more.

        See Also
        --------
        topk_visited : also returns how many nodes were visited.
        """
        return self.topk_visited(hidden, k, beam=beam, min_prob=min_prob).pair()

    def topk_visited(
        self, hidden: ArrayLike, k: int, *, beam: int | None = None, min_prob: float = 0.0
    ) -> TopClasses:
        """Return what `topk` does, and how many nodes it visited for each row."""
        found = _core.try_topk(self, hidden, k, beam, min_prob)
        if found is not None:
            return TopClasses(*found)
        count = check_count(k, "k", 1, self.tree.n_classes)
        width = read_beam(beam, self.tree.n_nodes)
        x = self._hidden(hidden)
        return self._weights().top(x, count, width, read_min_prob(min_prob))

    def predict_node(
        self, hidden: ArrayLike, min_prob: float = 0.9
    ) -> tuple[NDArray[np.int64], Array]:
        """Return the deepest node that is certain enough: a class, or one of its ancestors.

        From the root, the likeliest child is followed as long as its probability (of all leaves
        below it together) is at least `min_prob`. Above 1/2 no other node of that depth is as
        likely.

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
        return self._weights().sure_nodes(x, read_min_prob(min_prob))

    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> NDArray[np.int64]:
        """Draw a class for each row, (N,), in time proportional to its depth.

        A row with NaN, or whose way down meets a choice without probabilities, is a ValueError that
        names it, or, with errors="mark", has the class -1.
        """
        marks = are_marked(errors)
        x = self._hidden(hidden)
        seeds = random_generator(rng).integers(2**64, size=len(x), dtype=np.uint64)
        drawn = self._weights().sample(x, seeds)
        if not marks:
            refuse_bad_rows(drawn < 0, drawn.shape)
        return drawn

    # ---- fewer bits ----

    def quantize(self, bits: int = 8, **options: Any) -> QuantizedHierarchicalSoftmax:
        """Return a layer of the same weights in fewer bits, which answers but does not learn.

        Parameters
        ----------
        bits : {8, 4}, default 8
            Of a weight.
        **options
            Those of `QuantizedLinear`.

        Returns
        -------
        QuantizedHierarchicalSoftmax
        """
        weight, bias = self._parameters()
        units = QuantizedLinear(weight, bias, bits=bits, **options)
        return QuantizedHierarchicalSoftmax(self.tree, units, self.dtype)

    # ---- files ----

    def _arrays(self) -> dict[str, Any]:
        tree = {f"tree_{name}": array for name, array in self.tree.to_arrays().items()}
        return tree | super()._arrays()

    @classmethod
    def _new(cls, arrays: dict[str, Array], n_features: int, dtype: np.dtype[Any]) -> Self:
        tree = Tree.from_arrays(
            {name[5:]: array for name, array in arrays.items() if name.startswith("tree_")}
        )
        return cls(tree, n_features, bias=False, dtype=dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tree!r}, {self.n_features}, dtype={self.dtype})"

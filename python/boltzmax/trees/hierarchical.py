"""Hierarchical softmax: a layer whose cost grows with the logarithm of the number of classes."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import check_count
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
from boltzmax.trees import training
from boltzmax.trees.tree import Tree
from boltzmax.trees.weights import SparseGradient, TopClasses, TreeWeights, read_beam


class HierarchicalSoftmax(UnitLayer):
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
    tree, n_features, dtype, n_classes
        As given; the classes are the tree's.
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
            For a target that is not a class; it names the first.
        """
        found = _core.try_log_prob(self, hidden, target)
        if found is not None:
            return found
        x = self._hidden(hidden)
        return self._weights().log_prob(x, self._target(target, len(x)), self.dtype)

    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes): linear in their number."""
        return self._weights().log_prob_of_nodes(self._hidden(hidden), self.tree.n_classes)

    def node_log_prob(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every node, (N, n_nodes): that of the leaves below it."""
        return self._weights().log_prob_of_nodes(self._hidden(hidden), self.tree.n_nodes)

    # ---- learning ----

    def loss(
        self, hidden: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean of -log p(target), weighted by `sample_weight`; nan without a row."""
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
            As from `loss`.
        d_hidden : ndarray, shape (N, D)
        unit_ids : ndarray of int64, shape (U,)
            The units on the way to a target, ascending; the gradient of all others is zero.
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
        """Descend along the gradient of each row, in place.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
        lr : float
            The rate: ``weight -= lr * gradient of -log p(target)``, for every row by itself.
        sample_weight : array_like, shape (N,), optional
            Multiplies the gradient of each row.
        update : {"sequential", "grouped", "batch", "hogwild"}
            "sequential": row after row, each with the weights that the last has left, on one
            thread; the same bits every time. "grouped": as "sequential", but neighbouring rows of
            the same target, up to 16, take one step together (Ji et al., arXiv:1604.04661): faster
            where targets come in runs. "batch": one step along the sum of the gradients of all
            rows, on all threads; the same bits for any number of them. "hogwild": as "grouped",
            but rows are shared by all threads, which write without locks (Niu et al., NIPS 2011):
            the fastest, and never quite the same twice.

        Returns
        -------
        loss : float
            The mean of -log p(target) as each row met it, weighted.
        d_hidden : ndarray, shape (N, D)
            The gradient of each row's loss (its `sample_weight` times it) by its hidden vector.
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
        """Descend as `sgd_step` does, with a rate of its own for every unit.

        Row-wise Adagrad: the mean square of each unit's gradient is added up over the steps, and
        its rate is ``lr / (sqrt(sum) + eps)``. So the units of rare classes, which seldom get a
        step, take large ones (Duchi, Hazan & Singer, JMLR 2011), for one number a unit.

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
        """Descend for pairs, one after the other, of which both sides learn: skip-gram's loop.

        The hidden vector of pair i is ``vectors[ids[i]]``. The units on the way to its target take
        their step, and so does the vector itself, before the next pair is looked at.

        Parameters
        ----------
        vectors : ndarray of `dtype`, shape (M, D), C-contiguous
            Written to.
        ids : array_like of int, shape (N,)
            Rows of `vectors`.
        target : array_like of int, shape (N,)
            Classes.
        lr : float
            The rate, of units and vectors.
        update : {"sequential", "grouped", "hogwild"}
            See `sgd_step`.

        Returns
        -------
        float
            The mean of -log p(target) as each pair met it.

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

    # ---- questions ----

    def topk(
        self, hidden: ArrayLike, k: int, *, beam: int | None = None, min_prob: float = 0.0
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
        self, hidden: ArrayLike, k: int, *, beam: int | None = None, min_prob: float = 0.0
    ) -> TopClasses:
        """Return what `topk` does, and how many nodes it looked at for each row."""
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
        return self._weights().sure_nodes(x, read_min_prob(min_prob))

    def sample(
        self, hidden: ArrayLike, rng: int | np.random.Generator | None = None
    ) -> NDArray[np.int64]:
        """Draw a class for each row, (N,), in time proportional to its depth."""
        x = self._hidden(hidden)
        seeds = random_generator(rng).integers(2**64, size=len(x), dtype=np.uint64)
        return self._weights().sample(x, seeds)

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

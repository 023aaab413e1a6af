"""The hierarchical softmax classifier of `boltzmax.sklearn`: a tree of choices between classes."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_array, check_scalar

from boltzmax.sklearn.base import SoftmaxBase
from boltzmax.sklearn.layers import LayerModel, dense, likeliest, log_probabilities, top
from boltzmax.sklearn.samples import Features, Samples, stored_blocks
from boltzmax.sklearn.training import Model
from boltzmax.trees.hierarchical import HierarchicalSoftmax
from boltzmax.trees.tree import Tree

Array = NDArray[Any]

_TREES = ("huffman", "balanced", "clusters")
_SCATTERED = 10  # cost of a multiplication with scattered rows, in ordinary multiplications


class HierarchicalSoftmaxClassifier(SoftmaxBase):
    """A tree of classes with a logistic or softmax unit at each inner node, linear in the features.

    Training on a sample, and finding its likeliest classes, takes the units on some paths of the
    tree instead of one score per class: it is meant for very many classes. The objective is that of
    `SoftmaxClassifier`, with the cross-entropy of the tree's probabilities as the loss.

    Parameters
    ----------
    tree : {"huffman", "balanced", "clusters"} or boltzmax.Tree, default "huffman"
        ``"huffman"``: frequent classes, by the weights of their samples, near the root, which is
        the fastest. ``"balanced"``: all at about the same depth, in the order of their labels.
        ``"clusters"``: classes whose samples have similar means are neighbours, which often
        predicts best. In a `boltzmax.Tree`, leaf i is the class ``classes_[i]``.
    arity : int, default 2
        The number of children per node, for a tree that is built here.
    solver : {"auto", "lbfgs", "adam"}, default "auto"
        ``"lbfgs"``: all samples in each iteration, as for `SoftmaxClassifier`. ``"adam"``:
        mini-batches; a step touches only the units on the paths of the batch. Adam needs less
        tuning than plain gradient descent or Adagrad, whose steps only shrink, and since it uses
        the gradients of the layer, sample weights and the penalty apply. ``"auto"``: L-BFGS while a
        pass takes at most 1e7 multiplications and there are at most 1e6 coefficients.
    l2 : float, default 1e-4
        The penalty ``l2 / 2 * ||W||^2``. A step of Adam penalises only the units that it touches.
    fit_intercept : bool, default True
        Whether the units have an intercept.
    class_weight : None, "balanced" or dict, default None
        Weights of classes by label (1 for others); ``"balanced"`` are those of
        `boltzmax.class_weights`. They do not change the tree.
    learning_rate : float, default 0.05
        Of Adam, in standardised features; `fit` divides it by 5 three times before it ends.
    batch_size : int, default 256
        Samples in a mini-batch of Adam. Sparse samples are made dense one batch at a time.
    max_iter : int, default 1000
        The maximum number of L-BFGS iterations or Adam epochs.
    tol : float, default 1e-4
        L-BFGS stops when no element of the gradient exceeds `tol` (or 1.5e-8, beyond which the loss
        has no digits), and warns if it stops for another reason. Adam and early stopping check
        whether the loss has fallen by `tol` in the last `n_iter_no_change` iterations.
    early_stopping : bool, default False
        Whether to monitor the loss of held-out samples, and keep the model that does best on them.
    validation_fraction : float, default 0.1
        The fraction of the samples to hold out, about the same for each class.
    n_iter_no_change : int, default 5
        See `tol`.
    random_state : int, RandomState or None, default None
        Shuffles the samples for Adam, chooses those to hold out, and seeds the clusters.
    verbose : bool, default False
        Whether to show a progress bar on standard error.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    tree_ : boltzmax.Tree
        The tree; leaf i is the class ``classes_[i]``. `partial_fit` builds it in its first call,
        from the samples of that call plus one of each class.
    layer_ : boltzmax.HierarchicalSoftmax
        The trained layer, of the dtype of the samples passed to `fit`. Predictions have this dtype,
        to which samples are rounded.
    solver_, n_iter_, loss_curve_, validation_curve_, n_features_in_, feature_names_in_
        As in `SoftmaxClassifier`.

    See Also
    --------
    SoftmaxClassifier : a score for each class, and other losses.

    References
    ----------
    Morin & Bengio, "Hierarchical probabilistic neural network language model", AISTATS 2005.

    Examples
    --------
    >>> from boltzmax.sklearn import HierarchicalSoftmaxClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = HierarchicalSoftmaxClassifier(tree="clusters", random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> model.tree_.n_classes
    3
    """

    tree_: Tree
    layer_: HierarchicalSoftmax

    def __init__(
        self,
        tree: Any = "huffman",
        *,
        arity: int = 2,
        solver: str = "auto",
        l2: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        learning_rate: float = 0.05,
        batch_size: int = 256,
        max_iter: int = 1000,
        tol: float = 1e-4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.tree = tree
        self.arity = arity
        self.solver = solver
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.verbose = verbose

    # ---- what the base class requires ----

    def _structure(self, samples: Samples, rng: np.random.RandomState) -> None:
        check_scalar(self.arity, "arity", numbers.Integral, min_val=2)
        n_classes = len(self.classes_)
        if isinstance(self.tree, Tree):
            if self.tree.n_classes != n_classes:
                raise ValueError(
                    f"tree has {self.tree.n_classes} leaves, but there are {n_classes} classes"
                )
            self.tree_ = self.tree
        elif not isinstance(self.tree, str) or self.tree not in _TREES:
            raise ValueError(f"tree must be a Tree or one of {_TREES}, got {self.tree!r}")
        elif self.tree == "huffman":
            self.tree_ = Tree.huffman(self._counts, arity=self.arity)
        elif self.tree == "balanced":
            self.tree_ = Tree.balanced(n_classes, arity=self.arity)
        else:
            seed = int(rng.randint(2**31))
            means = _class_means(samples, n_classes)
            self.tree_ = Tree.from_clusters(means, arity=self.arity, seed=seed)

    def _size(self, samples: Samples) -> tuple[int, int]:
        n, width = samples.x.shape
        units = self.tree_.expected_depth(self._counts) * max(1, self.tree_.arity - 1)
        return int(n * width * units * _SCATTERED), width * self.tree_.n_units

    def _start(self, dtype: Any) -> None:
        self.layer_ = HierarchicalSoftmax(
            self.tree_, self.n_features_in_, bias=self.fit_intercept, dtype=dtype
        )

    def _round(self, dtype: Any) -> None:
        trained = self.layer_
        if trained.dtype == dtype:
            return
        self._start(dtype)
        self.layer_.weight[:] = trained.weight
        if self.layer_.bias is not None:
            self.layer_.bias[:] = trained.bias

    def _model(self) -> Model:
        return LayerModel(self.layer_)

    def _validated(self, x: Any) -> Any:
        """Raise for numbers that become infinite in the dtype of the layer."""
        x = super()._validated(x)
        if x.dtype.itemsize <= self.layer_.dtype.itemsize:
            return x
        with np.errstate(over="ignore"):
            return check_array(x, accept_sparse="csr", dtype=self.layer_.dtype, input_name="X")

    def _likeliest(self, x: Any) -> NDArray[np.intp]:
        return likeliest(self.layer_, x)

    def _log_probabilities(self, x: Any) -> Array:
        return log_probabilities(self.layer_, x)

    def _top(self, x: Any, k: int) -> tuple[Array, Array]:
        return top(self.layer_, x, k)


def _class_means(samples: Samples, n_classes: int) -> Array:
    """Return the mean of the samples of each class, (V, D), or of all samples if it has none.

    It is 0 for constant features: the rounding errors of a large constant would seem to separate
    the classes.
    """
    features = Features.of(samples)
    mass = np.bincount(samples.target, samples.weight, n_classes)
    shares = samples.weight / mass[samples.target]
    means = np.zeros((n_classes, samples.x.shape[1]))
    for rows in stored_blocks(samples.x):
        target = samples.target[rows]
        # A sparse matrix of weights: its product with the rows has one row per class.
        entries = shares[rows], (target, np.arange(len(target)))
        means += dense(sparse.csr_array(entries, (n_classes, len(target))) @ samples.x[rows])
    means[mass == 0] = features.mean
    means[:, ~features.varies(features.mean)] = 0.0
    return means

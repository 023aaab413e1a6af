"""Answers with a node of a tree of classes: the less sure, the nearer to the root."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._core import softmax
from boltzmax._lib.arguments import one_of
from boltzmax._lib.parameters import Parameters
from boltzmax._lib.rational import as_share
from boltzmax._lib.scored import Scored, read_scores, read_scores_and_labels
from boltzmax.selective.abstention import BOUNDS, guarantee_in_words
from boltzmax.selective.bounds import RANKS
from boltzmax.trees.tree import Tree

Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]


class HierarchicalAbstention(Parameters):
    """Answer with the deepest node of a tree for which the guarantee holds.

    The probability of a node is the sum over the classes below it. From the root, each step goes to
    the likeliest child, as long as its probability exceeds a threshold. An answer is wrong if the
    right class is not below it; the root is never wrong. The threshold is the lowest with the
    guarantee, found on labelled rows that the model was not trained on:

    - ``bound="clopper_pearson"``, ``"hoeffding"``: with probability `confidence` over those rows,
      the share of wrong answers among all rows is at most `target_risk`
    - ``bound="conformal_risk_control"``: it is, on average over those rows

    Parameters
    ----------
    tree : Tree
        The tree, whose leaves are the classes.
    target_risk : float, default 0.01
        Between 0 and 1; its decimal digits count.
    confidence : float, default 0.95
        Between 0 and 1.
    bound : {"clopper_pearson", "hoeffding", "conformal_risk_control"}
        The guarantee.
    from_probs : bool, default False
        Whether rows are probabilities instead of logits.

    Attributes
    ----------
    threshold_ : float
        The probability that a node must exceed; +inf if only the root is safe.
    guaranteed_risk_ : float
        `target_risk`; 0 if every answer is the root.
    guarantee_ : str
        Which risk that is, in words.
    risk_ : float
        The share of wrong answers in `fit`.

    Notes
    -----
    As the threshold falls, every answer moves down its path, and a wrong one stays wrong. So the
    risk can only rise, and one test at the chosen threshold is enough (Bates, Angelopoulos, Lei,
    Malik & Jordan, "Distribution-Free, Risk-Controlling Prediction Sets", JACM 68(6), 2021).

    Examples
    --------
    >>> import boltzmax, numpy as np
    >>> from boltzmax.selective import HierarchicalAbstention
    >>> tree = boltzmax.Tree.from_paths(["animal/cat", "animal/dog", "plant"])
    >>> rng = np.random.default_rng(0)
    >>> logits = 3 * rng.normal(size=(2000, 3))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> model = HierarchicalAbstention(tree, target_risk=0.05).fit(logits, y)
    >>> [tree.names[v] for v in model.predict([[9.0, 0.0, 0.0], [3.0, 3.0, -9.0], [2.0, 0.0, 2.0]])]
    ['animal/cat', 'animal', '']
    """

    threshold_: float
    guaranteed_risk_: float
    guarantee_: str
    risk_: float

    def __init__(
        self,
        tree: Tree,
        target_risk: float = 0.01,
        confidence: float = 0.95,
        *,
        bound: str = "clopper_pearson",
        from_probs: bool = False,
    ) -> None:
        self.tree = tree
        self.target_risk = target_risk
        self.confidence = confidence
        self.bound = bound
        self.from_probs = from_probs

    def fit(self, logits: ArrayLike, y: ArrayLike) -> Self:
        """Find the threshold.

        Parameters
        ----------
        logits : array_like, shape (N, K)
            Logits of the tree's classes; probabilities if `from_probs`.
        y : array_like of int, shape (N,)
            The classes.

        Raises
        ------
        ValueError
            For a row with NaN or without a finite maximum; it names the first.

        Warns
        -----
        UserWarning
            If the rows are too few: then every answer is the root.
        """
        target = as_share(self.target_risk, "target_risk")
        certainty = as_share(self.confidence, "confidence")
        one_of(self.bound, "bound", BOUNDS)
        paths = Paths(self._tree())
        rows = read_scores_and_labels(logits, y, from_probs=self.from_probs)
        self._check_classes(rows)
        rows.check_finite()
        assert rows.labels is not None
        worst = np.concatenate(
            [paths.first_wrong(_probabilities(rows, s), rows.labels[s]) for s in rows.blocks()]
        )
        allowed = allowed_errors(rows.n_rows, target, 1 - certainty, self.bound)
        self.threshold_ = threshold_for(worst, allowed)
        self.risk_ = float((worst > self.threshold_).mean())
        self.guarantee_ = guarantee_in_words(self.bound, certainty).replace("the answered", "all")
        self.guaranteed_risk_ = float(target)
        if self.threshold_ == np.inf:
            self.guaranteed_risk_ = 0.0
            warnings.warn(
                f"{rows.n_rows} rows are too few for a risk of at most {self.target_risk} "
                f"({self.guarantee_}); every answer will be the root",
                stacklevel=2,
            )
        return self

    def predict(self, logits: ArrayLike) -> Ids:
        """Return a node of the tree for each row; the root for a row with NaN."""
        self._check_is_fitted("threshold_")
        rows = read_scores(logits, from_probs=self.from_probs, least=0)
        self._check_classes(rows)
        paths, found = Paths(self.tree), np.empty(rows.n_rows, np.int64)
        for part in rows.blocks():
            found[part] = paths.deepest(_probabilities(rows, part), self.threshold_)
        return found

    def _tree(self) -> Tree:
        if not isinstance(self.tree, Tree):
            raise TypeError(f"tree must be a Tree, got {type(self.tree).__name__}")
        return self.tree

    def _check_classes(self, rows: Scored) -> None:
        if rows.n_classes != self.tree.n_classes:
            raise ValueError(
                f"logits have {rows.n_classes} classes, but the tree has {self.tree.n_classes}"
            )


def allowed_errors(n: int, target: Fraction, delta: Fraction, bound: str) -> int:
    """Return how many of n rows may be wrong; -1 if n is too small for any number."""
    if bound == "conformal_risk_control":
        return (n + 1) * target.numerator // target.denominator - 1
    return len(RANKS[bound](n, target, delta)) - 1


def threshold_for(worst: Doubles, allowed: int) -> float:
    """Return the least number that at most `allowed` others exceed; +inf if that is below 0."""
    if allowed < 0:
        return np.inf
    if allowed >= len(worst):
        return -np.inf
    return float(np.sort(worst)[len(worst) - 1 - allowed])


def _probabilities(rows: Scored, part: slice) -> Doubles:
    p: Doubles = softmax(rows.logits(part).astype(np.float64))
    return p


class Paths:
    """Paths from the root to the likeliest child, and on, of several rows at a time.

    Classes are put in the order of a walk through the tree, in which those below a node are
    neighbours: a node's probability is a difference of cumulative sums. So rounding does not make a
    child likelier than its parent.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._child = tree.child.astype(np.int64)
        self._offset = tree.child_offset
        below = np.ones(tree.n_nodes, np.int64)
        below[tree.n_classes :] = 0
        by_depth = np.argsort(tree.node_depth, kind="stable")
        for v in by_depth[:0:-1].tolist():  # from the leaves up, without the root
            below[tree.parent[v]] += below[v]
        self.begin = np.zeros(tree.n_nodes, np.int64)
        for v in by_depth.tolist():
            if v >= tree.n_classes:
                i = v - tree.n_classes
                children = self._child[self._offset[i] : self._offset[i + 1]]
                before = np.cumsum(below[children]) - below[children]
                self.begin[children] = self.begin[v] + before
        self.end = self.begin + below
        self._order = np.argsort(self.begin[: tree.n_classes])

    def _sums(self, p: Doubles) -> Doubles:
        sums = np.zeros((len(p), p.shape[1] + 1))
        np.cumsum(p[:, self._order], axis=1, out=sums[:, 1:])
        return sums

    def _step(self, sums: Doubles, rows: Ids, nodes: Ids) -> tuple[Ids, Doubles]:
        """Return the likeliest child of each node, which is an inner one, and its probability."""
        i = nodes - self._tree.n_classes
        first, count = self._offset[i], self._offset[i + 1] - self._offset[i]
        starts = np.cumsum(count) - count
        place = np.arange(int(count.sum())) - np.repeat(starts - first, count)
        child, row = self._child[place], np.repeat(rows, count)
        p = sums[row, self.end[child]] - sums[row, self.begin[child]]
        best = np.maximum.reduceat(p, starts)
        is_best = p == np.repeat(best, count)
        at = np.minimum.reduceat(np.where(is_best, np.arange(len(p)), len(p)), starts)
        return child[at], best

    def deepest(self, p: Doubles, threshold: float) -> Ids:
        """Return the deepest node of each path whose probability exceeds the threshold."""
        found = np.full(len(p), self._tree.root, np.int64)
        sums = self._sums(p)
        rows = np.flatnonzero(np.isfinite(sums[:, -1]))
        while len(rows := rows[found[rows] >= self._tree.n_classes]):
            child, probability = self._step(sums, rows, found[rows])
            goes_on = probability > threshold
            rows = rows[goes_on]
            found[rows] = child[goes_on]
        return found

    def first_wrong(self, p: Doubles, labels: Ids) -> Doubles:
        """Return the probability of the first node of each path that is wrong; -inf for none."""
        nodes = np.full(len(p), self._tree.root, np.int64)
        found = np.full(len(p), -np.inf)
        sums, place = self._sums(p), self.begin[labels]
        rows = np.arange(len(p))
        while len(rows := rows[nodes[rows] >= self._tree.n_classes]):
            child, probability = self._step(sums, rows, nodes[rows])
            right = (self.begin[child] <= place[rows]) & (place[rows] < self.end[child])
            found[rows[~right]] = probability[~right]
            rows = rows[right]
            nodes[rows] = child[right]
        return found

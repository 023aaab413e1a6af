"""A screen and the exact weights: few bytes are read, and answers are proven."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from boltzmax._lib.arguments import as_flag, check_count, one_of, quietly
from boltzmax._lib.mapped import map_npy
from boltzmax._lib.numbers import check_number
from boltzmax._lib.output_layer import Array, Classes, Doubles
from boltzmax._lib.random import random_key
from boltzmax.linear.budget import MakeScreen, Trial, best, default_screens, measured
from boltzmax.linear.float_partition import FloatPartition
from boltzmax.linear.narrowing import Products, narrow_partition
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.screens.exact import ExactLinear, ExactWeights, Top
from boltzmax.screens.reading import Floats, read_vectors, read_weights
from boltzmax.screens.screen import Candidates, Screen

# With certify=False, this many candidates are rescored besides k: a multiple of k, or at least so
# many.
_FEW_TIMES, _FEW = 4, 64
# Classes and rows whose logits are compared with a screen's bounds when a classifier is made.
_CHECKED = 64


class Interval(NamedTuple):
    """Bounds of numbers."""

    lower: Doubles
    upper: Doubles


class CertifiedTopK(NamedTuple):
    """The k likeliest classes of each row, and what is known about them."""

    ids: Classes
    log_probs: Interval | None
    certified: Array
    rescored: Classes


class TwoStageClassifier:
    r"""A linear layer that finds its answers with a screen, and proves them with the weights.

    The screen, a smaller copy of the weights, bounds every logit. Only the classes whose bounds
    leave it open whether they belong to the answer are then computed from the float32 weights, with
    sums in double whose error is bounded, too. So answers are those of the exact layer.

    Parameters
    ----------
    weight : array_like, shape (V, D), or path
        One row for each class, in float32; other real dtypes are converted. Or the path of a
        ``.npy`` file, which is mapped into memory.
    bias : array_like, shape (V,), optional
    screen : Screen, or callable, default QuantizedLinear
        What makes a screen of the weights and the bias, such as `ClusteredLinear`, or a screen that
        was made of the same weights and bias: these must then be numbers of float32.
    keep_exact : {"memory", "mmap"}, default "memory"
        Where the float32 weights are: in memory, or in a file, of which only the rows of few
        classes are read for each answer. For "mmap" `weight` must be a path or a float32
        `numpy.memmap` in C order.

    Attributes
    ----------
    n_classes, n_features : int
    screen : Screen

    Raises
    ------
    ValueError
        If a weight is not finite (the message names the row), shapes do not fit, the screen was
        made from other weights, or a file is no ``.npy`` file.

    See Also
    --------
    linear_topk : the float32 product alone, without proof.

    Notes
    -----
    ``hidden`` is (N, D) in all methods, and converted to float32. A row with NaN or infinity is a
    ValueError that names it.

    An interval of a screen contains the real number :math:`h \cdot w_c + b_c`. A class may be among
    the top k only if its upper bound reaches the k-th largest lower bound. Of these candidates, the
    k with the largest lower bounds are computed first, which raises the bar for all others.
    Published certificates of this kind (CSV-Decode, arXiv:2511.21702) hold for rows of norm 1, and
    in exact arithmetic.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import TwoStageClassifier
    >>> rng = np.random.default_rng(0)
    >>> weight = rng.standard_normal((1000, 64))
    >>> layer = TwoStageClassifier(weight)
    >>> top = layer.topk(3 * weight[:2], 1)
    >>> top.ids
    array([[0],
           [1]])
    >>> top.certified
    array([ True,  True])
    """

    def __init__(
        self,
        weight: ArrayLike | os.PathLike[str] | str,
        bias: ArrayLike | None = None,
        *,
        screen: Screen | MakeScreen = QuantizedLinear,
        keep_exact: str = "memory",
    ) -> None:
        place = one_of(keep_exact, "keep_exact", ("memory", "mmap"))
        given = _opened(weight, place)
        self._exact = ExactWeights(*read_weights(given, bias))
        if isinstance(screen, Screen):
            _refuse_rounding(given, self._exact.weight, "weight")
            _refuse_rounding(bias, self._exact.bias, "bias")
        self._set_screen(screen if isinstance(screen, Screen) else _made(screen, self._exact))

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self._exact.weight)

    @property
    def n_features(self) -> int:
        """The length of a hidden vector."""
        return int(self._exact.weight.shape[1])

    def _set_screen(self, screen: Screen) -> None:
        sizes = screen.n_classes, screen.n_features
        if sizes != self._exact.weight.shape:
            raise ValueError(
                f"screen is for {sizes[0]} classes of {sizes[1]} features, but weight has shape "
                f"{self._exact.weight.shape}"
            )
        self._check_bounds(screen)
        self.screen = screen

    def _check_bounds(self, screen: Screen) -> None:
        """Raise if the bounds of some classes, for hidden vectors like them, are wrong."""
        count = min(_CHECKED, self.n_classes)
        first = (self.n_classes - count) // 2
        x = self._exact.weight[first : first + count].copy()
        lower, upper = screen._bounds(x, first, first + count)
        indptr = np.arange(len(x) + 1) * count
        ids = np.tile(np.arange(first, first + count), len(x))
        scores, errors = (a.reshape(lower.shape) for a in self._exact.scores(x, indptr, ids))
        if (scores + errors < lower).any() or (scores - errors > upper).any():
            raise ValueError("screen was made from other weights or another bias")

    @cached_property
    def _all(self) -> ExactLinear:
        return ExactLinear(self._exact)

    @cached_property
    def _in_float(self) -> FloatPartition:
        return FloatPartition(self._exact)

    # ---- the likeliest classes ----

    @quietly
    def topk(
        self, hidden: ArrayLike, k: int, *, certify: bool = True, log_probs: bool = True
    ) -> CertifiedTopK:
        """Return the k likeliest classes of each row, with a proof.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        k : int
            From 1 to the number of classes.
        certify : bool, default True
            Whether to compute the exact logit of every class that the screen leaves open. If not,
            at most 4 k, or 64, of them are, the likeliest.
        log_probs : bool, default True
            Whether to bound the log-probabilities, too, for which the screen is read a second time.

        Returns
        -------
        ids : ndarray of int64, shape (N, k)
            By decreasing exact logit; classes with equal logits by increasing id.
        log_probs : (lower, upper), two ndarrays of float64, shape (N, k), or None
            Bounds of their exact log-probabilities; `log_partition` says how wide they are.
        certified : ndarray of bool, shape (N,)
            True if it is proven that these are the ids, in this order, in exact arithmetic. With
            certify=True, False means only that more than 1,024 different classes are within the
            rounding error of sums in double of each other; ids are then those of these sums. With
            certify=False, it means that classes were left open.
        rescored : ndarray of int64, shape (N,)
            How many exact logits were computed; none for a row of zeros, whose logits are the
            biases.
        """
        x, count = self._vectors(hidden), check_count(k, "k", 1, self.n_classes)
        is_exact = as_flag(certify, "certify")
        top = self._top(x, count, is_exact)
        bounds = self._log_probs(x, top) if as_flag(log_probs, "log_probs") else None
        return CertifiedTopK(top.ids, bounds, top.proven, top.rescored)

    def predict(self, hidden: ArrayLike) -> Classes:
        """Return the likeliest class of each row, (N,); of equally likely ones, the lowest id."""
        return self.topk(hidden, 1, log_probs=False).ids[:, 0]

    def _vectors(self, hidden: ArrayLike) -> Array:
        return read_vectors(hidden, self.n_features)

    def _top(self, x: Array, k: int, is_exact: bool) -> Top:
        """Return the k largest logits; rows of zeros, where all weights tie, need no screen."""
        is_zero = ~x.any(axis=1)
        if not is_zero.any():
            return self._searched(x, k, is_exact)
        of_zero, others = self._exact.top_of_zero(k), self._searched(x[~is_zero], k, is_exact)
        place = np.where(is_zero, 0, np.cumsum(~is_zero))
        return Top(*(np.concatenate(both)[place] for both in zip(of_zero, others, strict=True)))

    def _searched(self, x: Array, k: int, is_exact: bool) -> Top:
        found = self.screen.candidates(x, k)
        most = self.n_classes if is_exact else max(_FEW_TIMES * k, _FEW)
        top = self._exact.top(x, found, k, most)
        if is_exact:
            self._settle(x, found, top)
        return top

    def _settle(self, x: Array, found: Candidates, top: Top) -> None:
        """Decide by exact comparisons where sums in double are too near to each other."""
        k = top.ids.shape[1]
        for r in np.flatnonzero(~top.proven):
            ids = found.ids[found.indptr[r] : found.indptr[r + 1]]
            row = x[r : r + 1]
            scores, errors = self._exact.scores(row, np.array([0, len(ids)]), ids)
            top.rescored[r] = len(ids)
            bar = np.partition(scores - errors, -k)[-k]
            left = scores + errors >= bar
            order = self._order(row[0], ids[left], scores[left], errors[left], k)
            if order is None:
                continue
            at = {int(c): i for i, c in enumerate(ids)}
            chosen = np.array([at[int(c)] for c in order])
            top.ids[r], top.scores[r], top.errors[r] = order, scores[chosen], errors[chosen]
            top.proven[r] = True

    def _order(
        self, x: Array, ids: Classes, scores: Doubles, errors: Doubles, k: int
    ) -> Classes | None:
        """Return the k largest of some classes in exact order, None if it cannot be decided.

        Neighbours in the order of scores whose intervals overlap are compared exactly.
        """
        by_score = np.lexsort((ids, -scores))
        ids, lower, upper = ids[by_score], (scores - errors)[by_score], (scores + errors)[by_score]
        # A group ends where all that follow are proven to be less.
        following = np.maximum.accumulate(upper[::-1])[::-1]
        least = np.minimum.accumulate(lower)
        ends = [*(np.flatnonzero(least[:-1] > following[1:]) + 1), len(ids)]
        result: list[Classes] = []
        start = 0
        for end in ends:
            if start >= k:
                break
            group = ids[start:end]
            in_order = group if len(group) == 1 else self._exact.in_order(x, group)
            if in_order is None:
                return None
            result.append(in_order)
            start = end
        return np.concatenate(result)[:k]

    # ---- log-probabilities ----

    def _log_probs(self, x: Array, top: Top) -> Interval:
        low, high = self.screen.log_partition(x)
        lower = top.scores - top.errors - high[:, None]
        upper = top.scores + top.errors - low[:, None]
        slack = 2.0**-50 * (np.abs(top.scores) + np.maximum(np.abs(low), np.abs(high))[:, None])
        return Interval(lower - slack, np.minimum(upper + slack, 0.0))

    @quietly
    def log_partition(self, hidden: ArrayLike, width: float | None = None) -> Interval:
        """Return bounds of the logsumexp of each row's exact logits.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        width : float, optional
            From 1e-9 to 1e9: the largest difference of the bounds that will do. By default, the
            bounds are those of the screen. Otherwise exact logits of the likeliest classes narrow
            them, of as many as that takes: few where little of the probability is elsewhere.

        Returns
        -------
        lower, upper : ndarray of float64, shape (N,)
        """
        x = self._vectors(hidden)
        if width is None:
            return Interval(*self.screen.log_partition(x))
        limit = check_number(width, "width", 1e-9, 1e9)
        products = Products(lambda: self._in_float, lambda: self._all)
        return Interval(*narrow_partition(self.screen, self._exact, products, x, limit))

    # ---- draws ----

    @quietly
    def sample(self, hidden: ArrayLike, rng: int | np.random.Generator | None = None) -> Classes:
        """Draw a class for each row from the softmax of its exact logits, (N,).

        The draw is the class with the largest sum of logit and Gumbel noise. The noise of a class
        depends on `rng`, the number of the row and the class alone, as in `boltzmax.gumbel_topk`. A
        class can win only if its upper bound and its noise reach the best lower bound with its
        noise; those that can are decided by their exact logits.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        rng : int, numpy.random.Generator or None
            The key of the noise, or where it comes from; by default the operating system.
        """
        x, key = self._vectors(hidden), random_key(rng)
        found = self.screen.winners(x, key)
        scores, errors = self._exact.scores(x, found.indptr, found.ids)
        keys = scores + found.noise
        errors = errors + 2.0**-52 * (np.abs(scores) + np.abs(found.noise))
        result = np.empty(len(x), np.int64)
        for r in range(len(x)):
            some = slice(found.indptr[r], found.indptr[r + 1])
            lower, upper, ids = (
                keys[some] - errors[some],
                keys[some] + errors[some],
                found.ids[some],
            )
            left = np.flatnonzero(upper >= lower.max())
            result[r] = ids[left[0]]
            if len(left) > 1:
                order = self._exact.in_order(x[r], ids[left], found.noise[some][left])
                best = ids[keys[some].argmax()] if order is None else order[0]
                result[r] = best
        return result

    # ---- the choice of a screen ----

    def fit_budget(
        self,
        hidden_sample: ArrayLike,
        target_latency: float,
        *,
        k: int = 10,
        screens: Mapping[str, MakeScreen] | None = None,
    ) -> list[Trial]:
        """Try screens, and use the smallest one that is fast enough.

        Parameters
        ----------
        hidden_sample : array_like, shape (N, D)
            As many rows as calls will have, and like them.
        target_latency : float
            The seconds that ``topk(hidden_sample, k, log_probs=False)`` may take.
        k : int, default 10
        screens : mapping from names to callables, optional
            What makes the screens of the weights and the bias; by default `QuantizedLinear` with 8
            bits, 4 bits and bfloat16, and `LowRankLinear` with a rank of D / 4.

        Returns
        -------
        list of (name, seconds, nbytes, rescored)
            For each screen: the median time of a call, the memory that it takes, and the mean
            number of exact logits per row. The first is the one that is used now: that of the least
            memory among those within `target_latency`; if none is, the fastest.
        """
        x, count = self._vectors(hidden_sample), check_count(k, "k", 1, self.n_classes)
        target = check_number(target_latency, "target_latency", 0, 1e9)
        tried = default_screens(self.n_features) if screens is None else screens
        if not tried:
            raise ValueError("screens must have at least one")
        before, trials, made = self.screen, [], []
        try:
            for name, make in tried.items():
                self._set_screen(_made(make, self._exact))
                made.append(self.screen)
                answer = partial(self.topk, x, count, log_probs=False)
                trials.append(measured(name, self.screen, answer))
        finally:
            self.screen = before
        chosen = best(trials, target)
        self.screen = made[chosen]
        return [trials[chosen], *trials[:chosen], *trials[chosen + 1 :]]

    def __repr__(self) -> str:
        return f"TwoStageClassifier({self.n_classes}, {self.n_features}, screen={self.screen!r})"


def _opened(weight: Any, place: str) -> Any:
    """Return the weights, mapped or in memory."""
    if isinstance(weight, (str, os.PathLike)):
        weight = map_npy(weight)
    is_mapped = isinstance(weight, np.memmap)
    if place == "memory":
        return np.array(weight) if is_mapped else weight
    if not is_mapped or weight.dtype != np.float32 or not weight.flags.c_contiguous:
        kind = f"an array of {weight.dtype}" if is_mapped else type(weight).__name__
        raise ValueError(
            "keep_exact='mmap' needs the path of a .npy file, or a numpy.memmap, of float32 in C "
            f"order, got {kind}"
        )
    return weight


def _refuse_rounding(given: Any, read: Floats | None, name: str) -> None:
    """Raise if a screen may have been made of other numbers than those that were read."""
    if given is None or read is None or np.shares_memory(given, read):
        return
    if not np.array_equal(given, read):
        raise ValueError(
            f"{name} has numbers that float32 rounds: convert it, and make the screen from that"
        )


def _made(make: Any, exact: ExactWeights) -> Screen:
    """Return the screen that `make` makes of the weights."""
    if not callable(make):
        raise TypeError(f"screen must be a Screen or make one, got {type(make).__name__}")
    screen = make(*exact)
    if not isinstance(screen, Screen):
        raise TypeError(f"screen made a {type(screen).__name__}, which is no Screen")
    return screen

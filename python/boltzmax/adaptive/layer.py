r"""Adaptive softmax: frequent classes in a short list, rare ones in tails of shorter vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, check_count, quietly
from boltzmax._lib.bad_rows import are_marked, refuse_bad_rows
from boltzmax._lib.numbers import check_number, unmasked_ids
from boltzmax._lib.output_layer import (
    Array,
    Classes,
    read_min_prob,
    read_rate,
    read_sample_weight,
)
from boltzmax._lib.random import random_generator
from boltzmax._lib.unit_layer import UnitLayer, overlaps
from boltzmax.adaptive.clusters import (
    AdaptiveGradient,
    Clustered,
    Clusters,
    Targets,
    clusters_from_arrays,
    read_layer_targets,
    starting_tail,
    tail_from_arrays,
)
from boltzmax.adaptive.cutoffs import (
    best_cutoffs,
    read_counts,
    read_cutoffs,
    tails_allowed,
    widths_of,
)
from boltzmax.adaptive.gradients import Weights, gradient_of_targets, reduced_loss, take_step
from boltzmax.adaptive.quantised_layer import QuantizedAdaptiveSoftmax, QuantizedTail
from boltzmax.adaptive.top import top_of_clusters
from boltzmax.adaptive.torch_form import TorchAdaptive, read_torch_state, torch_module
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.linear.queries import linear_log_prob, sample_at
from boltzmax.losses.reduction import checked_reduction


class AdaptiveSoftmax(Clustered, UnitLayer):
    r"""A softmax for very many classes of very unequal frequency.

    Frequent classes are units of the *head*, and so is each *tail*, a cluster of rarer classes:

    .. math:: p(c \mid h) = p_0(c \mid h)  \quad \text{or} \quad  p_0(i \mid h) \, p_i(c \mid h)

    for a class of the head or of tail :math:`i`, each factor from a softmax of linear scores. Those
    of a tail are of a shorter vector :math:`P_i h`, with :math:`D / d^i` numbers. A loss computes
    the head for all rows, and a tail only for the rows whose target is in it: with frequencies like
    those of words, a few per cent of the full softmax (Grave, Joulin, Cissé, Grangier & Jégou, ICML
    2017).

    Parameters
    ----------
    n_features : int
        The length D of a hidden vector.
    n_classes : int
        The number V of classes.
    cutoffs : sequence of int, optional
        Increasing, from 1 to V - 1: the first ``cutoffs[0]`` classes in the order of frequency are
        in the head, those up to ``cutoffs[1]`` in the first tail, and so on. By default they make
        a pass cheapest in the paper's cost model, for `counts` or, without them, for frequencies
        of 1 / (class + 1); all classes are in the head if there are few.
    counts : array_like, shape (V,), optional
        How often each class occurs. Without them, classes must be numbered by their frequency,
        the most frequent first; with them they may have any numbers.
    div_value : float, default 4.0
        The factor :math:`d`, at least 1.
    head_bias : bool, default False
        Whether the units of the head have a bias.
    bias : bool, default False
        Whether all have: the units of the head and the classes of the tails.
    dtype : {float32, float64}
        The dtype of the weights, the hidden vectors and the results.
    seed : int or numpy.random.Generator, optional
        If given, weights start normally distributed, with a standard deviation of one over the
        root of their vectors' length; else at zero, but for the projections, which are the same
        random ones then in every layer of this shape.

    Attributes
    ----------
    n_classes, n_features, dtype
        As given.
    cutoffs : tuple of int
    weight : ndarray, shape (cutoffs[0] + number of tails, D)
        Of the head: its classes in the order of their frequency, then the tails. Writable.
    bias : ndarray, shape (cutoffs[0] + number of tails,), or None
    tails : tuple
        Each has a `projection` (width, D), a `weight` (classes, width) and a `bias` (classes,) or
        None; its classes are in the order of their frequency. Writable.
    order : ndarray of int64, shape (V,), or None
        The classes in the order of their frequency; None if that is the order of their numbers.

    Raises
    ------
    ValueError
        If a size is less than 1, cutoffs do not increase from 1 to V - 1, or a count is negative,
        not finite, or all are 0.
    TypeError
        If `dtype` is neither float32 nor float64, or cutoffs are not integers.

    See Also
    --------
    LinearSoftmax : a score for each class, and no clusters.
    HierarchicalSoftmax : a tree of classes.

    Notes
    -----
    ``hidden`` is (N, D) in all methods and converted to `dtype` if necessary. NaN in a row makes
    its probabilities NaN, and it has no top classes. Only `log_prob_all` takes memory for (N, V)
    numbers. `from_torch` and `to_torch` convert layers of PyTorch.

    Examples
    --------
    >>> import numpy as np, boltzmax
    >>> layer = boltzmax.AdaptiveSoftmax(8, 1000, cutoffs=[10, 100], seed=0)
    >>> layer.tails
    (Tail(90 classes, width 2), Tail(900 classes, width 1))
    >>> hidden, target = np.eye(8)[:3], [2, 50, 900]
    >>> before = layer.loss(hidden, target)
    >>> for _ in range(20):
    ...     loss, d_hidden = layer.adagrad_step(hidden, target, lr=0.5)
    >>> layer.loss(hidden, target) < before / 2
    True
    """

    _kind = "boltzmax adaptive softmax, version 1"
    _frame = "the clusters"

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        cutoffs: ArrayLike | None = None,
        *,
        counts: ArrayLike | None = None,
        div_value: float = 4.0,
        head_bias: bool = False,
        bias: bool = False,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        width, n = check_count(n_features, "n_features", 1), check_count(n_classes, "n_classes", 1)
        divisor, all_biased = check_number(div_value, "div_value", 1, 1e30), as_flag(bias, "bias")
        order = None
        frequency = None
        if counts is not None:
            frequency = read_counts(counts, n)
            order = np.argsort(-frequency, kind="stable").astype(np.int64)
            frequency = frequency[order]
            if (order == np.arange(n)).all():
                order = None
        if cutoffs is None:
            if frequency is None:
                frequency = 1.0 / np.arange(1, n + 1)
            cuts = best_cutoffs(frequency, width, most_tails=tails_allowed(width, divisor))
        else:
            cuts = read_cutoffs(cutoffs, n)
        self._clusters = Clusters(n, cuts, order)
        rng = None if seed is None else random_generator(seed, "seed")
        biased = all_biased or as_flag(head_bias, "head_bias")
        super().__init__(self._clusters.n_units, width, biased, dtype, rng)
        widths = widths_of(len(cuts), width, divisor)
        self.tails = tuple(
            starting_tail(end - begin, widths[tail], width, self.dtype, rng)
            for tail, begin, end in self._clusters.tail_places()
        )
        if all_biased:
            for tail in self.tails:
                tail.bias = np.zeros(len(tail.weight), self.dtype)

    @property
    def _n_units(self) -> int:
        return self._clusters.n_units

    # ---- what goes in ----

    def _tail_arrays(self) -> Iterator[tuple[str, Array, tuple[int, ...]]]:
        """Yield the name of each array of the tails, the array, and the shape that it must have."""
        for i, begin, end in self._clusters.tail_places():
            tail, n = self.tails[i], end - begin
            width = np.shape(tail.projection)[0] if np.ndim(tail.projection) == 2 else 1
            shapes = {
                "projection": (width, self.n_features),
                "weight": (n, width),
                "bias": (n,),
            }
            for name, array in tail.parameters.items():
                yield f"tails[{i}].{name}", array, shapes[name]

    def _parameters(self) -> tuple[Array, Array | None]:
        for name, array, shape in self._tail_arrays():
            self._check(name, array, shape)
        return super()._parameters()

    def _check_writeable(self) -> None:
        super()._check_writeable()
        for name, array, _ in self._tail_arrays():
            if not array.flags.writeable:
                raise ValueError(f"{name} is read-only")

    def _targets(self, target: ArrayLike, rows: int, ignore_index: int | None = None) -> Targets:
        return read_layer_targets(target, rows, self._clusters, ignore_index)

    # ---- probabilities ----

    @quietly
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
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        classes, counted = self._target(target, len(x)), np.ones(len(x), np.bool_)
        (route,) = Targets(self._clusters, classes, counted).routes()
        found = linear_log_prob(x, weight, route.head, bias)
        for tail, some, within in route.tails:
            of_tail = self.tails[tail]
            h = x[some] @ of_tail.projection.T
            found[some] += linear_log_prob(h, of_tail.weight, within, of_tail.bias)
        return found

    @quietly
    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes)."""
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        return self._log_prob_all(x, weight, bias)

    def _log_prob_all(self, x: Array, weight: Array, bias: Array | None) -> Array:
        clusters = self._clusters
        head = _log_softmax(x, weight, bias)
        found = np.empty((len(x), clusters.n_classes), self.dtype)
        found[:, clusters.columns(0, clusters.shortlist)] = head[:, : clusters.shortlist]
        for i, begin, end in clusters.tail_places():
            tail, unit = self.tails[i], clusters.shortlist + i
            within = _log_softmax(x @ tail.projection.T, tail.weight, tail.bias)
            within += head[:, unit : unit + 1]
            found[:, clusters.columns(begin, end)] = within
        return found

    # ---- learning ----

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
        r"""Return the loss of all rows, :math:`-\log p(t)` or :math:`-\sum_c q_c \log p(c)`.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like
            The class :math:`t` of each row, integers (N,); or class probabilities :math:`q`, floats
            (N, V), which need not sum to 1. Of these, tails concern the rows that have any other
            than 0.
        sample_weight : array_like, shape (N,), optional
            Multiplies the loss of each row.
        ignore_index : int, optional
            Rows of this target do not count; their loss is 0.
        reduction : {"mean", "sum", "none"}
            The mean is over the weights of the rows that count, and NaN without any.

        Returns
        -------
        float, or ndarray of `dtype`, shape (N,)
        """
        how = checked_reduction(reduction)
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        targets = self._targets(target, len(x), ignore_index)
        weights = Weights(weight, bias, self.tails)
        return reduced_loss(weights, x, targets, read_sample_weight(sample_weight, len(x)), how)

    @quietly
    def loss_with_grad(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> AdaptiveGradient:
        """Return the loss and its gradients.

        Parameters
        ----------
        hidden, target, sample_weight, ignore_index : see `loss`
        reduction : {"mean", "sum"}

        Returns
        -------
        loss : float
            As returned by `loss`.
        d_hidden : ndarray, shape (N, D)
        d_weight : ndarray, shape (units of the head, D)
        d_bias : ndarray, shape (units of the head,), or None
        tails : tuple
            For each tail `d_projection`, `d_weight` and `d_bias`; None for a tail that has no
            target, whose gradients are 0.
        """
        how = checked_reduction(reduction, with_grad=True)
        x, parameters = self._hidden(hidden), self._parameters()
        targets = self._targets(target, len(x), ignore_index)
        of_row = np.where(targets.counted, read_sample_weight(sample_weight, len(x)), 0.0)
        scale = of_row / of_row.sum() if how == "mean" else of_row
        gradient = gradient_of_targets(Weights(*parameters, self.tails), x, targets, scale)
        return gradient if len(x) or how == "sum" else gradient._replace(loss=np.nan)

    def sgd_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        ignore_index: int | None = None,
    ) -> tuple[float, Array]:
        """Take a step along the negative sum of the gradients of all rows, in place.

        Tails without a target do not change.

        Parameters
        ----------
        hidden, target, sample_weight, ignore_index : see `loss`
        lr : float
            The learning rate: ``weight -= lr * gradient of the sum of -log p(target)``.

        Returns
        -------
        loss : float
            The weighted mean of -log p(target) before the step.
        d_hidden : ndarray, shape (N, D)
            The gradient of each row's weighted loss with respect to its hidden vector.
        """
        return self._descend(hidden, target, lr, sample_weight, ignore_index, None)

    def adagrad_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        eps: float = 1e-10,
        ignore_index: int | None = None,
    ) -> tuple[float, Array]:
        """Step as `sgd_step` does, with a separate learning rate for every unit.

        Row-wise Adagrad: the mean square of the gradient of each row of weights or of a projection,
        including its bias's, is summed over the steps, and the rate of the row is
        ``lr / (sqrt(sum) + eps)`` (Duchi, Hazan & Singer, JMLR 2011). It stores one number per row.

        Parameters
        ----------
        hidden, target, lr, sample_weight, ignore_index : see `sgd_step`
        eps : float, default 1e-10
            Keeps the first steps finite.
        """
        check_number(eps, "eps", 0, 1e30)
        return self._descend(hidden, target, lr, sample_weight, ignore_index, eps)

    @quietly
    def _descend(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None,
        ignore_index: int | None,
        eps: float | None,
    ) -> tuple[float, Array]:
        """Take a step by SGD or, if `eps` is given, by Adagrad."""
        rate, parameters = read_rate(lr), self._parameters()
        self._check_writeable()
        x = self._hidden(hidden)
        if overlaps(x, *parameters, *(array for _, array, _ in self._tail_arrays())):
            x = x.copy()  # the step must not change its own input
        targets = self._targets(target, len(x), ignore_index)
        of_row = np.where(targets.counted, read_sample_weight(sample_weight, len(x)), 0.0)
        weights = Weights(*parameters, self.tails)
        gradient = gradient_of_targets(weights, x, targets, of_row)
        if eps is not None:
            self._squares = self._sums_of_squares()
        take_step(weights, gradient, rate, eps, self._squares)
        return float(np.float64(gradient.loss) / of_row.sum()), gradient.d_hidden

    # ---- queries ----

    @quietly
    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        Exact. A tail is opened for a row only if it is likely enough to hold one of them: no class
        is likelier than its tail.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        k : int
            From 1 to the number of classes.
        min_prob : float, default 0.0
            Leave out classes of a lower probability.

        Returns
        -------
        ids : ndarray of int64, shape (N, k)
            The likeliest first, ties in favour of the lower class; -1 where there are no more.
        log_probs : ndarray of `dtype`, shape (N, k)
            -inf where there are no more.
        """
        count, least = check_count(k, "k", 1, self.n_classes), read_min_prob(min_prob)
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        found = top_of_clusters(self._clusters, self.tails, x, weight, bias, count, least)
        for some in found.doubtful_blocks():
            found.decide(some, self._log_prob_all(x[some], weight, bias))
        return found.result()

    @quietly
    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        """Draw a class for each row, (N,).

        Exact, from two uniform numbers per row, one for the unit of the head and one for the class
        of a tail: the same classes for the same seed. A row with NaN, +inf or no finite logit is a
        ValueError that names it, or, with errors="mark", has the class -1.
        """
        x, (weight, bias) = self._hidden(hidden), self._parameters()
        marks = are_marked(errors)
        levels = random_generator(rng).random((2, len(x)))
        units = sample_at(x, weight, bias, levels[0])
        places = units.copy()
        for i, begin, _ in self._clusters.tail_places():
            tail, some = self.tails[i], np.flatnonzero(units == self._clusters.shortlist + i)
            if len(some):
                h = x[some] @ tail.projection.T
                within = sample_at(h, tail.weight, tail.bias, levels[1, some])
                places[some] = np.where(within < 0, -1, begin + within)
        if not marks:
            refuse_bad_rows(places < 0, places.shape)
        return self._clusters.classes(places)

    # ---- fewer bits ----

    def quantize(self, bits: int = 8, **options: Any) -> QuantizedAdaptiveSoftmax:
        """Return a layer of the same weights in fewer bits, which answers but does not learn.

        The projections of the tails, which are few numbers, are copied as they are.

        Parameters
        ----------
        bits : {8, 4}, default 8
            Of a weight.
        **options
            Those of `QuantizedLinear`.

        Returns
        -------
        QuantizedAdaptiveSoftmax

        Raises
        ------
        ValueError
            If a weight is not finite; the message names the row.
        """
        weight, bias = self._parameters()
        head = QuantizedLinear(weight, bias, bits=bits, **options)
        tails = []
        for i, tail in enumerate(self.tails):
            if not np.isfinite(tail.projection).all():
                raise ValueError(f"tails[{i}].projection must be finite")
            linear = QuantizedLinear(tail.weight, tail.bias, bits=bits, **options)
            tails.append(QuantizedTail(np.array(tail.projection, order="C"), linear))
        return QuantizedAdaptiveSoftmax(self._clusters, head, tuple(tails), self.dtype)

    # ---- files ----

    def _arrays(self) -> dict[str, Any]:
        clusters = self._clusters
        arrays: dict[str, Any] = {"bounds": np.array(clusters.bounds, np.int64)}
        if clusters.order is not None:
            arrays["order"] = clusters.order
        for i, tail in enumerate(self.tails):
            arrays |= {f"tail{i}_{name}": array for name, array in tail.arrays().items()}
        return arrays | super()._arrays()

    @classmethod
    def _new(cls, arrays: dict[str, Array], n_features: int, dtype: np.dtype[Any]) -> Self:
        # All sizes are compared before a layer takes memory for what `bounds` says.
        clusters = clusters_from_arrays(arrays, arrays["weight"].shape)
        tails = tuple(
            tail_from_arrays(arrays, f"tail{i}_", end - begin, n_features, dtype)
            for i, begin, end in clusters.tail_places()
        )
        layer = cls(n_features, clusters.n_classes, clusters.cutoffs, dtype=dtype)
        layer._clusters, layer.tails = clusters, tails
        return layer

    @classmethod
    def from_torch(cls, state_dict: Any, *, order: ArrayLike | None = None) -> Self:
        """Return a layer with the weights of a ``torch.nn.AdaptiveLogSoftmaxWithLoss``, copied.

        Parameters
        ----------
        state_dict : mapping or torch.nn.AdaptiveLogSoftmaxWithLoss
            The module's ``state_dict()``, of tensors on any device or arrays, or the module.
        order : array_like of int, shape (V,), optional
            The class that each of the module's classes is here, as `to_torch` returns it.

        Raises
        ------
        ValueError
            If arrays are missing or their shapes do not match.
        TypeError
            If they are neither float32 nor float64.
        """
        arrays = read_torch_state(state_dict)
        if order is not None:
            arrays["order"] = unmasked_ids(order, "order")
        return cls._from_arrays(arrays)

    def to_torch(self) -> TorchAdaptive:
        """Return the same layer as a PyTorch module, with copies of the weights.

        Returns
        -------
        module : torch.nn.AdaptiveLogSoftmaxWithLoss
            Its class i is class ``order[i]`` of this layer.
        order : ndarray of int64, shape (V,), or None
            As the attribute. The targets of the module are places in it,
            ``np.argsort(order)[target]``.

        Raises
        ------
        ValueError
            If the tails have biases, which the module does not have.
        ImportError
            If PyTorch is not installed.
        """
        self._parameters()
        return TorchAdaptive(
            torch_module(self.weight, self.bias, self._clusters, self.tails), self.order
        )

    def __repr__(self) -> str:
        sizes = f"{self.n_features}, {self.n_classes}, cutoffs={list(self.cutoffs)}"
        return f"{type(self).__name__}({sizes}, dtype={self.dtype})"


def _log_softmax(x: Array, weight: Array, bias: Array | None) -> Array:
    scores = x @ weight.T
    if bias is not None:
        scores += bias
    return _core.log_softmax(scores, -1, out=scores)

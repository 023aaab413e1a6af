r"""Losses of a linear layer that read the target and some drawn classes of each row.

The drawn classes, the candidates, are the negatives of all rows, or each row has its own.  The
candidates' logits are one matrix product and the gradients two more: no work depends on the number
of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, quietly
from boltzmax._lib.same_kind import same_kind
from boltzmax._lib.shared_docs import document_loss
from boltzmax._lib.targets import Wanted, checked_targets
from boltzmax.linear.draws import Classes, Floats, Layer, Wishes, read_draws, read_layer
from boltzmax.linear.negatives import (
    Candidates,
    Gradients,
    SampledGradient,
    candidates_of,
    read_scores,
)
from boltzmax.linear.scores import NO_SHARES, Totals
from boltzmax.losses.reduction import REDUCTIONS, Reduction, read_reduction

Array = NDArray[Any]


def sampled_softmax_loss(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = True,
    correct: bool = True,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> Any:
    r"""Compute the cross-entropy of each target among itself and drawn classes.

    With the logits :math:`x = h_i \cdot w_c + b_c`, candidates :math:`c_1, \ldots, c_n` and the
    expected number :math:`Q_c` of a class among them, the loss of a row is

    .. math:: \log \Bigl(e^{x_t} + \sum_j e^{x_{c_j} - \log Q_{c_j}}\Bigr) - x_t .

    {layer}
    sampler : object or tuple
        An object with the methods `sample` and `log_expected_count` of those in
        :mod:`boltzmax.candidates`; or the tuple ``(ids, log_q)``, which it would return:
        candidates, (n,) or (..., n), and :math:`\log Q` of each. All rows share the candidates of
        a sampler; `QuadraticKernelSampler.sample` with per_row=True draws some for each.
    {n}
    {bias}
    remove_hits : bool, default True
        Whether candidates that are the target of a row do not count in it. Then the sum is
        unbiased: its mean over draws is that over all classes. Otherwise a hit is one more term,
        and the target counts twice on average.
    correct : bool, default True
        Whether the logits are corrected by :math:`\log Q`. If not, the sum has frequent candidates
        too often, and does not tend to that over all classes; `log_q` is not read.
    {rows}
    {sample_weight}
    {empty}

    Returns
    -------
    {result}

    Raises
    ------
    {errors}

    See Also
    --------
    sampled_softmax_loss_with_grad : the loss and its gradients.
    linear_cross_entropy : the loss with all classes.
    sampling_bias_report : how far this loss is from that with all classes.

    Notes
    -----
    The correction is that of importance sampling (Bengio & Senecal), for the candidates alone: the
    target is in the sum with certainty, so that its logit stays as it is. Then loss and gradient
    tend to those of `linear_cross_entropy` as `n` grows; a form that also subtracts
    :math:`\log Q_t` from the target's logit does not have this limit. For finite `n`, the sum is
    unbiased, its logarithm too small on average. With all classes as candidates, once each,
    and `log_q` of 0, it *is* the cross-entropy.

    {notes}

    References
    ----------
    Bengio & Senecal, "Quick training of probabilistic neural nets by importance sampling",
    AISTATS 2003; Jean, Cho, Memisevic & Bengio, "On using very large target vocabulary for neural
    machine translation", ACL 2015, https://arxiv.org/abs/1412.2007.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_cross_entropy, sampled_softmax_loss
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(4, 8)), rng.normal(size=(1000, 8))
    >>> ids = rng.integers(1000, size=500)                    # uniform: each class half a time
    >>> log_q = np.full(500, np.log(500 / 1000))
    >>> print(sampled_softmax_loss(hidden, weight, [1, 2, 3, 4], (ids, log_q)).round(2))
    10.73
    >>> print(linear_cross_entropy(hidden, weight, [1, 2, 3, 4]).round(2))
    10.88
    """
    options = _Options(remove_hits, rng, ignore_index, reduction, sample_weight, empty)
    loss = _Loss(_softmax, Wishes(log_q=as_flag(correct, "correct")))
    return _evaluate(loss, hidden, weight, target, sampler, n, bias, options, False)


def sampled_softmax_loss_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = True,
    correct: bool = True,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> SampledGradient:
    r"""Compute `sampled_softmax_loss` and its gradients.

    With the softmax :math:`p` over the target and the candidates, the gradient with respect to
    the target's logit is :math:`p_t - 1`, and with respect to a candidate's :math:`p_j`.

    {parameters}

    Returns
    -------
    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import sampled_softmax_loss_with_grad
    >>> ids, log_q = np.array([7, 7, 2]), np.zeros(3)
    >>> gradient = sampled_softmax_loss_with_grad([[1.0]], np.zeros((9, 1)), [5], (ids, log_q))
    >>> gradient.unit_ids
    array([2, 5, 7])
    >>> gradient.d_weight.ravel()                  # the target's is p - 1; 7 was drawn twice
    array([ 0.25, -0.75,  0.5 ])
    """
    options = _Options(remove_hits, rng, ignore_index, reduction, sample_weight, empty)
    loss = _Loss(_softmax, Wishes(log_q=as_flag(correct, "correct")))
    gradient: SampledGradient
    gradient = _evaluate(loss, hidden, weight, target, sampler, n, bias, options, True)
    return gradient


def nce_loss(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = False,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> Any:
    r"""Compute the noise-contrastive loss, in which the target is told from drawn classes.

    With the logits :math:`x`, candidates :math:`c_1, \ldots, c_n` and the expected number
    :math:`Q_c` of a class among them, the loss of a row is that of :math:`n + 1` yes-or-no
    questions,

    .. math:: -\log \sigma(x_t - \log Q_t) - \sum_j \log \sigma(-(x_{c_j} - \log Q_{c_j})) .

    {layer}
    sampler : object or tuple
        An object with the methods `sample` and `log_expected_count` of those in
        :mod:`boltzmax.candidates`; or the tuple ``(ids, log_q, target_log_q)``:
        candidates, (n,) or (..., n), :math:`\log Q` of each, and that of the targets, (...), -inf
        for one that is never drawn.
    {n}
    {bias}
    remove_hits : bool, default False
        Whether candidates that are the target of a row do not count in it. The noise of
        noise-contrastive estimation may be the target: only then is the loss consistent.
    {rows}
    {sample_weight}
    {empty}

    Returns
    -------
    {result}

    Raises
    ------
    {errors}

    See Also
    --------
    nce_loss_with_grad : the loss and its gradients.
    sampled_softmax_loss : nearer to the softmax for the same candidates.

    Notes
    -----
    At the minimum the logits are normalised log-probabilities, without any sum over the classes:
    :math:`e^{x_c}` is the probability of the class. Start with a bias near :math:`-\log V`.

    {notes}

    References
    ----------
    Gutmann & Hyvarinen, "Noise-contrastive estimation: a new estimation principle for unnormalized
    statistical models", AISTATS 2010; Mnih & Teh, "A fast and simple algorithm for training neural
    probabilistic language models", ICML 2012, https://arxiv.org/abs/1206.6426.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import nce_loss
    >>> given = np.array([7, 2]), np.log([0.5, 0.5]), np.log([0.5])
    >>> print(nce_loss([[1.0]], np.full((9, 1), np.log(0.5)), [5], given).round(6))   # 3 log 2
    2.079442
    """
    options = _Options(remove_hits, rng, ignore_index, reduction, sample_weight, empty)
    loss = _Loss(_logistic, Wishes(of_target=True))
    return _evaluate(loss, hidden, weight, target, sampler, n, bias, options, False)


def nce_loss_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = False,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> SampledGradient:
    r"""Compute `nce_loss` and its gradients.

    The gradient with respect to the target's logit is :math:`-\sigma(\log Q_t - x_t)`, and with
    respect to a candidate's :math:`\sigma(x_{c_j} - \log Q_{c_j})`.

    {parameters}

    Returns
    -------
    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import nce_loss_with_grad
    >>> given = np.array([7, 2]), np.zeros(2), np.zeros(1)
    >>> nce_loss_with_grad([[1.0]], np.zeros((9, 1)), [5], given).d_weight.ravel()
    array([ 0.5, -0.5,  0.5])
    """
    options = _Options(remove_hits, rng, ignore_index, reduction, sample_weight, empty)
    loss = _Loss(_logistic, Wishes(of_target=True))
    gradient: SampledGradient
    gradient = _evaluate(loss, hidden, weight, target, sampler, n, bias, options, True)
    return gradient


def negative_sampling_loss(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = True,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> Any:
    r"""Compute the loss of word2vec: yes for the target, no for drawn classes.

    With the logits :math:`x` and candidates :math:`c_1, \ldots, c_n`, the loss of a row is

    .. math:: -\log \sigma(x_t) - \sum_j \log \sigma(-x_{c_j}) .

    {layer}
    sampler : object, array_like of int, or tuple
        An object with the method `sample` of those in
        :mod:`boltzmax.candidates`; or the candidates, (n,) or (..., n); or a tuple, of
        which only these, the first part, are read.
    {n}
    {bias}
    remove_hits : bool, default True
        Whether candidates that are the target of a row do not count in it, as in word2vec.
    {rows}
    {sample_weight}
    {empty}

    Returns
    -------
    {result}

    Raises
    ------
    {errors}

    See Also
    --------
    negative_sampling_loss_with_grad : the loss and its gradients.
    nce_loss : the same with the frequencies of the candidates.

    Notes
    -----
    It learns vectors, not probabilities: at the minimum :math:`x_c` is
    :math:`\log p_c - \log Q_c`, with the expected number :math:`Q_c` of a class among the
    candidates (Levy & Goldberg, NeurIPS 2014). word2vec draws from the counts to the power 3/4.

    {notes}

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado & Dean, "Distributed representations of words and phrases and
    their compositionality", NeurIPS 2013, https://arxiv.org/abs/1310.4546.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import negative_sampling_loss
    >>> print(negative_sampling_loss([[1.0]], np.zeros((9, 1)), [5], [7, 2]).round(6))   # 3 log 2
    2.079442
    """
    options = _Options(remove_hits, rng, ignore_index, reduction, sample_weight, empty)
    loss = _Loss(_logistic, Wishes(log_q=False))
    return _evaluate(loss, hidden, weight, target, sampler, n, bias, options, False)


def negative_sampling_loss_with_grad(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    *,
    n: int | None = None,
    bias: ArrayLike | None = None,
    remove_hits: bool = True,
    rng: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    sample_weight: ArrayLike | None = None,
    empty: str = "nan",
) -> SampledGradient:
    r"""Compute `negative_sampling_loss` and its gradients.

    The gradient with respect to the target's logit is :math:`-\sigma(-x_t)`, and with respect to
    a candidate's :math:`\sigma(x_{c_j})`.

    {parameters}

    Returns
    -------
    {gradients}

    {raises}

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import negative_sampling_loss_with_grad
    >>> gradient = negative_sampling_loss_with_grad([[1.0]], np.zeros((9, 1)), [5], [7, 2])
    >>> gradient.d_weight.ravel()
    array([ 0.5, -0.5,  0.5])
    """
    options = _Options(remove_hits, rng, ignore_index, reduction, sample_weight, empty)
    loss = _Loss(_logistic, Wishes(log_q=False))
    gradient: SampledGradient
    gradient = _evaluate(loss, hidden, weight, target, sampler, n, bias, options, True)
    return gradient


class _Options(NamedTuple):
    """The arguments that all losses share, besides the layer, the targets and the sampler."""

    remove_hits: bool
    rng: Any
    ignore_index: int
    reduction: str
    sample_weight: ArrayLike | None
    empty: str


class _Block(NamedTuple):
    """A block of rows: its hidden vectors, the scores of its targets, and what to do with it."""

    x: Array
    own: Floats
    scale: Floats
    gradients: Gradients | None


class _Loss(NamedTuple):
    """What distinguishes the losses.

    `rows` returns the losses of a block of rows and their derivatives by the targets' scores, and
    adds the gradients by the candidates' scores, each times the scale of its row.
    """

    rows: Callable[[Candidates, _Block], tuple[Floats, Floats]]
    wishes: Wishes


def _softmax(candidates: Candidates, block: _Block) -> tuple[Floats, Floats]:
    r"""Return log(1 + exp(-m)) and its derivative by m = s_t - log sum_j exp(s_j).

    The derivative by s_j is sigma(-m) times the candidate's softmax among the candidates.
    """
    x = block.x
    totals = Totals(len(x), label=np.full(len(x), -1))  # no column is a label
    for s in read_scores(candidates, x, totals):
        candidates.last = s
    own = np.where(np.isposinf(block.own), np.nan, block.own)  # inf - inf, as over all classes
    margin = (own - totals.reference) - totals.from_reference
    losses = np.logaddexp(0.0, -margin)
    pull = -np.expm1(-losses)  # sigma(-m)
    if block.gradients is None:
        return losses, -pull
    only_hits = np.isneginf(totals.from_reference)
    totals.from_reference[only_hits] = 0.0
    for tile in candidates.tiles:
        scored = len(candidates.tiles) == 1  # it is still in the buffer
        s = candidates.last if scored else candidates.product(x, tile)
        _core.linear_slopes(
            s,
            tile.start,
            scored,
            *candidates.scoring(tile),
            NO_SHARES.of((), tile, candidates.dtype),
            totals.columns,
            pull,
            0.0,
            block.scale,
            candidates.column_sums(tile),
        )
        candidates.add(block.gradients, x, tile, s)
    return losses, -pull


def _logistic(candidates: Candidates, block: _Block) -> tuple[Floats, Floats]:
    """Return -log sigma(s_t) - sum_j log sigma(-s_j), and its derivative by s_t."""
    losses = np.logaddexp(0.0, -block.own)
    pull = -np.expm1(-losses)  # sigma(-s_t)
    scale = None if block.gradients is None else block.scale
    for tile in candidates.tiles:
        s = candidates.product(block.x, tile)
        bias = candidates.scoring(tile)[0]
        _core.logistic_tile(s, bias, scale, losses, candidates.column_sums(tile))
        if block.gradients is not None:
            candidates.add(block.gradients, block.x, tile, s)
    return losses, -pull


@same_kind
@quietly
def _evaluate(
    loss: _Loss,
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    sampler: Any,
    n: int | None,
    bias: ArrayLike | None,
    options: _Options,
    with_grad: bool,
) -> Any:
    """Return the loss, or, `with_grad`, a `SampledGradient`."""
    layer = read_layer(hidden, weight, bias)
    remove_hits = as_flag(options.remove_hits, "remove_hits")
    classes, counted, reduce = _read_rows(layer, target, options, with_grad)
    draws = read_draws(sampler, n, options.rng, layer, classes, counted, loss.wishes)
    x, t = layer.vectors(counted), classes[counted]
    own = np.empty(len(x))
    _core.dot_rows(x, None, *layer.unit_rows(t), own)
    own += layer.biases(t) - draws.of_target
    candidates = candidates_of(layer, x, draws, t if remove_hits else None)
    gradients = Gradients(layer, x, draws.ids, t) if with_grad else None
    scale, slope, losses = reduce.scale()[counted], np.empty(len(x)), np.zeros(len(counted))
    of_rows = np.empty(len(x))
    for where, some in candidates.blocks():
        block = _Block(some, own[where], scale[where], gradients)
        of_rows[where], slope[where] = loss.rows(candidates, block)
    losses[counted] = of_rows
    if gradients is None:
        return reduce(losses)
    candidates.finish(gradients)
    gradients.add_targets(layer, x, t, slope * scale)
    return _delivered(reduce(losses), gradients, layer, counted)


def _read_rows(
    layer: Layer, target: ArrayLike, options: _Options, with_grad: bool
) -> tuple[Classes, NDArray[np.bool_], Reduction]:
    """Return the targets, which rows count, and the reduction of their losses."""
    wanted = Wanted(layer.rows, layer.n_classes)
    classes, counted = checked_targets(target, wanted, options.ignore_index)
    reduce = read_reduction(
        options.reduction,
        options.sample_weight,
        options.empty,
        shape=layer.rows,
        dtype=layer.dtype,
        counted=counted,
        own=np.ones(len(counted)),
        with_grad=with_grad,
    )
    return classes, counted & (not reduce.is_zero), reduce


def _delivered(
    loss: Any, gradients: Gradients, layer: Layer, counted: NDArray[np.bool_]
) -> SampledGradient:
    """Return the gradients in the shapes of the arguments; rows that do not count have zeros."""
    d_hidden = gradients.hidden
    if not counted.all():
        d_hidden = np.zeros((len(counted), layer.width), layer.dtype)
        d_hidden[counted] = gradients.hidden
    bias = None if gradients.bias is None else gradients.bias.astype(layer.dtype)
    shape = (*layer.rows, layer.width)
    return SampledGradient(
        loss, d_hidden.reshape(shape), gradients.unit_ids, gradients.weight, bias
    )


_SHARED = {
    "layer": """
Parameters
----------
hidden : array_like, shape (..., D)
    One row :math:`h_i` for each target.
weight : array_like, shape (V, D)
    One row for each class, of which only those of targets and candidates are read; it may be a
    memory map.
target : array_like of int, shape (...)
    The class :math:`t` of each row.
""",
    "n": """
n : int, optional
    How many candidates to draw; a sampler needs it. If no row counts, none are drawn.
""",
    "bias": """
bias : array_like, shape (V,), optional
    Added to the logits.
""",
    "rows": """
rng : optional
    Passed to the sampler: an int, a Generator, or None.
ignore_index : int, default -100
    Rows of this target do not count; they are not even computed.
reduction : {"mean", "sum", "none"}, default "mean"
    What to return; the mean divides by the sum of the weights of the rows that count.
""",
    "result": """
scalar or ndarray
    float64 if `hidden` or `weight` is float64 or integer, otherwise float32.
""",
    "errors": """
TypeError
    If an argument has an unsupported dtype, or `sampler` is none, or `n` is missing.
ValueError
    If shapes do not match, there are no candidates, `log_q` is not finite, the sampler has another
    number of classes, or an option is out of range.
IndexError
    If a target or a candidate is not a class; the message names the first.
""",
    "notes": """
Candidates may be (n,), the negatives of all rows, or (..., n), those of each row; one that was
drawn twice counts twice. Shared candidates take three matrix products of their size, the softmax
four if there are more than 2**14, and tiles of at most 2**21 logits; a row's own candidates are
read one by one.
Where the loss of a row is NaN, so are its gradients.
""",
    "gradients": """
SampledGradient
    A named tuple: ``loss``; ``d_hidden``, (..., D), 0 in ignored rows; ``unit_ids``, (U,), the
    targets and candidates, ascending, each once; ``d_weight``, (U, D), and ``d_bias``, (U,), or
    None without a bias, the gradients of these classes: those of all others are 0. Gradients
    have the dtype of the loss.
""",
}

for _function, _with_grad in (
    (sampled_softmax_loss, sampled_softmax_loss_with_grad),
    (nce_loss, nce_loss_with_grad),
    (negative_sampling_loss, negative_sampling_loss_with_grad),
):
    document_loss(_function, _with_grad, REDUCTIONS, more=_SHARED)

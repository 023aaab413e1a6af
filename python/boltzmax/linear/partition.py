"""Estimates of the logsumexp of a linear layer from drawn classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._core import logsumexp
from boltzmax._lib.arguments import quietly
from boltzmax._lib.same_kind import same_kind
from boltzmax.linear.draws import Draws, Floats, Layer, Wishes, read_draws, read_layer
from boltzmax.linear.negatives import candidates_of, read_scores
from boltzmax.linear.scores import Totals

Array = NDArray[Any]


class PartitionEstimate(NamedTuple):
    """Estimates of the logarithm of a sum over all classes.

    Attributes
    ----------
    estimate : ndarray, shape (...)
        The estimate for each row.
    standard_error : ndarray, shape (...)
        Its standard error.
    """

    estimate: Array
    standard_error: Array


@same_kind
@quietly
def log_partition_estimate(
    hidden: ArrayLike,
    weight: ArrayLike,
    sampler: Any,
    n: int | None = None,
    *,
    bias: ArrayLike | None = None,
    rng: Any = None,
) -> PartitionEstimate:
    r"""Estimate :math:`\log Z_i = \log \sum_c e^{h_i \cdot w_c + b_c}` from drawn classes.

    With candidates :math:`c_1, \ldots, c_n`, the expected number :math:`Q_c` of a class among them
    and the terms :math:`u_j = e^{x_{c_j} - \log Q_{c_j}}`, the estimate is
    :math:`\log \hat Z = \log \sum_j u_j`, and its standard error
    :math:`\sqrt{n \operatorname{Var}(u)} / \hat Z`.

    Parameters
    ----------
    hidden : array_like, shape (..., D)
        One row for each estimate.
    weight : array_like, shape (V, D)
        One row for each class, of which only those of candidates are read.
    sampler : object or tuple
        An object with the method `sample` of those in :mod:`boltzmax.candidates`; or the tuple
        ``(ids, log_q)``, which it would return.
    n : int, optional
        How many candidates to draw, at least 2; a sampler needs it.
    bias : array_like, shape (V,), optional
        Added to the logits.
    rng : optional
        Passed to the sampler: an int, a Generator, or None.

    Returns
    -------
    PartitionEstimate
        A named tuple: ``estimate`` and ``standard_error``, each (...), float64 if `hidden` or
        `weight` is float64 or integer, otherwise float32.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype, or `sampler` is none, or `n` is missing.
    ValueError
        If shapes do not match, there are fewer than two candidates, `log_q` is not finite, or the
        sampler has another number of classes.
    IndexError
        If a candidate is not a class; the message names the first.

    See Also
    --------
    linear_logsumexp : the sum over all classes.
    sampling_bias_report : how far such estimates are off.

    Notes
    -----
    This is importance sampling: :math:`\hat Z` is unbiased, and its logarithm too small by about
    half the square of the standard error. That error is from the delta method for independent
    draws; it is too large for draws without replacement. It is only as good as the sample: where a
    few classes that the sampler hardly ever draws make up the sum, both are too small, and nothing
    in the sample shows it. Rows that share candidates have dependent errors.

    References
    ----------
    Owen, "Monte Carlo theory, methods and examples", 2013, chapter 9.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import linear_logsumexp, log_partition_estimate
    >>> from boltzmax.candidates import UniformSampler
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(2, 8)) / 4, rng.normal(size=(100_000, 8))
    >>> sampler = UniformSampler(100_000)
    >>> estimate, error = log_partition_estimate(hidden, weight, sampler, 1000, rng=0)
    >>> bool((abs(estimate - linear_logsumexp(hidden, weight)) < 3 * error).all())
    True
    >>> bool((error < 0.05).all())
    True
    """
    layer = read_layer(hidden, weight, bias)
    rows = int(np.prod(layer.rows))
    every = np.ones(rows, np.bool_)
    draws = read_draws(sampler, n, rng, layer, np.zeros(0, np.int64), every, Wishes())
    count = draws.ids.shape[-1]
    if count < 2:
        raise ValueError("a standard error needs at least 2 candidates, got 1")
    log_z, log_squares = log_sums(layer, draws)
    # n Var(u) / Z^2 = (n sum u^2 / Z^2 - 1) / (n - 1)
    variance = (count * np.exp(log_squares - 2.0 * log_z) - 1.0) / (count - 1)
    error = np.sqrt(np.maximum(variance, 0.0))
    return PartitionEstimate(
        *(a.astype(layer.dtype).reshape(layer.rows)[()] for a in (log_z, error))
    )


def log_sums(layer: Layer, draws: Draws) -> tuple[Floats, Floats]:
    """Return the logarithms of the sums of u and of u squared over the candidates of each row."""
    x = layer.vectors(np.ones(int(np.prod(layer.rows)), np.bool_))
    candidates = candidates_of(layer, x, draws, None)
    totals = Totals(len(x))
    squares = np.full(len(x), -np.inf)
    for where, some in candidates.blocks():
        for s in read_scores(candidates, some, totals.part(where)):
            squares[where] = np.logaddexp(squares[where], logsumexp(s, temperature=0.5))
    return totals.lse, squares

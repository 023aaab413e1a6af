r"""Contrastive losses of pairs of vectors, without the matrix of their products.

The products of `N` queries and `N` keys are computed in tiles, once for the logsumexp of rows, and
of columns, and once more for the gradients: four matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, check_count, check_temperature, quietly
from boltzmax._lib.same_kind import same_kind
from boltzmax.linear.scores import (
    NO_SHARES,
    Products,
    Rows,
    Scores,
    Totals,
    computed_dtype,
    matrix,
)

Array = NDArray[Any]
Classes = NDArray[np.int64]
Floats = NDArray[np.float64]


SIDE = 512  # rows and columns of a tile of scores, which then stays in the second-level cache
FEW_ROWS = 128  # if that many rows with all columns fit into a tile, scores are computed once
# Numbers in such a tile, and in the buffer of products: with 4,096 columns of 256 features, twice
# and four times the usual took 0.85 of the time.
_WHOLE_ROWS, _PRODUCT = 2**21, 2**20


class ContrastiveGradient(NamedTuple):
    """A contrastive loss and its gradients.

    Attributes
    ----------
    loss : scalar
        The loss.
    d_query, d_key : ndarray, shape (N, D)
        The gradients with respect to both sides of the pairs.
    d_negatives : ndarray, shape (M, D), or None
        The gradient with respect to the further negatives, if there are any.
    d_temperature : float
        The derivative with respect to the temperature.
    """

    loss: Any
    d_query: Array
    d_key: Array
    d_negatives: Array | None
    d_temperature: float


def info_nce(
    query: ArrayLike,
    key: ArrayLike,
    *,
    temperature: float = 0.07,
    symmetric: bool = False,
    own_view: bool = False,
    negatives: ArrayLike | None = None,
    tile: int | None = None,
) -> Any:
    r"""Compute the contrastive loss of pairs of vectors: each query's key among all keys.

    With the scores :math:`s_{ij} = q_i \cdot k_j / \tau`, the loss is

    .. math:: \frac1N \sum_i \Bigl(\log \sum_j e^{s_{ij}} - s_{ii}\Bigr) .

    Parameters
    ----------
    query : array_like, shape (N, D)
        The vectors :math:`q_i`, used as they are: normalise them for cosines.
    key : array_like, shape (N, D)
        The vectors :math:`k_j`; row i is the positive of query i, and a negative of all others.
    temperature : float, default 0.07
        The temperature :math:`\tau`.
    symmetric : bool, default False
        Whether keys also look for their queries: the loss is the mean of both directions, as in
        CLIP.
    own_view : bool, default False
        Whether the other vectors of its own side are negatives, too: of a query the other queries
        and, if `symmetric`, of a key the other keys. With both, it is the loss of SimCLR (NT-Xent)
        for two views of N images.
    negatives : array_like, shape (M, D), optional
        Vectors that are nobody's positive, such as a queue of earlier keys. They are among the keys
        of each query; those of each key, if `symmetric` and `own_view`.
    tile : int, optional
        How many rows and columns of scores exist at once, at most; by default, 2**20 scores. If all
        fit, they are computed once; otherwise twice for a gradient.

    Returns
    -------
    scalar
        float64 if an array is float64 or integer, otherwise float32. NaN without pairs.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype.
    ValueError
        If shapes do not match, or `temperature` or `tile` is out of range.

    See Also
    --------
    info_nce_with_grad : the loss and its gradients.
    linear_cross_entropy : the same for classes with weights instead of keys.

    References
    ----------
    van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding", 2018,
    https://arxiv.org/abs/1807.03748; Chen, Kornblith, Norouzi & Hinton, "A simple framework for
    contrastive learning of visual representations", ICML 2020, https://arxiv.org/abs/2002.05709;
    Radford et al., "Learning transferable visual models from natural language supervision", ICML
    2021, https://arxiv.org/abs/2103.00020.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import info_nce
    >>> print(info_nce(np.eye(3), np.eye(3), temperature=1.0).round(6))    # log(e + 2) - 1
    0.551445
    """
    return _computed(query, key, negatives, temperature, symmetric, own_view, tile, False)


def info_nce_with_grad(
    query: ArrayLike,
    key: ArrayLike,
    *,
    temperature: float = 0.07,
    symmetric: bool = False,
    own_view: bool = False,
    negatives: ArrayLike | None = None,
    tile: int | None = None,
) -> ContrastiveGradient:
    r"""Compute `info_nce` and its gradients.

    With the softmax :math:`p` of the scores of each row, the gradient with respect to a score is
    :math:`(p_{ij} - [i = j]) / N`, and the mean of both directions if `symmetric`.

    Parameters
    ----------
    query, key, temperature, symmetric, own_view, negatives, tile : see `info_nce`

    Returns
    -------
    ContrastiveGradient
        A named tuple: ``loss``; ``d_query`` and ``d_key``, (N, D); ``d_negatives``, (M, D), or
        None; ``d_temperature``, the derivative by the temperature, for training it. Arrays have the
        dtype of the loss.

    Raises
    ------
    TypeError, ValueError
        As from `info_nce`.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import info_nce_with_grad
    >>> pairs = info_nce_with_grad(np.eye(2), np.eye(2), temperature=1.0, symmetric=True)
    >>> pairs.d_query.round(6)
    array([[-0.134471,  0.134471],
           [ 0.134471, -0.134471]])
    >>> print(round(pairs.d_temperature, 6))
    0.268941
    """
    gradient: ContrastiveGradient
    gradient = _computed(query, key, negatives, temperature, symmetric, own_view, tile, True)
    return gradient


class _Scores(Scores):
    """The scores of pairs, -inf where a vector meets itself; and the totals of columns."""

    def __init__(self, pairs: _Pairs) -> None:
        self._itself, self._where = pairs.itself, slice(0, 0)
        self.columns = _Columns(pairs.count) if pairs.has_columns else None
        self._side = pairs.tile
        super().__init__(pairs.x, pairs.w, None, pairs.temperature)

    def plan(self, counted: Any = None) -> None:
        """Use square tiles, or, if columns have no loss, rows with all of their columns."""
        columns = len(self.weight)
        if self._side is None and self.columns is None and columns * FEW_ROWS <= _WHOLE_ROWS:
            return self.divide(_WHOLE_ROWS // columns, columns)
        side = self._side or SIDE
        return self.divide(side, side)

    def blocks(self) -> Any:
        """Yield the places of each block's rows, and the rows."""
        for where, x in super().blocks():
            assert isinstance(where, slice)
            self._where = where
            yield where, x

    def product(self, x: Array, tile: slice) -> Array:
        """Return the products of a block's rows with the vectors of a tile."""
        s = super().product(x, tile)
        if self._itself is not None:
            at = self._itself[self._where] - tile.start
            rows = np.flatnonzero((at >= 0) & (at < s.shape[1]))
            s[rows, at[rows]] = -np.inf
        return s

    def read_tile(self, x: Array, tile: slice, first: int, shares: Any, totals: Totals) -> Array:
        """Add one tile to the totals of its rows, and of its columns."""
        s = super().read_tile(x, tile, first, shares, totals)
        if self.columns is not None:
            _core.linear_add_to_columns(s, *self.columns.of(tile))
        return s


class _Columns:
    """The totals of the columns that have a loss: the largest score, sum of exp(s - largest)."""

    def __init__(self, count: int) -> None:
        self.largest, self.sum = np.full(count, -np.inf), np.zeros(count)

    def of(self, tile: slice) -> tuple[Floats, Floats]:
        """Return the totals of the first columns of a tile, those with a loss."""
        return self.largest[tile], self.sum[tile]

    @property
    def lse(self) -> Floats:
        """The logarithm of the sum of the exponentials."""
        return np.where(np.isinf(self.largest), self.largest, self.largest + np.log(self.sum))

    def losses(self, own: Floats) -> Floats:
        """Return lse - s for the scores of the columns' partners, without rounding the lse."""
        return (self.largest - own) + np.log(self.sum)


@dataclass(frozen=True)
class _Pairs:
    """The checked arguments: row i of `x` belongs to row label[i] of `w`.

    These are queries and keys; of SimCLR both are queries and keys. Then come negatives.
    """

    count: int  # of pairs
    x: Array
    w: Array
    label: Classes
    itself: Classes | None  # where in `w` the vector of each row is
    temperature: float
    symmetric: bool
    tile: int | None
    negatives: int | None

    @property
    def has_columns(self) -> bool:
        """Whether columns have a loss."""
        return self.symmetric and self.itself is None

    def delivered(
        self, loss: Any, d_temperature: float, d_x: Array, d_w: Array
    ) -> ContrastiveGradient:
        """Return the gradients with respect to the arguments."""
        n = self.count
        d_negatives = None if self.negatives is None else d_w[len(d_w) - self.negatives :]
        if self.itself is None:
            d_query, d_key = d_x, d_w[:n]
        elif self.symmetric:
            both = d_x + d_w[: 2 * n]
            d_query, d_key = both[:n], both[n:]
        else:
            d_query, d_key = d_x + d_w[n : 2 * n], d_w[:n]
        return ContrastiveGradient(loss, d_query, d_key, d_negatives, d_temperature)


def _read(
    query: ArrayLike,
    key: ArrayLike,
    negatives: ArrayLike | None,
    temperature: float,
    symmetric: bool,
    own_view: bool,
    tile: int | None,
) -> _Pairs:
    """Check the arguments, and arrange them as rows and columns."""
    q, k = matrix(query, "query"), matrix(key, "key")
    if q.ndim != 2 or q.shape != k.shape:
        raise ValueError(f"query and key must both be (N, D), got shapes {q.shape} and {k.shape}")
    more = [] if negatives is None else [matrix(negatives, "negatives")]
    for x in more:
        if x.ndim != 2 or x.shape[1] != q.shape[1]:
            raise ValueError(f"negatives must be (M, {q.shape[1]}), got shape {x.shape}")
    both, own = as_flag(symmetric, "symmetric"), as_flag(own_view, "own_view")
    n, label = len(q), np.arange(len(q))
    rows, columns, itself = [q], [k], None
    if own and both:
        rows, columns, itself = [q, k], [q, k], np.arange(2 * n)
        label = np.concatenate([label + n, label])
    elif own:
        columns, itself = [k, q], label + n
    return _Pairs(
        count=n,
        x=_joined(rows),
        w=_joined(columns + more),
        label=label,
        itself=itself,
        temperature=check_temperature(temperature),
        symmetric=both,
        tile=None if tile is None else check_count(tile, "tile", 1),
        negatives=None if negatives is None else len(more[0]),
    )


def _joined(parts: list[Array]) -> Array:
    """Return the rows of all parts in one array, of the dtype to compute in if there are many."""
    if len(parts) == 1:
        return parts[0]
    dtype = np.result_type(*(computed_dtype(x, x) for x in parts))
    return np.concatenate([x.astype(dtype, copy=False) for x in parts])


@same_kind
def _computed(
    query: ArrayLike,
    key: ArrayLike,
    negatives: ArrayLike | None,
    temperature: float,
    symmetric: bool,
    own_view: bool,
    tile: int | None,
    with_grad: bool,
) -> Any:
    """Return the loss, or, `with_grad`, a `ContrastiveGradient`."""
    pairs = _read(query, key, negatives, temperature, symmetric, own_view, tile)
    loss, d_temperature, d_x, d_w = _evaluate(pairs, with_grad)
    return pairs.delivered(loss, d_temperature, d_x, d_w) if with_grad else loss


@quietly
def _evaluate(pairs: _Pairs, with_grad: bool) -> tuple[Any, Any, Any, Any]:
    """Return the loss, and with a gradient those by the temperature, `x` and `w`."""
    if not pairs.count:
        return _of_no_pairs(pairs, with_grad)
    scores = _Scores(pairs)
    rows = len(pairs.x)
    totals = Totals(len(pairs.x), pairs.label)
    gradients = _Gradients(scores, pairs, totals) if with_grad else None
    for where, x in scores.blocks():
        scores.read(x, totals.part(where))
        if gradients is not None and scores.columns is None:
            gradients.add(where, x)
    loss = (totals.from_reference - totals.own).sum() / rows
    if scores.columns is not None:
        of_columns = scores.columns.losses(totals.reference + totals.own)
        loss = (loss + of_columns.sum() / rows) / 2.0
        if gradients is not None:
            gradients.lse = scores.columns.lse
            for where, x in scores.blocks():
                gradients.add(where, x)
    loss = scores.dtype.type(loss)
    if gradients is None:
        return loss, None, None, None
    slopes_times_scores, x = np.empty(rows), np.require(pairs.x, scores.dtype, ("C", "A", "E"))
    _core.dot_rows(x, None, gradients.x, None, slopes_times_scores)
    d_temperature = -float(slopes_times_scores.sum()) / pairs.temperature
    return loss, d_temperature, gradients.x, gradients.w


def _of_no_pairs(pairs: _Pairs, with_grad: bool) -> tuple[Any, Any, Any, Any]:
    """Return NaN, and gradients of 0."""
    dtype = computed_dtype(pairs.x, pairs.w)
    if not with_grad:
        return dtype.type(np.nan), None, None, None
    return dtype.type(np.nan), 0.0, np.zeros(pairs.x.shape, dtype), np.zeros(pairs.w.shape, dtype)


class _Gradients:
    """The gradients with respect to the vectors of rows and columns."""

    def __init__(self, scores: _Scores, pairs: _Pairs, totals: Totals) -> None:
        self._scores, self._totals = scores, totals
        self.x = np.zeros(pairs.x.shape, scores.dtype)
        self.w = np.zeros(pairs.w.shape, scores.dtype)
        self.lse: Floats | None = None  # of columns with a loss
        directions = 1.0 + pairs.has_columns
        self._each = 1.0 / (len(pairs.x) * directions * pairs.temperature)
        # A caller who chooses tiles wants little memory.
        self._products = Products(scores.dtype, _PRODUCT if pairs.tile is None else None)

    def add(self, where: Rows, x: Array) -> None:
        """Add the gradients of the losses of a block's rows, and its part of those of columns."""
        assert isinstance(where, slice)
        scores, totals = self._scores, self._totals.part(where)
        one, scale = np.ones(len(x)), np.full(len(x), self._each)
        # A single tile is still in the buffer.
        scored = len(scores.tiles) == 1 and (self.lse is None or len(x) == len(self.x))
        for tile in scores.tiles:
            s = scores.last if scored else scores.product(x, tile)
            if self.lse is not None:
                _core.linear_pair_slopes(
                    s, tile.start, scored, scores.temperature, totals.columns, scale,
                    self.lse[tile], self._each,
                )  # fmt: skip
            else:
                shares = NO_SHARES.of((), tile, scores.dtype)
                _core.linear_slopes(
                    s, tile.start, scored, *scores.scoring(tile), shares, totals.columns,
                    one, 0.0, scale, None,
                )  # fmt: skip
            self._products.add(s, scores.vectors(tile), self.x[where], first=tile.start == 0)
            self._products.add(s.T, x, self.w[tile], first=where.start == 0)

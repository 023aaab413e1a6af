"""Pruned weights: only the largest are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from boltzmax._lib.arguments import check_count, one_of, quietly
from boltzmax._lib.numbers import check_number
from boltzmax._lib.output_layer import Array, Classes
from boltzmax.screens.bounds import U32, above, gamma, norms_above
from boltzmax.screens.linear_screen import LinearScreen, Rows
from boltzmax.screens.reading import Floats, read_weights
from boltzmax.screens.screen import running_total

METHODS = ("magnitude", "row", "block")
_ROWS = 4096  # rows of the weights that are worked on at a time


class PrunedLinear(LinearScreen):
    r"""A linear layer of which only some weights are kept; the others count as zero.

    Made by `prune`. Weights are kept or removed in runs of neighbouring features of one class: of a
    single weight ("magnitude"), of `block` weights ("block"), or of all D ("row"). A class without
    any weight keeps its bias as its score, or 0 without biases. The interval of a logit is
    :math:`\|h\| \|w_c - \tilde w_c\|` to either side.

    Parameters
    ----------
    weight : array_like, shape (V, D)
    bias : array_like, shape (V,), optional
    ratio : float
    method : {"magnitude", "row", "block"}
    block : int
        See `prune`.

    Attributes
    ----------
    n_classes, n_features, nbytes : int
    block : int
        The length of a run.
    values : ndarray of float32, shape (M, block)
        The runs that are kept, class by class; the last run of a class is padded with zeros.
    places : ndarray of int32, shape (M,)
        Run j of a class has the features from ``j * block`` on.
    indptr : ndarray of int64, shape (V + 1,)
        Class c has the runs ``indptr[c]`` up to ``indptr[c + 1]``.

    Notes
    -----
    Products are computed from tiles in which zeros are filled in, so "magnitude" and "block" save
    memory, and "row" time, too. A place takes four bytes: of single weights, fewer than half should
    be kept.

    See Also
    --------
    prune : makes one.

    Examples
    --------
    >>> from boltzmax import prune
    >>> prune([[1.0, -4.0], [3.0, 2.0]], 0.5, "row").values
    array([[ 1., -4.]], dtype=float32)
    """

    @quietly
    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        ratio: float,
        method: str,
        block: int,
    ) -> None:
        w, b = read_weights(weight, bias)
        share = check_number(ratio, "ratio", 0, 1)
        width = {"magnitude": 1, "row": w.shape[1]}.get(one_of(method, "method", METHODS))
        self.block = check_count(block, "block", 1) if width is None else width
        runs = -(-w.shape[1] // self.block)
        removed = _smallest(_run_sizes(w, self.block), share)
        self.indptr = running_total([(~removed).sum(axis=1)])
        kept = np.flatnonzero(~removed)
        self.places = (kept % runs).astype(np.int32)
        self.values: Floats = np.empty((len(kept), self.block), np.float32)
        factors = np.empty((1, len(w)), np.float32)
        for start in range(0, len(w), _ROWS):
            some = slice(start, start + _ROWS)
            tile = _in_runs(w[some], self.block)
            here = ~removed[some]
            self.values[self.indptr[start] : self.indptr[start + len(tile)]] = tile[here]
            lost, left = (
                norms_above(np.where(which[:, :, None], tile, 0).reshape(len(tile), -1))
                for which in (~here, here)
            )
            radius = lost + gamma(w.shape[1], U32) * left
            factors[0, some] = above(radius * (1.0 + 2.0**-40))
        super().__init__(w.shape[1], b, factors)

    def _stored(self) -> list[Array]:
        return [self.values, self.places, self.indptr]

    def _read_rows(self, x: Floats) -> Rows:
        return Rows(x, norms_above(x)[:, None])

    def _product(self, vectors: Array, first: int, last: int) -> Array:
        products = np.zeros((len(vectors), last - first), np.float32)
        runs = np.diff(self.indptr[first : last + 1])
        present = np.flatnonzero(runs)
        for start in range(0, len(present), _ROWS):
            some = present[start : start + _ROWS]
            products[:, some] = vectors @ self._dense(first + some).T
        return products

    def _dense(self, classes: Classes) -> Floats:
        """Return the weights of some classes, ascending, zeros filled in."""
        begin, end = self.indptr[classes], self.indptr[classes + 1]
        counts = end - begin
        row = np.repeat(np.arange(len(classes)), counts)
        entry = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(len(row))
        runs = -(-self.n_features // self.block)
        dense = np.zeros((len(classes), runs, self.block), np.float32)
        dense[row, self.places[entry]] = self.values[entry]
        return dense.reshape(len(classes), -1)[:, : self.n_features]

    def dequantize(self) -> Floats:
        """Return the weights, (V, D), with zeros for those that were removed."""
        return self._dense(np.arange(self.n_classes))

    def __repr__(self) -> str:
        kept = len(self.values) * self.block / (self.n_classes * self.n_features)
        return f"PrunedLinear({self.n_classes}, {self.n_features}, kept={min(kept, 1.0):.3g})"


def prune(
    weight: ArrayLike,
    ratio: float,
    method: str = "magnitude",
    bias: ArrayLike | None = None,
    *,
    block: int = 16,
) -> PrunedLinear:
    """Remove the smallest weights of a linear layer.

    Parameters
    ----------
    weight : array_like, shape (V, D)
        One row for each class.
    ratio : float
        The share that is removed, from 0 to 1: of all weights, blocks or rows, rounded down.
    method : {"magnitude", "row", "block"}
        What is removed: single weights of the least absolute value; whole rows of the least norm;
        or runs of `block` neighbouring features of the least norm. Of equal ones, the first.
    bias : array_like, shape (V,), optional
        Never removed: it is all that is left of the score of a row without weights.
    block : int, default 16
        The length of a run; read by "block" alone.

    Returns
    -------
    PrunedLinear

    Raises
    ------
    ValueError
        If a weight is not finite (the message names the row), or an argument is out of range.

    Examples
    --------
    >>> from boltzmax import prune
    >>> layer = prune([[1.0, -4.0], [3.0, 2.0]], 0.5, bias=[0.5, 0.0])
    >>> layer.dequantize()
    array([[ 0., -4.],
           [ 3.,  0.]], dtype=float32)
    >>> layer.logits([[1.0, 1.0]])
    array([[-3.5,  3. ]], dtype=float32)
    """
    return PrunedLinear(weight, bias, ratio=ratio, method=method, block=block)


def _in_runs(w: Floats, block: int) -> Floats:
    """Return rows as runs, (V, runs, block), the last one padded with zeros."""
    runs = -(-w.shape[1] // block)
    padded = w
    if runs * block > w.shape[1]:
        padded = np.zeros((len(w), runs * block), np.float32)
        padded[:, : w.shape[1]] = w
    return padded.reshape(len(w), runs, block)


def _run_sizes(w: Floats, block: int) -> Array:
    """Return the norm of every run, (V, runs)."""
    if block == 1:
        return np.abs(w)
    sizes = np.empty((len(w), -(-w.shape[1] // block)), np.float32)
    for start in range(0, len(w), _ROWS):
        runs = _in_runs(w[start : start + _ROWS], block).astype(np.float64)
        sizes[start : start + _ROWS] = np.sqrt(np.square(runs).sum(axis=2))
    return sizes


def _smallest(sizes: Array, share: float) -> Array:
    """Mark the smallest sizes, this share of them; of equal ones, the first."""
    flat = sizes.ravel()
    count = int(share * flat.size)
    removed = np.zeros(flat.size, np.bool_)
    if count == flat.size:
        removed[:] = True
    elif count:
        border = np.partition(flat, count - 1)[count - 1]
        removed[flat < border] = True
        equal = np.flatnonzero(flat == border)
        removed[equal[: count - np.count_nonzero(removed)]] = True
    return removed.reshape(sizes.shape)

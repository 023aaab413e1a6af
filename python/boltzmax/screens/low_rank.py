"""Weights of low rank, by the singular value decomposition."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.output_layer import Array
from boltzmax.screens.bounds import U32, U64, above, gamma, norms_above
from boltzmax.screens.linear_screen import LinearScreen, Rows
from boltzmax.screens.reading import Floats, read_weights

# Rows of the weights that are worked on at a time, in double.
_ROWS = 4096


class LowRankLinear(LinearScreen):
    r"""A linear layer whose weights are approximated by a matrix of low rank.

    A logit takes `rank` products instead of D, the preview window of SVD-softmax (Shim, Lee, Choi,
    Boo & Sung, NIPS 2017). Made by `low_rank`.

    Parameters
    ----------
    weight : array_like, shape (V, D)
    bias : array_like, shape (V,), optional
    rank : int
        From 1 to D.

    Attributes
    ----------
    n_classes, n_features, rank, nbytes : int
    left : ndarray of float32, shape (V, rank)
    right : ndarray of float32, shape (rank, D)
        The approximate weights are ``left @ right``.

    Raises
    ------
    ValueError
        If a weight is not finite (the message names the row), or an argument is out of range.

    Notes
    -----
    The rows of `right` are the leading eigenvectors of :math:`W^\top W`, which are the right
    singular vectors of the weights; `left` holds the products of the weights with them. With
    :math:`z = R h` in float32, :math:`r = h - R^\top z` and :math:`e_c = w_c - R^\top u_c`,

    .. math:: |h \cdot w_c - u_c \cdot z| \le
        \|r\| \|e_c\| + \|z\| \|R e_c\| + \|R h - z\| \|u_c\| + \gamma \|z\| \|u_c\|,

    of which only the first term is large: the parts of the row and of the class that lie outside
    the space of rank `rank`. The bounds of norms are computed in double and rounded outwards.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import low_rank
    >>> weight = np.outer([1.0, 2.0, 3.0], [1.0, 1.0]) + [[0.0, 0.1], [0.0, 0.0], [0.0, 0.0]]
    >>> layer = low_rank(weight, 1)
    >>> lower, upper = layer.intervals([[1.0, 1.0]])
    >>> bool((lower <= weight @ [1, 1]).all() and (weight @ [1, 1] <= upper).all())
    True
    """

    @quietly
    def __init__(self, weight: ArrayLike, bias: ArrayLike | None = None, *, rank: int) -> None:
        w, b = read_weights(weight, bias)
        self.rank = check_count(rank, "rank", 1, w.shape[1])
        self.right: Floats = right_vectors(w, self.rank)
        self.left: Floats = np.empty((len(w), self.rank), np.float32)
        factors = np.empty((3, len(w)), np.float32)
        right, norm = self.right.astype(np.float64), _frobenius(self.right)
        for start in range(0, len(w), _ROWS):
            some = slice(start, start + _ROWS)
            rows = w[some].astype(np.float64)
            self.left[some] = rows @ right.T
            left = self.left[some].astype(np.float64)
            rest = rows - left @ right
            # What rounding may hide: of the product, then of the difference.
            sizes, of_left = norms_above(w[some]), norms_above(self.left[some])
            lost = gamma(self.rank + 2, U64) * (sizes + norm * of_left)
            of_rest = norms_above(rest) + lost
            inside = norms_above(rest @ right.T) + norm * (
                lost + gamma(w.shape[1] + 2, U64) * of_rest
            )
            factors[:, some] = above(np.stack([of_rest, inside, of_left]) * (1.0 + 2.0**-40))
        super().__init__(w.shape[1], b, factors)

    def _stored(self) -> list[Array]:
        return [self.left, self.right]

    def _read_rows(self, x: Floats) -> Rows:
        right, norm = self.right.astype(np.float64), _frobenius(self.right)
        exact = x.astype(np.float64)
        projected = exact @ right.T
        z = projected.astype(np.float32)
        of_x, of_z = norms_above(x), norms_above(z)
        lost = gamma(self.n_features + 2, U64) * norm * of_x
        rounded = norms_above(projected - z) * (1.0 + 4.0 * U64) + lost
        outside = norms_above(exact - z.astype(np.float64) @ right) + gamma(self.rank + 2, U64) * (
            of_x + norm * of_z
        )
        return Rows(z, np.stack([outside, of_z, rounded + gamma(self.rank, U32) * of_z], axis=1))

    def _product(self, vectors: Array, first: int, last: int) -> Array:
        return vectors @ self.left[first:last].T

    def __repr__(self) -> str:
        return f"LowRankLinear({self.n_classes}, {self.n_features}, rank={self.rank})"


def low_rank(weight: ArrayLike, rank: int, bias: ArrayLike | None = None) -> LowRankLinear:
    """Approximate the weights of a linear layer by the best matrix of this rank.

    Parameters
    ----------
    weight : array_like, shape (V, D)
        One row for each class; a memory map is read in parts.
    rank : int
        From 1 to D. The approximation takes `rank` / D of the memory.
    bias : array_like, shape (V,), optional

    Returns
    -------
    LowRankLinear

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import low_rank
    >>> layer = low_rank(np.outer(np.arange(4), [1, 2, 3]), 1, bias=np.ones(4))
    >>> layer.logits([[1.0, 0.0, 1.0]]).round(3)
    array([[ 1.,  5.,  9., 13.]], dtype=float32)
    """
    return LowRankLinear(weight, bias, rank=rank)


def right_vectors(w: Floats, rank: int) -> Floats:
    """Return the right singular vectors of the largest singular values, (rank, D).

    They are eigenvectors of the small matrix w^T w, (D, D), which takes one pass over the weights.
    That squares the condition number, but any orthogonal rows near these serve: the bounds do not
    depend on how good they are.
    """
    width = w.shape[1]
    scale = max(float(w.max()), -float(w.min())) or 1.0
    square = np.zeros((width, width))
    for start in range(0, len(w), _ROWS):
        rows = w[start : start + _ROWS].astype(np.float64) / scale
        square += rows.T @ rows
    vectors = np.linalg.eigh(square)[1]
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank].T, dtype=np.float32)


def _frobenius(matrix: Floats) -> float:
    return float(norms_above(matrix.reshape(1, -1))[0])

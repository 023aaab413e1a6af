"""Clusters of classes as a screen: one product for each centre instead of one for each class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.output_layer import Array, Classes
from boltzmax._lib.random import random_generator
from boltzmax.screens.bounds import U32, above, gamma, norms_above
from boltzmax.screens.linear_screen import LinearScreen, Rows
from boltzmax.screens.reading import Floats, read_weights

# Lloyd's algorithm runs on a sample of this many rows per cluster.
_SAMPLE, _STEPS = 64, 10
_TILE = 2**20  # distances that are in memory at once


class ClusteredLinear(LinearScreen):
    r"""A linear layer whose weight rows are approximated by the centres of their clusters.

    The approximate logit of a class is that of its centre, :math:`h \cdot m + b_c`, within
    :math:`\|h\| \|w_c - m\|` of the exact one. It serves where the rows of weights are close to
    few points; for others `QuantizedLinear` has far narrower bounds.

    Parameters
    ----------
    weight : array_like, shape (V, D)
    bias : array_like, shape (V,), optional
    n_clusters : int, optional
        From 1 to V; by default about the square root of V.
    seed : int or numpy.random.Generator, default 0
        Of the first centres and of the sample that they are fitted to.

    Attributes
    ----------
    n_classes, n_features, n_clusters, nbytes : int
    centers : ndarray of float32, shape (n_clusters, D)
    assignment : ndarray of int64, shape (V,)
        The cluster of each class.

    Raises
    ------
    ValueError
        If a weight is not finite (the message names the row), or an argument is out of range.

    Notes
    -----
    Centres are found by k-means (Lloyd, IEEE Trans. Inf. Theory 28(2), 1982) on a sample of the
    rows; every class then goes to the nearest. The bounds do not depend on how good they are.

    Examples
    --------
    >>> from boltzmax import ClusteredLinear
    >>> layer = ClusteredLinear([[0.0, 1.0], [5.0, 5.0], [0.0, 1.0]], n_clusters=2)
    >>> layer.logits([[1.0, 1.0]])
    array([[ 1., 10.,  1.]], dtype=float32)
    """

    @quietly
    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        n_clusters: int | None = None,
        seed: int | np.random.Generator | None = 0,
    ) -> None:
        w, b = read_weights(weight, bias)
        count = round(math.sqrt(len(w))) if n_clusters is None else n_clusters
        self.n_clusters = check_count(count, "n_clusters", 1, len(w))
        self.centers = find_centers(w, self.n_clusters, random_generator(seed, "seed"))
        self.assignment = nearest(w, self.centers)
        sizes = norms_above(self.centers)
        factors = np.empty((1, len(w)), np.float32)
        step = max(1, _TILE // w.shape[1])
        for start in range(0, len(w), step):
            some = slice(start, start + step)
            own = self.assignment[some]
            away = norms_above(w[some].astype(np.float64) - self.centers[own])
            factors[0, some] = above(
                (away + gamma(w.shape[1], U32) * sizes[own]) * (1.0 + 2.0**-40)
            )
        super().__init__(w.shape[1], b, factors)

    def _stored(self) -> list[Array]:
        return [self.centers, self.assignment]

    def _read_rows(self, x: Floats) -> Rows:
        return Rows(x @ self.centers.T, norms_above(x)[:, None])

    def _product(self, vectors: Array, first: int, last: int) -> Array:
        return vectors[:, self.assignment[first:last]]

    def __repr__(self) -> str:
        sizes = f"{self.n_classes}, {self.n_features}, n_clusters={self.n_clusters}"
        return f"ClusteredLinear({sizes})"


def find_centers(w: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Return centres of clusters of the rows, (count, D)."""
    picked = np.sort(rng.choice(len(w), min(len(w), _SAMPLE * count), replace=False))
    sample: Any = w[picked]
    centers: Floats = sample[np.sort(rng.choice(len(sample), count, replace=False))].copy()
    for _ in range(_STEPS):
        of_row = nearest(sample, centers)
        sizes = np.bincount(of_row, minlength=count)
        sums = np.zeros(centers.shape)
        np.add.at(sums, of_row, sample)
        used = sizes > 0
        moved = centers.copy()
        moved[used] = sums[used] / sizes[used, None]
        if (moved == centers).all():
            break
        centers = moved
    return centers


def nearest(w: Floats, centers: Floats) -> Classes:
    """Return the nearest centre of each row."""
    half = 0.5 * np.einsum("kd,kd->k", centers, centers)
    result = np.empty(len(w), np.int64)
    step = max(1, _TILE // len(centers))
    for start in range(0, len(w), step):
        some = slice(start, start + step)
        result[some] = (half - w[some] @ centers.T).argmin(axis=1)
    return result

"""Classes by a quadratic kernel of features and weights: the tree of Blanc and Rendle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, as_number, quietly, refuse_masked
from boltzmax._lib.numbers import real_array
from boltzmax.candidates.base import Floats, Ints, Sampler
from boltzmax.candidates.exclusion import Exclusion, read_classes, read_exclude
from boltzmax.candidates.inclusion import Groups, Inclusion, group_classes
from boltzmax.candidates.law import Law, empty_draws

Array = NDArray[Any]


class QuadraticKernelSampler(Sampler):
    r"""Classes by a kernel that is large where the logit is, whatever its sign.

    .. math:: q(i \mid h) \propto \alpha \langle h, w_i \rangle^2 + 1

    (Blanc & Rendle, ICML 2018). It draws classes that a trained layer takes for likely, so that a
    sampled softmax has less bias for the same number of candidates.

    Parameters
    ----------
    weight : ndarray of float32 or float64, shape (V, D)
        The rows w of a layer, in C order. The sampler keeps a reference: when rows change, call
        `update`. A pickled sampler has weights of its own.
    alpha : float, default 100.0
        The factor of the squared logit, above 0.

    Notes
    -----
    A tree over the classes has, for each node, the matrix :math:`\sum w w^T` of the classes below
    it: its share of the kernels' sum is :math:`\alpha h^T M h + |S|`. A draw goes down from the
    root, four children at a time, to a leaf of max(D, 16) classes, whose kernels are computed one
    by one: it takes time proportional to D^2 log V, and those draws of a row that pass the same
    node share its work. The matrices take at most 4 times the memory of the weights: for D from
    16 on, two thirds of it.

    A node is the sum of its children, also after an update, so nothing drifts. Sums are in the
    dtype of the weights; `log_q` is the logarithm of the probability with which the tree really
    draws a class, so their rounding does not bias what is corrected by it.

    With ``unique=True``, and where excluded classes have more than 15/16 of the probability, the
    kernels of all classes are computed for each row.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.candidates import QuadraticKernelSampler
    >>> weight = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    >>> sampler = QuadraticKernelSampler(weight)
    >>> ids, log_q = sampler.sample(20, rng=1, hidden=weight[7])
    >>> bool(np.allclose(log_q, sampler.log_expected_count(ids, 20, hidden=weight[7])))
    True
    >>> weight[7] = 0
    >>> sampler.update([7])
    """

    def __init__(self, weight: Array, alpha: float = 100.0) -> None:
        self.alpha = as_number(alpha, "alpha")
        if not 0.0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be finite and above 0, got {alpha!r}")
        self._weight = _read_weight(weight)
        self.n_classes = len(self._weight)
        self._leaf, nodes, packed = _core.quadratic_size(*self._weight.shape)
        self._sums = np.empty((nodes, packed), self._weight.dtype)
        self._update(None)

    @property
    def nbytes(self) -> int:
        """The memory of the tree, without the weights."""
        return self._sums.nbytes

    def __repr__(self) -> str:
        classes, features = self._weight.shape
        return f"<QuadraticKernelSampler of {classes} classes, {features} features>"

    def update(self, ids: ArrayLike | None = None) -> None:
        """Take account of rows of `weight` that have changed.

        Parameters
        ----------
        ids : array_like of int, optional
            The classes whose rows have changed; by default all.

        Raises
        ------
        IndexError
            If an id is out of range.
        ValueError
            If the weights are not finite, or their squares overflow.
        """
        if ids is None:
            self._update(None)
        else:
            classes = read_classes(ids, self.n_classes)
            self._update(np.unique(classes // self._leaf))

    def sample(
        self,
        n: int,
        *,
        rng: Any = None,
        unique: bool = False,
        exclude: Any = None,
        hidden: ArrayLike | None = None,
        per_row: bool = False,
    ) -> tuple[Ints, Floats]:
        """Draw n candidates: see `Sampler.sample`.

        Parameters
        ----------
        n, rng, unique, exclude
            As there.
        hidden : array_like, shape (D,) or (..., D)
            The features h. Several rows share their candidates, unless `per_row` is true or
            `exclude` has rows: these are drawn by the mean kernel,
            alpha mean(<h, w_i>^2) + 1.
        per_row : bool, default False
            Draw candidates for each row of `hidden`.

        Returns
        -------
        ids : ndarray of int64
            The candidates, (n,) or (rows, n).
        log_q : ndarray of float64
            The logarithms of their expected counts.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or `hidden` is not finite.
        """
        if as_flag(per_row, "per_row"):
            exclude = self._for_each_row(exclude, hidden)
        return super().sample(n, rng=rng, unique=unique, exclude=exclude, hidden=hidden)

    def log_expected_count(
        self,
        ids: ArrayLike,
        n: int,
        *,
        unique: bool = False,
        exclude: Any = None,
        hidden: ArrayLike | None = None,
        per_row: bool = False,
    ) -> Floats:
        """Return the logarithms of expected counts: see `Sampler.log_expected_count`.

        Parameters
        ----------
        ids : array_like of int
            The classes; where there are rows of candidates, (rows,) or (rows, k).
        n, unique, exclude, hidden, per_row
            As for `sample`.

        Returns
        -------
        ndarray of float64
            In the shape of `ids`.
        """
        if as_flag(per_row, "per_row"):
            exclude = self._for_each_row(exclude, hidden)
        return super().log_expected_count(ids, n, unique=unique, exclude=exclude, hidden=hidden)

    def _update(self, leaves: Ints | None) -> None:
        _core.update_quadratic(self._weight, self._sums, leaves)
        if not np.isfinite(self._sums[-4:]).all():
            raise ValueError("weight must be finite, and so must the sums of its squares")

    def _for_each_row(self, exclude: Any, hidden: ArrayLike | None) -> Any:
        """Return `exclude` with a list for each row of `hidden`."""
        if isinstance(exclude, tuple):
            return exclude
        rows = len(self._read_hidden(hidden))
        repeated = read_exclude(exclude, self.n_classes).for_rows(rows)
        return repeated.ids, repeated.indptr

    @quietly
    def _read_hidden(self, hidden: ArrayLike | None) -> Array:
        """Return features as a matrix in the dtype of the weights."""
        if hidden is None:
            raise TypeError("QuadraticKernelSampler needs hidden, the features")
        array = real_array(hidden, "hidden")
        features = self._weight.shape[1]
        if array.ndim == 0 or array.shape[-1] != features or not array.size:
            raise ValueError(
                f"hidden must have {features} features on the last axis, and a row, "
                f"got shape {array.shape}"
            )
        matrix = np.require(array.reshape(-1, features), self._weight.dtype, ["C", "A"])
        bad = ~np.isfinite(matrix).all(axis=1)
        if bad.any():
            row = int(bad.argmax())
            number = array.reshape(-1, features)[row][~np.isfinite(matrix[row])][0]
            raise ValueError(f"hidden must be finite in {matrix.dtype}, got {number} in row {row}")
        return matrix

    def _law_of(self, hidden: ArrayLike | None, excluded: Exclusion) -> Law:
        matrix = self._read_hidden(hidden)
        if excluded.per_row and excluded.rows != len(matrix):
            raise ValueError(f"exclude has {excluded.rows} rows, but hidden has {len(matrix)}")
        return _QuadraticLaw(self, matrix, excluded.rows)


class _QuadraticLaw(Law):
    """The distribution for each row of features, or for all of them together."""

    def __init__(self, sampler: QuadraticKernelSampler, hidden: Array, rows: int) -> None:
        self.rows, self.n_classes, self.support = rows, sampler.n_classes, sampler.n_classes
        self._tree = (sampler._weight, sampler._sums)
        self._alpha = sampler.alpha
        self._hidden = hidden

    def draw(
        self, key: int, first_row: int, n: int, unique: bool, excluded: Exclusion, shift: Floats
    ) -> tuple[Ints, Floats]:
        ids, log_p = empty_draws(excluded.rows, n)
        hidden = self._of(first_row) if excluded.rows < self._rows else self._hidden
        given = (excluded.ids, excluded.indptr) if len(excluded.ids) else (None, None)
        _core.draw_quadratic(
            *self._tree, hidden, self._alpha, key, first_row, *given, ids, log_p
        )  # fmt: skip
        return ids, _checked(log_p) + shift[:, None]

    def log_p(self, ids: Ints) -> Floats:
        return self._log_p(self._hidden, ids)

    def every_log_p(self, row: int) -> Floats:
        return self._log_p(self._of(row), np.arange(self.n_classes)[None]).reshape(-1)

    def groups(self, row: int) -> Groups:
        return group_classes(self.every_log_p(row))

    def inclusion(self, row: int, n: int) -> Inclusion:
        return Inclusion(self.groups(row), n)

    def draws_until(self, n: int) -> float:
        return math.inf  # inclusion probabilities take a list of all classes anyway

    @property
    def _rows(self) -> int:
        assert self.rows is not None
        return self.rows

    def _of(self, row: int) -> Array:
        """Return the features of a row of candidates."""
        group = len(self._hidden) // self._rows
        return self._hidden[row * group : (row + 1) * group]

    def _log_p(self, hidden: Array, ids: Ints) -> Floats:
        matrix = np.ascontiguousarray(ids)
        log_p = np.empty(matrix.shape)
        _core.quadratic_log_p(*self._tree, hidden, self._alpha, matrix, log_p)
        return _checked(log_p)


def _checked(log_p: Floats) -> Floats:
    bad = np.isnan(log_p)
    if bad.any():
        row = int(bad.any(axis=1).argmax())
        raise ValueError(f"hidden or weight is too large: squared logits overflow in row {row}")
    return log_p


def _read_weight(weight: Array) -> Array:
    """Return the weights themselves, of which nothing is copied."""
    refuse_masked(weight, "weight")
    if not isinstance(weight, np.ndarray) or weight.dtype not in (np.float32, np.float64):
        kind = weight.dtype if isinstance(weight, np.ndarray) else type(weight).__name__
        raise TypeError(f"weight must be an ndarray of float32 or float64, got {kind}")
    if weight.ndim != 2 or not weight.size:
        raise ValueError(f"weight must be (V, D) with V, D > 0, got shape {weight.shape}")
    if not (weight.flags.c_contiguous and weight.flags.aligned):
        raise ValueError("weight must be in C order; pass numpy.ascontiguousarray(weight)")
    return np.asarray(weight)

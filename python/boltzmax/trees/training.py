"""How a hierarchical softmax learns, in place."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.numbers import check_number, unmasked
from boltzmax.trees.weights import Array, Doubles, TreeLayer

ONE_BY_ONE = ("sequential", "grouped", "hogwild")  # ways to update that see one row after another


class DescendingLayer(TreeLayer):
    """The steps of `HierarchicalSoftmax`."""

    def sgd_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        update: str = "sequential",
    ) -> tuple[float, Array]:
        """Descend along the gradient of each row, in place.

        Parameters
        ----------
        hidden : array_like, shape (N, D)
        target : array_like of int, shape (N,)
        lr : float
            The rate: ``weight -= lr * gradient of -log p(target)``, for every row by itself.
        sample_weight : array_like, shape (N,), optional
            Multiplies the gradient of each row.
        update : {"sequential", "grouped", "batch", "hogwild"}
            "sequential": row after row, each with the weights that the last has left, on one
            thread; the same bits every time. "grouped": as "sequential", but neighbouring rows of
            the same target, up to 16, take one step together (Ji et al., arXiv:1604.04661): faster
            where targets come in runs. "batch": one step along the sum of the gradients of all
            rows, on all threads; the same bits for any number of them. "hogwild": as "grouped",
            but rows are shared by all threads, which write without locks (Niu et al., NIPS 2011):
            the fastest, and never quite the same twice.

        Returns
        -------
        loss : float
            The mean of -log p(target) as each row met it, weighted.
        d_hidden : ndarray, shape (N, D)
            The gradient of each row's loss (its `sample_weight` times it) by its hidden vector.
        """
        return self._descend(hidden, target, lr, sample_weight, update, None, 0.0)

    def adagrad_step(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None = None,
        *,
        eps: float = 1e-10,
        update: str = "sequential",
    ) -> tuple[float, Array]:
        """Descend as `sgd_step` does, with a rate of its own for every unit.

        Row-wise Adagrad: the mean square of each unit's gradient is added up over the steps, and
        its rate is ``lr / (sqrt(sum) + eps)``. So the units of rare classes, which seldom get a
        step, take large ones (Duchi, Hazan & Singer, JMLR 2011), for one number a unit.

        Parameters
        ----------
        hidden, target, lr, sample_weight : see `sgd_step`
        eps : float, default 1e-10
            Keeps the first steps finite.
        update : {"sequential", "grouped", "hogwild"}
            See `sgd_step`.
        """
        _check_update(update, ONE_BY_ONE)
        check_number(eps, "eps", 0, 1e30)
        if self._squares is None:
            self._squares = np.zeros(self.tree.n_units)
        return self._descend(hidden, target, lr, sample_weight, update, self._squares, eps)

    def _descend(
        self,
        hidden: ArrayLike,
        target: ArrayLike,
        lr: float,
        sample_weight: ArrayLike | None,
        update: str,
        squares: Doubles | None,
        eps: float,
    ) -> tuple[float, Array]:
        done = _core.try_descend(self, hidden, target, lr, sample_weight, update, squares, eps)
        if done is not None:
            return done
        rate = self._rate(lr)
        _check_update(update, (*ONE_BY_ONE, "batch"))
        layer = self._layer()
        self._check_writeable()
        x = self._hidden(hidden)
        if any(np.may_share_memory(x, a) for a in (self.weight, self.bias) if a is not None):
            x = x.copy()  # what is learnt from must not change meanwhile
        classes = self._target(target, len(x))
        weights = self._scale(sample_weight, len(x))
        each, d_hidden = np.empty(len(x)), np.empty_like(x)
        if update == "batch":
            each, d_hidden, units, d_weight, d_bias = self._gradient(x, classes, weights)
            with np.errstate(all="ignore"):
                self.weight[units] -= rate * d_weight  # a Python float keeps float32 what it is
                if self.bias is not None and d_bias is not None:
                    self.bias[units] -= rate * d_bias
        else:
            _core.layer_descend(
                *layer,
                x,
                classes,
                weights,
                rate,
                squares,
                float(eps),
                update == "hogwild",
                _together(update),
                each,
                d_hidden,
            )
        return _core.mean_loss(each, weights), d_hidden

    def pair_step(
        self,
        vectors: Array,
        ids: ArrayLike,
        target: ArrayLike,
        lr: float,
        *,
        update: str = "sequential",
    ) -> float:
        """Descend for pairs, one after the other, of which both sides learn: skip-gram's loop.

        The hidden vector of pair i is ``vectors[ids[i]]``. The units on the way to its target take
        their step, and so does the vector itself, before the next pair is looked at.

        Parameters
        ----------
        vectors : ndarray of `dtype`, shape (M, D), C-contiguous
            Written to.
        ids : array_like of int, shape (N,)
            Rows of `vectors`.
        target : array_like of int, shape (N,)
            Classes.
        lr : float
            The rate, of units and vectors.
        update : {"sequential", "grouped", "hogwild"}
            See `sgd_step`.

        Returns
        -------
        float
            The mean of -log p(target) as each pair met it.

        Notes
        -----
        Mikolov et al., "Distributed Representations of Words and Phrases and their
        Compositionality", NIPS 2013.
        """
        rate = self._rate(lr)
        _check_update(update, ONE_BY_ONE)
        layer = self._layer()
        self._check_writeable()
        if not isinstance(vectors, np.ndarray) or vectors.dtype != self.dtype:
            raise TypeError(f"vectors must be an ndarray of {self.dtype}, to be written to")
        if vectors.ndim != 2 or vectors.shape[1] != self.n_features:
            raise ValueError(f"vectors must be (M, {self.n_features}), got shape {vectors.shape}")
        if not (vectors.flags.c_contiguous and vectors.flags.writeable):
            raise ValueError("vectors must be C-contiguous and writeable")
        if any(np.may_share_memory(vectors, a) for a in (self.weight, self.bias) if a is not None):
            raise ValueError("vectors must not share memory with the layer's weights")
        index = _row_numbers(ids, len(vectors))
        classes = self._target(target, len(index))
        each = np.empty(len(index))
        lock_free, together = update == "hogwild", _together(update)
        _core.layer_descend_pairs(
            *layer, vectors, index, classes, rate, None, 0.0, lock_free, together, each
        )
        return float(each.mean()) if len(each) else math.nan

    def _rate(self, lr: float) -> float:
        rate = float(lr)
        if not math.isfinite(rate):
            raise ValueError(f"lr must be finite, got {lr}")
        return rate


def _check_update(update: str, allowed: tuple[str, ...]) -> None:
    if update not in allowed:
        raise ValueError(f"update must be one of {allowed}, got {update!r}")


def _together(update: str) -> int:
    """Return how many neighbours of the same target take their step together."""
    return 1 if update == "sequential" else 16


def _row_numbers(ids: ArrayLike, rows: int) -> NDArray[np.int64]:
    array = unmasked(ids, "ids")
    integral = array.dtype.kind in "iu" or array.size == 0  # [] is an array of float64
    if not integral or array.ndim != 1:
        raise TypeError(f"ids must be integers, (N,); got {array.dtype} of shape {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= rows):
        at = int(((array < 0) | (array >= rows)).argmax())
        raise IndexError(f"ids: {array[at]} at position {at} is out of range for {rows} vectors")
    return np.ascontiguousarray(array, np.int64)

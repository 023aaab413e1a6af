"""Reduction of the losses of rows to one loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import one_of, read_empty
from boltzmax._lib.numbers import per_row

Doubles = NDArray[np.float64]

REDUCTIONS = ("mean", "sum", "none")


def checked_reduction(
    reduction: str, allowed: tuple[str, ...] = REDUCTIONS, *, with_grad: bool = False
) -> str:
    """Return `reduction` if it is one of `allowed`; a gradient also needs a scalar loss."""
    if one_of(reduction, "reduction", allowed) == "none" and with_grad:
        raise ValueError("a gradient needs a scalar: reduction must not be 'none'")
    return reduction


def check_scalar(reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    """Check the `reduction` of a function that returns a gradient."""
    checked_reduction(reduction, allowed, with_grad=True)


def product(weights: Doubles, losses: Doubles) -> Doubles:
    """Multiply so that an infinite loss of weight 0 becomes 0; NaN stays NaN."""
    return np.where((weights == 0.0) & np.isinf(losses), 0.0, weights * losses)


@dataclass(frozen=True)
class Reduction:
    """Reduces the losses of the rows to one loss."""

    name: str
    shape: tuple[int, ...]  # of the rows
    dtype: np.dtype[Any]
    counted: NDArray[np.bool_]
    sample: Doubles  # sample weights
    used: Doubles  # the weights of the rows that count; the mean divides by their sum
    empty: float  # the mean over no rows: NaN or 0

    @property
    def divisor(self) -> np.float64:
        """The divisor of the sum."""
        return np.float64(self.used.sum() if self.name == "mean" else 1.0)

    @property
    def is_zero(self) -> bool:
        """Whether this is a mean over no rows that must be 0, and its gradient with it."""
        return bool(self.empty == 0.0 and self.divisor == 0.0)

    def scale(self) -> Doubles:
        """Return the derivative of the reduced loss with respect to the loss of every row."""
        return np.where(self.counted, self.sample / self.divisor, 0.0)

    def __call__(self, losses: Doubles) -> Any:
        """Return the mean over the weights used, the sum, or every loss."""
        if self.is_zero:
            return self.dtype.type(0.0)
        losses = np.where(self.counted, product(self.sample, losses), 0.0)
        if self.name == "none":
            return self.shaped(losses.astype(self.dtype))
        return self.dtype.type(losses.sum() / self.divisor)

    def shaped(self, loss: Any) -> Any:
        """Return losses of rows in the shape of the rows; anything else unchanged."""
        return loss.reshape(self.shape)[()] if isinstance(loss, np.ndarray) else loss


def read_reduction(
    name: str,
    sample_weight: ArrayLike | None,
    empty: str,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    counted: NDArray[np.bool_],
    own: Doubles,
    with_grad: bool,
) -> Reduction:
    """Check the arguments that control the reduction of the losses of rows.

    Parameters
    ----------
    name, sample_weight, empty
        As passed to the public function.
    shape : tuple of int
        The shape of the rows.
    dtype : dtype
        The dtype of the loss.
    counted : ndarray of bool
        Which rows count.
    own : ndarray
        The weight of a row in the mean besides its `sample_weight`.
    with_grad : bool
        Whether a gradient is wanted, which needs a scalar.
    """
    checked_reduction(name, with_grad=with_grad)
    # Weights of ignored rows must not matter, even if NaN.
    sample = np.where(counted, per_row(sample_weight, shape), 0.0)
    used = np.where(counted, own, 0.0) * sample
    return Reduction(name, shape, dtype, counted, sample, used, read_empty(empty))

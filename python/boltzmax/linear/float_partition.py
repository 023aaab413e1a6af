"""Bounds of the log-partition from one float32 product."""

from __future__ import annotations

import math

import numpy as np

from boltzmax._lib.output_layer import Doubles
from boltzmax.linear.scores import Scores, Totals
from boltzmax.screens.bounds import U32, gamma, norms_above, underflow
from boltzmax.screens.exact import ExactWeights
from boltzmax.screens.reading import Floats

_NUMBERS = 2**19  # weights that are squared at a time


class FloatPartition:
    """Log-partitions of float32 logits, whose errors are bounded from the norms alone.

    A logit is off by at most gamma(D + 2) times the norms of both vectors and the bias, in whatever
    order the product adds (Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5), and so
    is the logarithm of a sum of their exponentials.
    """

    def __init__(self, exact: ExactWeights) -> None:
        self._exact = exact
        self._norm = _largest_norm(exact.weight)
        self._bias = 0.0 if exact.bias is None else float(np.abs(exact.bias).max())

    def errors(self, x: Floats) -> Doubles:
        """Return how far each row's result may be from the exact one."""
        n_classes, width = self._exact.weight.shape
        sizes = norms_above(x) * self._norm + self._bias
        # The sums of float exponentials have a relative error below 2^-20.
        sums = 2.0**-20 * (1.0 + math.log(n_classes))
        return gamma(width + 2, U32) * sizes + underflow(width) + sums

    def __call__(self, x: Floats) -> tuple[Doubles, Doubles]:
        """Return bounds of each row's log-partition; infinite ones where floats overflow."""
        scores, lse = Scores(x, *self._exact), np.empty(len(x))
        for where, block in scores.blocks():
            totals = Totals(len(block))
            scores.read(block, totals)
            lse[where] = totals.lse
        errors = self.errors(x) + 2.0**-50 * np.abs(lse)
        lower, upper = lse - errors, lse + errors
        unknown = ~(np.isfinite(lower) & np.isfinite(upper))
        lower[unknown], upper[unknown] = -np.inf, np.inf
        return lower, upper


def _largest_norm(w: Floats) -> float:
    """Return an upper bound of the largest norm of a row; infinite where squares overflow."""
    width = w.shape[1]
    step = max(1, _NUMBERS // width)
    blocks = (w[start : start + step] for start in range(0, len(w), step))
    largest = max(float(np.einsum("nd,nd->n", block, block).max()) for block in blocks)
    return math.sqrt(largest) * (1.0 + gamma(width + 4, U32)) + math.sqrt(width) * 2.0**-70

"""Derivatives of the loss by the temperature, which are moments of the logits under softmax."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from boltzmax import _core
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.scored import Scored


class Derivatives(NamedTuple):
    """Those of sum_i w_i (lse(b z_i) - b z_i[y_i]) by b = 1 / T."""

    first: float
    second: float


def derivatives(rows: Scored, inverse: float) -> Derivatives:
    """Return the derivatives at b = `inverse`, in one read of the rows."""
    assert rows.labels is not None
    sums = np.zeros(2)
    for part in rows.blocks():
        z = rows.logits(part)
        z = z.astype(loss_dtype(z.dtype), copy=False)
        weight = None if rows.weights is None else rows.weights[part]
        sums += _core.temperature_derivatives(z, rows.labels[part], weight, 1.0 / inverse)
    return Derivatives(*map(float, sums))

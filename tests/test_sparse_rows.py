"""Rows that sparse maps treat in their own way: of nearly equal numbers, and short ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax.testing import use_isa
from variant_samples import exact_entmax

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("alpha", [1.05, 1.3, 1.5, 1.9, 2.0])
def test_rows_of_nearly_equal_numbers(alpha: float) -> None:
    """All elements are in the support, and the largest differences are within a few powers of two
    of the limit of the series."""
    limit = {np.float32: 2.0**-5, np.float64: 2.0**-11}
    for n in (40, 300, 3000):
        x = np.random.default_rng(n).uniform(-1, 0, size=n)
        for dtype, most in limit.items():
            for size in (0.0, 1e-3, 0.5, 0.99, 1.01, 4.0):
                row = (size * most * n ** (1 - alpha) * x).astype(dtype)
                want = exact_entmax(row.astype(np.longdouble), alpha)
                for isa in boltzmax.available_isas():
                    with use_isa(isa):
                        error = np.abs(boltzmax.entmax(row, alpha) - want).max()
                    assert error <= 5 * np.finfo(dtype).eps * want.max(), (n, dtype, size, isa)


def test_short_rows_do_not_depend_on_their_neighbours(isa: str, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(5)
    alpha = rng.choice([1.2, 2.0, 2.5, 9.0], size=70)
    for n in (3, 8, 11):
        with np.errstate(under="ignore"):
            x = rng.normal(size=(70, n)).astype(dtype)
        together = boltzmax.entmax(x, alpha)
        alone = [boltzmax.entmax(x[i : i + 1], alpha[i : i + 1])[0] for i in range(70)]
        assert (together == np.array(alone)).all()

"""Layers of weights in few bits, where numbers leave the range of float32 or float64."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from boltzmax import QuantizedLinear
from boltzmax.testing import use_dot_products, use_isa
from quantised_samples import FORMS, exact_logits, layer_of, tables

TABLES = tables()

every_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with each table of kernels that this processor can use."""
    isa, use = TABLES[request.param]
    with use_isa(isa), use_dot_products(use):
        yield request.param


@every_form
def test_numbers_at_the_ends_of_the_range(table: str, form: str, strict: None) -> None:
    """Where a rotation, a product or a sum vanishes or overflows in float32 or float64."""
    tiny, rng = 5e-324, np.random.default_rng(8)
    huge = np.full((2, 64), 0.51)
    huge[:, 0] = 7.0  # rounded to 4 bits, its norm is not a float any more
    cases = [
        (np.full((1, 4), 1e100), np.array([[tiny, 0, 0, 0], [0, 0, 0, 0]])),
        (np.array([[tiny, 0, 0, 0], [3 * tiny, tiny, 0, -tiny]]), np.full((2, 4), 1e38)),
        (np.full((1, 64), 1e38), np.full((3, 64), 100.0)),
        (np.full((1, 64), 1e38, np.float32), np.full((3, 64), 100.0)),
        (np.full((1, 8), 1e60), rng.standard_normal((3, 8))),
        (np.full((1, 8), 1e-60), rng.standard_normal((3, 8))),
        (np.eye(2, 64, -1), huge * (2.99e38 / np.linalg.norm(huge[0]))),
    ]
    for hidden, weight in cases:
        layer, exact = layer_of(form, weight), exact_logits(hidden, weight, None)
        lower, upper = layer.intervals(hidden)
        logits, bound = layer.logits(hidden), layer.error_bound(hidden)
        for r, row in enumerate(exact):
            for c, value in enumerate(row):
                assert lower[r, c] <= value <= upper[r, c]
                off = abs(Fraction(float(logits[r, c])) - value) if bound[r] < np.inf else 0
                assert off <= bound[r]


@every_form
def test_hidden_vectors_beyond_float32(form: str, strict: None) -> None:
    """Bounds stay narrow, and queries finite, up to the largest hidden vectors."""
    rng = np.random.default_rng(0)
    hidden, weight = rng.standard_normal((2, 30)), rng.standard_normal((50, 30))
    layer = layer_of(form, weight)
    for size in (2.0**120, 2.0**330, 2.0**-300):
        lower, upper = layer.intervals(hidden * size)
        small = layer.intervals(hidden)
        assert np.allclose((upper - lower) / size, small[1] - small[0], rtol=1e-6)
        assert np.array_equal(layer.logits(hidden * size), layer.logits(hidden) * size)
        for found in (layer.logsumexp(hidden * size), layer.topk(hidden * size, 3)[1]):
            assert np.isfinite(found).all()


def test_logits_that_are_not_float32_are_infinite(strict: None) -> None:
    layer, hidden = QuantizedLinear(np.full((3, 4), 100.0)), np.full((1, 4), 1e38, np.float32)
    assert (layer.logits(hidden) == np.inf).all()
    assert layer.logsumexp(hidden) == np.inf
    assert layer.error_bound(hidden) == np.inf
    assert layer.error_bound(hidden.astype(np.float64)) < 1e39
    assert (layer.topk(hidden, 3)[0] == [0, 1, 2]).all()

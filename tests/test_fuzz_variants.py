"""Other forms of softmax on random shapes, layouts, masks and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import boltzmax
import boltzmax.testing
from layouts import LAYOUTS
from test_variants import EPS, exact, largest_error, same
from variant_samples import VARIANTS

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 90))
ISAS = st.sampled_from(tuple(boltzmax.available_isas()))


@given(
    st.sampled_from(sorted(VARIANTS)),
    ISAS,
    SHAPES,
    st.sampled_from((np.float32, np.float64)),
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from((0.0, 0.01, 1.0, 8.0)),
    st.floats(0.1, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_layouts_and_masks(
    name: str,
    isa: str,
    shape: tuple[int, ...],
    dtype: Any,
    layout: str,
    scale: float,
    density: float,
    seed: int,
) -> None:
    """The bits of contiguous rows, which are near the exact results of what is not masked."""
    variant, rng = VARIANTS[name], np.random.default_rng(seed)
    x = (variant.scale * scale * rng.normal(size=shape)).astype(dtype)
    keep = rng.random(shape) < density
    keep[..., 0] = True
    with boltzmax.testing.use_isa(isa):
        got = variant.function(LAYOUTS[layout](x), where=LAYOUTS[layout](keep))
        rows = variant.function(x.reshape(-1, shape[-1]), where=keep.reshape(-1, shape[-1]))
        assert same(got, rows.reshape(got.shape))
        if variant.positional or scale > 1:
            return
        for row, counts, result in zip(
            x.reshape(-1, shape[-1]), keep.reshape(-1, shape[-1]), rows, strict=True
        ):
            of_row = result if variant.reduces else result[counts]
            want = exact(variant, row[counts][np.newaxis])
            error = largest_error(of_row[np.newaxis], want, EPS[np.dtype(dtype).name])
            assert error <= 2 * max(variant.ulps, 1.0)

"""`boltzmax.margin`: cosines of features and centres, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from boltzmax.margin import (
    cosine_logits,
    cosine_logits_backward,
    subcenter_cosine,
    subcenter_cosine_backward,
)
from margin_samples import C, D, N, V, normal, numeric

Array = npt.NDArray[Any]

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cosines(dtype: Any) -> None:
    """Those of long double vectors, to some units in the last place."""
    x, c = normal(N, D, dtype=dtype), normal(V, D, dtype=dtype, seed=1)
    wide_x, wide_c = x.astype(np.longdouble), c.astype(np.longdouble)
    length_x, length_c = (np.sqrt((a**2).sum(1)) for a in (wide_x, wide_c))
    want = 30 * (wide_x @ wide_c.T) / length_x[:, None] / length_c
    got = cosine_logits(x, c, scale=30)
    assert got.dtype == dtype
    assert np.abs(got - want).max() <= 4 * 30 * np.finfo(dtype).eps


@np.errstate(under="ignore")
def test_lengths_do_not_leave_the_range() -> None:
    for dtype, sizes in ((np.float32, (1e-30, 1e30, 3e38)), (np.float64, (1e-300, 1e200, 1e308))):
        x, c = normal(N, D, dtype=dtype), normal(V, D, dtype=dtype, seed=1)
        x, c = x / np.abs(x).max(), c / np.abs(c).max()
        want = cosine_logits(x, c)
        for size in sizes:
            got = cosine_logits(x * dtype(size), c, eps=1e-310 if dtype is np.float64 else 1e-40)
            np.testing.assert_allclose(got, want, atol=8 * np.finfo(dtype).eps)


def test_vectors_of_zeros() -> None:
    """Their cosines are 0, as are their gradients; those of other vectors are finite."""
    x, c = normal(N, D), normal(V, D, seed=1)
    x[1], c[2] = 0, 0
    got = cosine_logits(x, c)
    assert np.isfinite(got).all()
    assert not got[1].any()
    assert not got[:, 2].any()
    d_x, d_c = cosine_logits_backward(normal(N, V), x, c)
    assert not d_x[1].any()
    assert not d_c[2].any()
    assert np.isfinite(d_x).all()
    assert np.isfinite(d_c).all()
    short = cosine_logits([[1e-13, 0.0]], [[2.0, 0.0]])
    assert short == pytest.approx(0.1)


def test_gradient_of_cosines() -> None:
    x, c, d = normal(N, D), normal(V, D, seed=1), normal(N, V, seed=2)

    def total() -> float:
        return float((d * cosine_logits(x, c, scale=7.0)).sum())

    d_x, d_c = cosine_logits_backward(d, x, c, scale=7.0)
    np.testing.assert_allclose(d_x, numeric(total, x), atol=1e-7)
    np.testing.assert_allclose(d_c, numeric(total, c), atol=1e-7)


def test_gradients_in_float32() -> None:
    x, c, d = normal(N, D), normal(V, D, seed=1), normal(N, V, seed=2)
    centers = normal(V, C, D, seed=1)
    narrow = np.float32
    pairs = [
        (cosine_logits_backward(d, x, c), cosine_logits_backward(*map(narrow, (d, x, c)))),
        (
            subcenter_cosine_backward(d, x, centers, pooling="soft"),
            subcenter_cosine_backward(*map(narrow, (d, x, centers)), pooling="soft"),
        ),
    ]
    for want, got in pairs:
        for a, b in zip(want, got, strict=True):
            assert b.dtype == narrow
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [0.5, 0.999, 1.001, 2.0])
def test_gradient_near_a_large_eps(length: float) -> None:
    """A short vector is divided by eps, a long one by its length."""
    x, c, d = normal(N, D), normal(V, D, seed=1), normal(N, V, seed=2)
    x *= 1e-3 * length / np.linalg.norm(x, axis=1, keepdims=True)
    c[0] *= 1e-3 * length / np.linalg.norm(c[0])

    def total() -> float:
        return float((d * cosine_logits(x, c, scale=3, eps=1e-3)).sum())

    d_x, d_c = cosine_logits_backward(d, x, c, scale=3, eps=1e-3)
    np.testing.assert_allclose(d_x, numeric(total, x, 1e-9), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(d_c, numeric(total, c, 1e-9), rtol=1e-4, atol=1e-3)


def test_zeros_have_no_gradient() -> None:
    x = normal(N, D)
    x[1] = 0
    for eps in (1e-12, 1.0):
        d_x, d_c = cosine_logits_backward(np.ones((N, V)), x, normal(V, D), eps=eps)
        assert not d_x[1].any()
        assert np.isfinite(d_c).all()


def test_dtypes_without_a_common_one_are_named() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, c = normal(N, D).astype(np.float16), normal(V, D).astype(bfloat16)
    with pytest.raises(TypeError, match="features of float16 and centers of bfloat16; convert one"):
        cosine_logits(x, c)
    with pytest.raises(TypeError, match="features of bfloat16 and centers of float16; convert one"):
        subcenter_cosine(x.astype(bfloat16), c.astype(np.float16)[:, None])

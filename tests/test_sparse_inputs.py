"""SciPy's sparse arrays as they seldom come: other byte orders, bad indices, half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.sparse

sparse: Any = pytest.importorskip("scipy.sparse")

pytestmark = pytest.mark.usefixtures("strict")


def sample() -> Any:
    x = np.random.default_rng(11).normal(size=(6, 5))
    return sparse.csr_array(np.where(x > 0, x, 0))


def test_other_byte_order_becomes_native() -> None:
    x = sample()
    other = x.copy()
    other.data = x.data.astype(x.dtype.newbyteorder("S"))
    y, want = (boltzmax.sparse.softmax(a, implicit="zero") for a in (other, x))
    assert y.stored.dtype.isnative
    assert (y.toarray() == want.toarray()).all()
    _, d_x = boltzmax.sparse.cross_entropy_with_grad(other, [0] * 6, implicit="zero")
    assert d_x.dtype.isnative


def test_indices_that_scipy_does_not_check_are_refused() -> None:
    for bad in (9, -1):
        for axis in (0, 1):
            for form in ("csr", "csc"):
                x = sparse.csr_array(np.eye(3)).asformat(form)
                x.indices[1] = bad
                with pytest.raises(ValueError, match=f"from 0 to 2, got {bad} at position 1"):
                    boltzmax.sparse.softmax(x, axis=axis)
    x = sparse.csr_array(np.eye(3))
    x.indptr[-1] = 7
    with pytest.raises(ValueError, match="at most 3, got 7"):
        boltzmax.sparse.softmax(x, axis=0)
    more = np.array([1.0, 2.0, 5.0]), np.array([0, 1, 9])  # SciPy's arrays may have room to grow
    x = sparse.csr_array((*more, np.array([0, 2])), shape=(1, 3))
    assert boltzmax.sparse.logsumexp(x) == boltzmax.logsumexp([1.0, 2.0])


def test_weights_of_no_classes() -> None:
    x, target = sparse.csr_array((3, 0)), [-100] * 3
    assert boltzmax.sparse.cross_entropy(x, target, weight=[], reduction="sum") == 0.0


def test_half_precision_is_refused_by_all() -> None:
    x = sample()
    x.data = x.data.astype(np.float16)
    cross_entropy, topk = boltzmax.sparse.cross_entropy, boltzmax.sparse.topk
    for f, more in ((boltzmax.sparse.softmax, ()), (cross_entropy, ([0] * 6,)), (topk, (1,))):
        with pytest.raises(TypeError, match=r"got dtype float16: pass x\.astype"):
            f(x, *more)


def test_filled_arrays_compare_by_identity() -> None:
    y, other = (boltzmax.sparse.softmax(sample(), implicit="zero") for _ in range(2))
    assert (y == y, y == other) == (True, False)

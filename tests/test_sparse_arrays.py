"""SciPy's sparse arrays: against the dense functions, for every format, kind and axis; refusals."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.sparse
from boltzmax.sparse import Filled

sparse: Any = pytest.importorskip("scipy.sparse")

pytestmark = pytest.mark.usefixtures("strict")

Array = np.ndarray[Any, Any]
FORMATS = ("csr", "csc", "coo")
KINDS = ("array", "matrix")
FILLS = {"masked": -np.inf, "zero": 0.0}
MAPS = ("softmax", "log_softmax")


def sample(
    seed: int = 0,
    shape: tuple[int, int] = (60, 45),
    dtype: Any = np.float64,
    density: float = 0.2,
    scale: float = 3.0,
) -> Any:
    """A CSR array with empty rows, full rows and explicit zeros."""
    rng = np.random.default_rng(seed)
    stored = rng.random(shape) < density
    stored[::9] = False
    stored[4::11] = True
    x = sparse.csr_array(stored.astype(dtype))
    x.data = (rng.normal(size=x.nnz) * scale).astype(dtype)
    x.data[::17] = 0.0
    return x


def dense(x: Any, fill: float, dtype: Any = None) -> Array:
    """The dense array, with `fill` for what is not stored."""
    entries = x.tocoo()
    result = np.full(x.shape, fill, dtype or x.dtype)
    result[entries.row, entries.col] = entries.data
    return result


def of_kind(x: Any, form: str, kind: str = "array") -> Any:
    made = getattr(sparse, f"{form}_{kind}")(x)
    return made.asformat(form)


def oracle(name: str, x: Array, axis: int = -1) -> Array:
    """In long double; NaN where nothing is finite."""
    with np.errstate(invalid="ignore", divide="ignore", under="ignore"):
        z = x.astype(np.longdouble)
        top = z.max(axis=axis, keepdims=True)
        total = np.exp(z - top).sum(axis=axis, keepdims=True)
        if name == "logsumexp":
            lse = np.squeeze(np.log(total) + top, axis)
            return np.where(np.isneginf(np.squeeze(top, axis)), -np.inf, lse)
        return np.exp(z - top) / total if name == "softmax" else (z - top) - np.log(total)


@pytest.mark.parametrize("implicit", FILLS)
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", KINDS)
def test_maps_keep_the_kind_and_agree_with_long_double(
    name: str, form: str, axis: int, implicit: str, kind: str
) -> None:
    x = of_kind(sample(), form, kind)
    y = getattr(boltzmax.sparse, name)(x, axis=axis, implicit=implicit)
    want = oracle(name, dense(x, FILLS[implicit]), axis)
    if implicit == "zero":
        assert isinstance(y, Filled)
        assert y.shape == x.shape
        np.testing.assert_allclose(y.toarray(), want.astype(float), rtol=3e-15, atol=0)
        y = y.stored
    assert type(y) is type(x)
    entries = y.tocoo()
    np.testing.assert_allclose(
        entries.data, want[entries.row, entries.col].astype(float), rtol=3e-15, atol=0
    )
    assert (y.tocsr().indices == x.tocsr().indices).all()


@pytest.mark.parametrize("implicit", FILLS)
@pytest.mark.parametrize("name", [*MAPS, "logsumexp"])
def test_float32_is_rounded_like_the_dense_functions(isa: str, name: str, implicit: str) -> None:
    x = sample(1, dtype=np.float32, scale=10.0)
    y = getattr(boltzmax.sparse, name)(x, implicit=implicit)
    want = oracle(name, dense(x, FILLS[implicit]))
    if isinstance(y, Filled):
        got = y.toarray()
    else:
        got = y if name == "logsumexp" else y.data
        want = want if name == "logsumexp" else want[x.tocoo().row, x.tocoo().col]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want.astype(np.float32), rtol=2.5e-7, atol=1e-44)


def test_masked_rows_have_the_bits_of_segments(isa: str) -> None:
    x = sample(2, dtype=np.float32)
    for name in MAPS:
        of_segments = getattr(boltzmax, f"segment_{name}")
        got = getattr(boltzmax.sparse, name)(x).data
        assert (got == of_segments(x.data, x.indptr)).all()
    got = boltzmax.sparse.logsumexp(x)
    assert (got == boltzmax.segment_logsumexp(x.data, x.indptr)).all()


@pytest.mark.parametrize("implicit", FILLS)
@pytest.mark.parametrize("axis", [-1, 0])
def test_logsumexp(axis: int, implicit: str) -> None:
    x = sample(3)
    got = boltzmax.sparse.logsumexp(x, axis=axis, implicit=implicit)
    want = oracle("logsumexp", dense(x, FILLS[implicit]), axis)
    np.testing.assert_allclose(got, want.astype(float), rtol=1e-15, atol=2e-15)


def test_zeros_of_millions_of_classes() -> None:
    """Their mass is one logarithm, whose rounding is the error that the documentation states."""
    n = 50_000_000
    x = sparse.csr_array(([5.0, -30.0], ([0, 1], [7, 9])), shape=(3, n))
    y = boltzmax.sparse.softmax(x, implicit="zero")
    mass = np.array([n - 1, n - 1, n], np.longdouble)
    total = np.add(mass, [*np.exp(np.array([5.0, -30.0], np.longdouble)), 0])
    assert np.abs(y.implicit * total - 1).max() < 2.0**-48
    assert np.abs(y.stored.data * total[:2] / np.exp([5.0, -30.0]) - 1).max() < 2.0**-48
    lse = boltzmax.sparse.log_softmax(x, implicit="zero").implicit
    assert np.abs(lse + np.log(total)).max() < 1e-14


def test_duplicates_are_added_up_and_integers_do_not_overflow() -> None:
    entries = (np.array([100, 100, 3], np.int8), ([0, 0, 0], [1, 1, 0]))
    y = boltzmax.sparse.log_softmax(sparse.coo_array(entries, shape=(1, 3)))
    assert y.dtype == np.float64
    assert y.toarray()[0].round(12).tolist() == [-197.0, 0.0, 0.0]
    unsorted = sparse.csr_array(
        (np.array([1.0, 2.0, 1.0]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3)
    )
    assert boltzmax.sparse.softmax(unsorted).toarray().tolist() == [[0.5, 0.0, 0.5]]
    assert unsorted.indices.tolist() == [2, 0, 2], "the argument is as it was"
    assert boltzmax.sparse.logsumexp(sparse.csr_array([[True, False]])).tolist() == [1.0]


def test_results_do_not_share_memory_with_arguments() -> None:
    x = sample(4)
    before = x.copy()
    y = boltzmax.sparse.softmax(x)
    y.data[:] = 0
    y.eliminate_zeros()
    assert (x.indices == before.indices).all()
    assert (x.indptr == before.indptr).all()
    assert (x.data == before.data).all()


def test_special_values_are_those_of_the_dense_functions() -> None:
    values = [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf], [-np.inf, 0.0], [1e300, -1e300]]
    x = sparse.csr_array((np.ravel(values), np.tile([0, 2], 5), np.arange(6) * 2), shape=(5, 4))
    for implicit, fill in FILLS.items():
        whole = dense(x, fill)
        for name in MAPS:
            y = getattr(boltzmax.sparse, name)(x, implicit=implicit)
            want = getattr(boltzmax, name)(whole)
            if implicit == "zero":
                np.testing.assert_allclose(y.toarray(), want, rtol=1e-15)
            else:
                np.testing.assert_array_equal(y.data, want[:, [0, 2]].ravel())
        lse = boltzmax.sparse.logsumexp(x, implicit=implicit)
        np.testing.assert_allclose(lse, boltzmax.logsumexp(whole, axis=-1), rtol=1e-15)
        loss = boltzmax.sparse.cross_entropy(x, [2, 2, 2, 2, 3], implicit=implicit, reduction="sum")
        assert np.isnan(loss)
        each = boltzmax.sparse.cross_entropy(x, [1] * 5, implicit=implicit, reduction="none")
        np.testing.assert_allclose(
            each, boltzmax.cross_entropy(whole, [1] * 5, reduction="none"), rtol=1e-15
        )
        each = boltzmax.sparse.cross_entropy(x, [2] * 5, implicit=implicit, reduction="none")
        np.testing.assert_allclose(
            each, boltzmax.cross_entropy(whole, [2] * 5, reduction="none"), rtol=1e-15
        )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("implicit", FILLS)
def test_empty_arrays(shape: tuple[int, int], implicit: str) -> None:
    x = sparse.csr_array(shape)
    for name in MAPS:
        y = getattr(boltzmax.sparse, name)(x, implicit=implicit)
        assert y.shape == shape
    lse = boltzmax.sparse.logsumexp(x, implicit=implicit)
    want = 0.0 if implicit == "zero" and shape[1] else -np.inf
    assert (lse == want).all()


@pytest.mark.parametrize("implicit", FILLS)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("axis", [-1, 0])
def test_cross_entropy_is_that_of_dense_logits(form: str, axis: int, implicit: str) -> None:
    rng = np.random.default_rng(5)
    x = of_kind(sample(5), form)
    whole = dense(x, FILLS[implicit])
    rows, classes = x.shape[1 + axis], x.shape[axis]
    target = rng.integers(0, classes, rows)
    target[::7] = -100
    weight, sample_weight = rng.random(classes), rng.random(rows)
    for options in (
        {"reduction": "none"},
        {"reduction": "none", "weight": weight, "sample_weight": sample_weight},
        {"reduction": "sum"},
        {"reduction": "mean", "weight": weight},
    ):
        got = boltzmax.sparse.cross_entropy(x, target, axis=axis, implicit=implicit, **options)
        want = boltzmax.cross_entropy(whole, target, axis=axis, **options)
        np.testing.assert_allclose(got, want, rtol=1e-14)
    half = boltzmax.sparse.cross_entropy(x.astype(np.float32), target, axis=axis, implicit="zero")
    assert half.dtype == np.float32


@pytest.mark.parametrize("implicit", FILLS)
@pytest.mark.parametrize("axis", [-1, 0])
def test_gradient_is_that_of_dense_logits(axis: int, implicit: str) -> None:
    rng = np.random.default_rng(6)
    x = sample(6, density=0.8)
    whole = dense(x, FILLS[implicit])
    rows, classes = x.shape[1 + axis], x.shape[axis]
    target = rng.integers(0, classes, rows)
    target[::5] = -100
    options: dict[str, Any] = {
        "weight": rng.random(classes),
        "sample_weight": rng.random(rows),
        "axis": axis,
    }
    if implicit == "masked":  # rows without entries have no loss, and make the mean NaN
        options["sample_weight"][np.isneginf(whole.max(axis=axis))] = 0.0
        target[np.isneginf(whole.max(axis=axis))] = -100
    loss, d_x = boltzmax.sparse.cross_entropy_with_grad(
        x, target, implicit=implicit, reduction="sum", **options
    )
    want, gradient = boltzmax.cross_entropy_with_grad(whole, target, reduction="sum", **options)
    np.testing.assert_allclose(loss, want, rtol=1e-13)
    stored = x.tocoo()
    np.testing.assert_allclose(
        d_x.tocoo().data, gradient[stored.row, stored.col], rtol=1e-12, atol=1e-17
    )


@pytest.mark.parametrize("implicit", FILLS)
def test_gradient_is_a_central_difference(implicit: str) -> None:
    x = sample(7, shape=(6, 8), density=0.6)
    target = np.array([int(x.indices[b]) if b < e else 0
                       for b, e in zip(x.indptr[:-1], x.indptr[1:], strict=True)])  # fmt: skip
    target[x.indptr[:-1] == x.indptr[1:]] = -100
    _, d_x = boltzmax.sparse.cross_entropy_with_grad(x, target, implicit=implicit)
    step = 1e-5
    for i in range(x.nnz):
        ends = []
        for sign in (-1, 1):
            moved = x.copy()
            moved.data[i] += sign * step
            ends.append(boltzmax.sparse.cross_entropy(moved, target, implicit=implicit))
        assert abs((ends[1] - ends[0]) / (2 * step) - d_x.data[i]) < 1e-9


@pytest.mark.parametrize("implicit", FILLS)
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_topk_is_that_of_dense_logits(axis: int, implicit: str, dtype: Any) -> None:
    x = sample(8, shape=(80, 70), dtype=dtype)
    x.data = np.round(x.data).astype(dtype)  # many are equal
    for k in (1, 3, 70):
        ids, log_probs = boltzmax.sparse.topk(x, k, axis=axis, implicit=implicit)
        stats = boltzmax.row_stats(dense(x, FILLS[implicit]), k=k, axis=axis)
        want = stats.top_log_probs
        assert want is not None
        assert stats.top_ids is not None
        there = np.isfinite(want)
        assert (ids[there] == stats.top_ids[there]).all()
        np.testing.assert_allclose(log_probs[there], want[there], rtol=3e-7, atol=1e-7)
        assert (ids[~there] == -1).all()
        assert np.isneginf(log_probs[~there]).all()


def test_topk_of_long_rows_goes_by_panels() -> None:
    rng = np.random.default_rng(9)
    x = sparse.random_array((3, 400_000), density=0.9, rng=rng, format="csr")
    ids, _ = boltzmax.sparse.topk(x, 4)
    assert (ids == boltzmax.row_stats(dense(x, -np.inf), k=4).top_ids).all()


def test_topk_of_rows_without_probabilities_is_marked() -> None:
    values = [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf], [-np.inf, 0.0]]
    x = sparse.csr_array((np.ravel(values), np.tile([0, 2], 4), np.arange(5) * 2), shape=(4, 4))
    for implicit, fill in FILLS.items():
        ids, log_probs = boltzmax.sparse.topk(x, 3, implicit=implicit)
        stats = boltzmax.row_stats(dense(x, fill), k=3)
        assert stats.top_log_probs is not None
        np.testing.assert_allclose(log_probs, stats.top_log_probs, rtol=1e-14)
        assert stats.top_ids is not None
        if implicit == "zero":
            assert (ids == stats.top_ids).all()
    ids, log_probs = boltzmax.sparse.topk(sparse.csr_array((1, 4)), 2)
    assert (ids == -1).all()
    assert np.isneginf(log_probs).all()


def test_refusals() -> None:
    x, target = sample(10), np.zeros(60, int)
    functions = {name: getattr(boltzmax.sparse, name) for name in boltzmax.sparse.__all__}
    for name in ("softmax", "log_softmax", "logsumexp"):
        f = functions[name]
        with pytest.raises(TypeError, match=r"SciPy sparse array or matrix .* got ndarray"):
            f(x.toarray())
        with pytest.raises(TypeError, match=r"got format 'bsr': pass x\.tocsr"):
            f(x.tobsr())
        with pytest.raises(ValueError, match="implicit must be one of 'masked', 'zero', got 'one'"):
            f(x, implicit="one")
        with pytest.raises(np.exceptions.AxisError):
            f(x, axis=2)
        with pytest.raises(TypeError, match="complex128"):
            f(x.astype(complex))
        with pytest.raises(TypeError, match="no 16-bit floats"):
            f(x, dtype=np.float16)
    with pytest.raises(IndexError, match="target 45 at position 0 is out of range"):
        functions["cross_entropy"](x, target + 45)
    with pytest.raises(ValueError, match="one class for each row"):
        functions["cross_entropy"](x, target[:5])
    with pytest.raises(ValueError, match="reduction must not be 'none'"):
        functions["cross_entropy_with_grad"](x, target, reduction="none")
    with pytest.raises(TypeError, match=r"longdouble|float128"):
        functions["cross_entropy"](x.astype(np.longdouble), target)
    for k in (0, 46):
        with pytest.raises(ValueError, match=f"k must be from 1 to 45, got {k}"):
            functions["topk"](x, k)
    with pytest.raises(ValueError, match="two axes"):
        functions["softmax"](sparse.coo_array([1.0, 2.0]))


def test_scipy_is_not_imported() -> None:
    code = (
        "import sys, boltzmax.sparse\n"
        "assert 'scipy' not in sys.modules\n"
        "try: boltzmax.sparse.softmax([[1.0]])\n"
        "except TypeError as e: assert 'got list' in str(e)\n"
        "else: raise SystemExit('no error')\n"
        "assert 'scipy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

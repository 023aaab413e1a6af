"""Data frames and arrays of xarray: results have the labels of the axes that are left."""

from __future__ import annotations

import numpy as np
import pytest

import boltzmax
from test_foreign_arrays import TARGET, X, to_torch


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, index=list("wxyz"), columns=[f"c{i}" for i in range(6)])
    p = boltzmax.softmax(frame)
    pd.testing.assert_frame_equal(p, pd.DataFrame(boltzmax.softmax(X), frame.index, frame.columns))
    of_rows = boltzmax.logsumexp(frame)
    pd.testing.assert_series_equal(of_rows, pd.Series(boltzmax.logsumexp(X), frame.index))
    of_columns = boltzmax.logsumexp(frame, axis=0)
    assert list(of_columns.index) == list(frame.columns)
    kept = boltzmax.logsumexp(frame, keepdims=True)
    assert list(kept.index) == list(frame.index)
    assert kept.shape == (4, 1)
    assert isinstance(boltzmax.logsumexp(frame, axis=None), np.float32)
    target = pd.Series(TARGET, index=frame.index, name="truth")
    each = boltzmax.cross_entropy(frame, target, reduction="none")
    assert list(each.index) == list(frame.index)
    loss, gradient = boltzmax.cross_entropy_with_grad(frame, target)
    assert isinstance(loss, np.float32)
    assert list(gradient.columns) == list(frame.columns)
    row = boltzmax.sparsemax(frame.loc["x"])
    assert list(row.index) == list(frame.columns)
    assert row.name == "x"
    assert isinstance(boltzmax.cross_entropy(X, target, reduction="none"), np.ndarray)
    # Where results have other axes than the arguments, labels would be wrong.
    stats = boltzmax.row_stats(frame, k=6)
    assert list(stats.lse.index) == list(frame.index)
    assert list(stats.top_ids.columns) == list(range(6))
    _, by_hidden, _, _ = boltzmax.linear_cross_entropy_with_grad(frame, X, [0, 1, 2, 3])
    assert isinstance(by_hidden, np.ndarray)
    assert list(boltzmax.softmax(frame, axis=[0, 1]).index) == list(frame.index)
    square = pd.DataFrame(X[:, :4], index=list("wxyz"), columns=list("abcd"))
    assert list(boltzmax.logsumexp(square, axis=0).index) == list("abcd")
    assert list(boltzmax.logsumexp(square, axis=-1).index) == list("wxyz")
    with pytest.raises(TypeError, match="out must be an ndarray, got DataFrame"):
        boltzmax.softmax(frame, out=frame)
    with pytest.raises(TypeError, match="does not support dtype object"):
        boltzmax.softmax(pd.DataFrame({"a": [1.0], "b": ["x"]}))
    with pytest.raises(TypeError, match="x is an array of pandas, but temperature is one of Py"):
        boltzmax.softmax(frame, temperature=to_torch([1.0, 2.0, 3.0, 4.0]))


def test_functions_without_an_axis_keep_labels() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, index=list("wxyz"), columns=list("abcdef"))
    elements = [
        boltzmax.binary_cross_entropy_with_logits(frame, X > 0, reduction="none"),
        boltzmax.binary_cross_entropy_with_logits_with_grad(frame, X > 0)[1],
        boltzmax.kl_divergence(frame, boltzmax.softmax(X), reduction="none"),
    ]
    for found in elements:
        assert found.index.equals(frame.index)
        assert found.columns.equals(frame.columns)
    rows = [
        boltzmax.linear_logsumexp(frame, X),
        boltzmax.linear_log_prob(frame, X, [0, 1, 2, 3]),
        boltzmax.linear_sample(frame, X, rng=0),
    ]
    for found in rows:
        assert found.index.equals(frame.index)
    ids, _ = boltzmax.linear_topk(frame, np.tile(X, (2, 1)), 6)  # as many ranks as features
    assert ids.index.equals(frame.index)
    assert list(ids.columns) == list(range(6))
    scores = frame["a"]
    p = boltzmax.segment_softmax(scores, [0, 1, 4])
    assert p.index.equals(scores.index)
    totals = boltzmax.segment_logsumexp(scores, [0, 1, 2, 3, 4])
    assert isinstance(totals, np.ndarray)


def test_nullable_columns() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.5, 2.0], "b": [1, None]}).convert_dtypes()
    p = boltzmax.softmax(frame)
    np.testing.assert_array_equal(p.loc[0], boltzmax.softmax([1.5, 1.0]))
    assert p.loc[1].isna().all()
    with pytest.raises(TypeError, match="does not support dtype object"):
        boltzmax.softmax(frame.astype({"b": "string"}))


def test_out_is_returned_as_given() -> None:
    pd = pytest.importorskip("pandas")
    out = np.empty_like(X)
    assert boltzmax.softmax(pd.DataFrame(X), out=out) is out
    np.testing.assert_array_equal(out, boltzmax.softmax(X))


def test_polars() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(X, schema=[f"c{i}" for i in range(6)], orient="row")
    p = boltzmax.softmax(frame)
    assert p.columns == frame.columns
    np.testing.assert_array_equal(p.to_numpy(), boltzmax.softmax(np.asarray(frame)))
    each = boltzmax.cross_entropy(frame, pl.Series(TARGET), reduction="none")
    assert isinstance(each, pl.Series)
    assert len(boltzmax.logsumexp(frame, axis=0)) == 6
    assert boltzmax.logsumexp(frame, axis=0, keepdims=True).columns == frame.columns
    with pytest.raises(TypeError, match=r"^x is lazy \(.*LazyFrame\); pass x.collect\(\)"):
        boltzmax.softmax(frame.lazy())


def test_xarray() -> None:
    xr = pytest.importorskip("xarray")
    x = xr.DataArray(
        X.reshape(2, 2, 6),
        dims=("time", "place", "kind"),
        coords={"time": [10, 20], "kind": list("abcdef"), "height": ("place", [1.0, 2.0])},
        name="scores",
        attrs={"from": "a model"},
    )
    p = boltzmax.softmax(x)
    assert (p.dims, p.name, p.attrs) == (x.dims, x.name, x.attrs)
    assert p.coords.equals(x.coords)
    np.testing.assert_array_equal(p.values, boltzmax.softmax(x.values))
    lse = boltzmax.logsumexp(x, axis=1)
    assert lse.dims == ("time", "kind")
    assert set(lse.coords) == {"time", "kind"}
    assert boltzmax.logsumexp(x, axis=(0, 1)).dims == ("kind",)
    kept = boltzmax.logsumexp(x, axis=2, keepdims=True)
    assert kept.shape == (2, 2, 1)
    assert set(kept.coords) == {"time", "height"}
    ids, _ = boltzmax.gumbel_topk(x, 6, rng=0)  # as many ranks as kinds
    assert ids.dims == ("time", "place", "dim_2")
    assert kept.dims == x.dims
    ids, _ = boltzmax.gumbel_topk(x.rename(time="dim_2"), 3, rng=0)
    assert ids.dims == ("dim_2", "place", "dim_2_")

"""Layers of weights in few bits: they answer as the layers that they were made from."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import stats

from boltzmax import (
    HierarchicalSoftmax,
    LinearSoftmax,
    QuantizedHierarchicalSoftmax,
    QuantizedLinear,
    QuantizedSoftmax,
    Tree,
)
from boltzmax._lib.output_layer import OutputLayer

V, D = 53, 12


def full(dtype="float32", bias=True):
    layer = LinearSoftmax(V, D, seed=0, dtype=dtype, bias=bias)
    return spread(layer)


def tree(dtype="float32", bias=True):
    layer = HierarchicalSoftmax(Tree.huffman(np.arange(V) + 1), D, seed=0, dtype=dtype, bias=bias)
    return spread(layer)


def spread(layer):
    layer.weight *= 4
    if layer.bias is not None:
        layer.bias[:] = np.random.default_rng(1).standard_normal(len(layer.bias))
    return layer


both = pytest.mark.parametrize("make", [full, tree])


def rows(n=40):
    rng = np.random.default_rng(2)
    return rng.standard_normal((n, D)), rng.integers(0, V, n)


def decoded(layer, small):
    """The layer itself, with the weights that the small one stands for."""
    linear = small.linear if isinstance(small, QuantizedSoftmax) else small.units
    layer.weight[:] = linear.dequantize()
    return layer


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"bits": 4}, {"rotate": True}, {"dtype": "bfloat16"}], ids=str
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.usefixtures("isa", "strict")
def test_answers_are_those_of_the_decoded_weights(make, dtype, options, bias):
    layer = make(dtype, bias)
    small = layer.quantize(**options)
    x, target = rows()
    exact = decoded(layer, small)
    near = {"rtol": 1e-3, "atol": 2e-3}  # hidden vectors are rounded, too
    log_probs = small.log_prob_all(x)
    assert log_probs.dtype == dtype
    np.testing.assert_allclose(log_probs, exact.log_prob_all(x), **near)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-5)
    own = small.log_prob(x, target)
    assert own.dtype == dtype
    np.testing.assert_allclose(own, exact.log_prob(x, target), **near)
    weight = np.arange(len(x)) + 1.0
    assert small.loss(x, target) == pytest.approx(exact.loss(x, target), rel=1e-3)
    assert small.loss(x, target, weight) == pytest.approx(exact.loss(x, target, weight), rel=1e-3)
    ids, top = small.topk(x, 3)
    assert top.dtype == dtype
    np.testing.assert_allclose(top, np.take_along_axis(log_probs, ids, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(top, -np.sort(-log_probs, axis=1)[:, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(small.predict(x), ids[:, 0])


@both
def test_eight_bits_lose_little(make):
    layer = make()
    x, target = rows(500)
    want = layer.loss(x, target)
    losses = [abs(layer.quantize(bits).loss(x, target) - want) for bits in (8, 4)]
    assert losses[0] < 0.005 * want
    assert losses[0] < losses[1] < 0.1 * want
    assert layer.quantize(8).nbytes < layer.quantize(16 // 2).nbytes + 1


@both
def test_training_is_refused(make):
    small = make().quantize()
    x, target = rows()
    for call in (
        lambda: small.loss_with_grad(x, target),
        lambda: small.sgd_step(x, target, 0.1),
        lambda: small.adagrad_step(x, target, 0.1, eps=1e-8),
    ):
        with pytest.raises(TypeError, match="does not learn"):
            call()
    methods = [name for name in vars(OutputLayer) if not name.startswith("_")]
    assert all(hasattr(small, name) for name in methods if name not in ("weight", "bias"))


@both
@pytest.mark.usefixtures("strict")
def test_rows_that_are_not_finite(make):
    small = make().quantize()
    x, target = rows(5)
    x[1, 0], x[3, 4] = np.nan, np.inf
    bad = np.array([False, True, False, True, False])
    for values in (small.log_prob(x, target), small.log_prob_all(x)):
        np.testing.assert_array_equal(np.isnan(values.reshape(5, -1)).all(axis=1), bad)
        np.testing.assert_array_equal(np.isnan(values.reshape(5, -1)).any(axis=1), bad)
    assert np.isnan(small.loss(x, target))
    ids, log_probs = small.topk(x, 2)
    np.testing.assert_array_equal((ids == -1).all(axis=1), bad)
    assert (log_probs[bad] == -np.inf).all()
    np.testing.assert_array_equal(small.predict(x) == -1, bad)
    with pytest.raises(ValueError, match="row 1"):
        small.sample(x, 0)
    np.testing.assert_array_equal(small.sample(x, 0, errors="mark") == -1, bad)


@both
def test_least_probability(make):
    small = make().quantize()
    x, _ = rows(6)
    ids, log_probs = small.topk(x, V, min_prob=0.05)
    likely = small.log_prob_all(x) >= np.log(0.05)
    np.testing.assert_array_equal((ids >= 0).sum(axis=1), likely.sum(axis=1))
    assert (log_probs[ids < 0] == -np.inf).all()


@both
def test_no_rows(make):
    small = make().quantize()
    x = np.zeros((0, D))
    assert small.log_prob_all(x).shape == (0, V)
    assert small.topk(x, 2)[0].shape == (0, 2)
    assert small.sample(x, 0).shape == small.predict(x).shape == (0,)
    assert np.isnan(small.loss(x, np.zeros(0, int)))


@both
def test_draws_have_the_distribution_of_the_softmax(make):
    small = make().quantize()
    draws = 20_000
    x = 0.5 * np.tile(rows(1)[0], (draws, 1))
    counts = np.bincount(small.sample(x, 5), minlength=V)
    p = np.exp(small.log_prob_all(x[:1])[0].astype(float))
    rare = draws * p < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    p = np.append(p[~rare], p[rare].sum())
    assert stats.chisquare(counts, draws * p / p.sum()).pvalue > 1e-3


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_files_and_pickles(make, dtype, tmp_path):
    small = make(dtype).quantize(4)
    x, target = rows(7)
    path = tmp_path / "layer.npz"
    small.save(path)
    options = {"dtype": dtype} if make is full else {}
    for again in (type(small).load(path, **options), pickle.loads(pickle.dumps(small))):
        assert again.dtype == dtype
        assert repr(again) == repr(small)
        np.testing.assert_array_equal(again.log_prob(x, target), small.log_prob(x, target))
        np.testing.assert_array_equal(again.topk(x, 3)[0], small.topk(x, 3)[0])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"layer\.npz"):
        type(small).load(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"layer\.npz"):
        type(small).load(path)


def test_bad_arguments():
    small, branches = full().quantize(), tree().quantize()
    x, _ = rows()
    for layer in (small, branches):
        for k in (0, V + 1):
            with pytest.raises(ValueError, match="k must be"):
                layer.topk(x, k)
        with pytest.raises(IndexError, match=str(V)):
            layer.log_prob(x, np.full(len(x), V))
        with pytest.raises(ValueError, match="errors must be"):
            layer.sample(x, 0, errors="skip")
    for make in (full, tree):
        with pytest.raises(ValueError, match="bits must be"):
            make().quantize(5)
    with pytest.raises(TypeError, match="QuantizedLinear"):
        QuantizedSoftmax(full())
    with pytest.raises(TypeError, match="float32 or float64"):
        QuantizedSoftmax(small.linear, np.float16)
    with pytest.raises(TypeError, match=r"boltzmax\.Tree"):
        QuantizedHierarchicalSoftmax(V, small.linear)
    with pytest.raises(TypeError, match="QuantizedLinear"):
        QuantizedHierarchicalSoftmax(Tree.balanced(V), full())
    with pytest.raises(ValueError, match="units"):
        QuantizedHierarchicalSoftmax(Tree.balanced(V), QuantizedLinear(np.eye(3)))


def test_only_paths_to_targets_are_decoded(monkeypatch):
    small = tree().quantize()
    decoded_rows = []
    real = QuantizedLinear._rows
    monkeypatch.setattr(
        QuantizedLinear, "_rows", lambda self, ids: decoded_rows.append(len(ids)) or real(self, ids)
    )
    small.log_prob(rows(2)[0], [1, 2])
    assert decoded_rows[0] < V / 2

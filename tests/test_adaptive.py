"""The adaptive softmax layer: its definition, PyTorch's, clusters, soft targets and files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from boltzmax import AdaptiveSoftmax
from boltzmax.adaptive.top import top_of_clusters
from layer_samples import COUNTS, D, V, biased, both, filled, rows, tolerance

Array = NDArray[Any]


def by_number(**options: Any) -> AdaptiveSoftmax:
    """A layer whose classes are numbered by frequency."""
    layer: AdaptiveSoftmax = filled(
        AdaptiveSoftmax(D, V, [5, 12], div_value=1.5, seed=0, **options)
    )
    return layer


def by_counts(**options: Any) -> AdaptiveSoftmax:
    """A layer whose classes have any numbers."""
    layer: AdaptiveSoftmax = filled(
        AdaptiveSoftmax(D, V, [5, 12], counts=COUNTS, div_value=1.5, seed=0, **options)
    )
    return layer


either = pytest.mark.parametrize("make", [by_number, by_counts])


def defined(layer: AdaptiveSoftmax, hidden: Array) -> Array:
    """All log-probabilities in long double, by the definition."""

    def log_softmax(x: Array, weight: Array, bias: Array | None) -> Array:
        s = x @ weight.astype(np.longdouble).T + (0 if bias is None else bias)
        s = s - s.max(axis=1, keepdims=True)
        return np.asarray(s - np.log(np.exp(s).sum(axis=1, keepdims=True)))

    x = hidden.astype(np.longdouble)
    head = log_softmax(x, layer.weight, layer.bias)
    parts = [head[:, : len(layer.weight) - len(layer.tails)]]
    for i, tail in enumerate(layer.tails):
        of_tail = head[:, i - len(layer.tails), None]
        h = x @ tail.projection.astype(np.longdouble).T
        parts.append(of_tail + log_softmax(h, tail.weight, tail.bias))
    found = np.empty((len(x), layer.n_classes), np.longdouble)
    found[:, slice(None) if layer.order is None else layer.order] = np.concatenate(parts, axis=1)
    return found


@either
@both
@biased
def test_definition(make: Callable[..., Any], dtype: str, bias: bool) -> None:
    layer = make(dtype=dtype, bias=bias)
    hidden, target = rows(9, dtype)
    want = defined(layer, hidden)
    np.testing.assert_allclose(layer.log_prob_all(hidden), want, **tolerance(dtype))
    chosen = want[range(9), target]
    np.testing.assert_allclose(layer.log_prob(hidden, target), chosen, **tolerance(dtype))
    assert layer.loss(hidden, target) == pytest.approx(-float(chosen.mean()), rel=1e-6)


def test_every_instruction_set(isa: str) -> None:
    """Losses, gradients and queries in tiles of several vectors."""
    del isa
    layer = AdaptiveSoftmax(16, 600, [70, 200], bias=True, seed=0)
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((40, 16), dtype=np.float32)
    target = rng.integers(0, 600, 40)
    want = defined(layer, hidden)
    near = {"rtol": 2e-6, "atol": 2e-6}
    chosen = want[range(40), target]
    assert layer.loss(hidden, target) == pytest.approx(-float(chosen.mean()), rel=1e-6)
    np.testing.assert_allclose(layer.log_prob_all(hidden), want, **near)
    ids, log_probs = layer.topk(hidden, 5)
    np.testing.assert_allclose(log_probs, -np.sort(-want, axis=1)[:, :5], **near)
    np.testing.assert_allclose(np.take_along_axis(want, ids, 1), log_probs, **near)
    double = AdaptiveSoftmax(16, 600, [70, 200], bias=True, dtype="float64")
    double.weight[:] = layer.weight
    for mine, other in zip(double.tails, layer.tails, strict=True):
        mine.projection[:], mine.weight[:] = other.projection, other.weight
    one, two = layer.loss_with_grad(hidden, target), double.loss_with_grad(hidden, target)
    np.testing.assert_allclose(one.d_hidden, two.d_hidden, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(one.d_weight, two.d_weight, rtol=1e-4, atol=1e-7)
    for a, b in zip(one.tails, two.tails, strict=True):
        assert a is not None
        assert b is not None
        np.testing.assert_allclose(a.d_projection, b.d_projection, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(a.d_weight, b.d_weight, rtol=1e-4, atol=1e-7)


def test_only_the_head() -> None:
    """Without cutoffs below the number of classes it is the full softmax."""
    layer = AdaptiveSoftmax(D, V, (), seed=0)
    assert (layer.tails, layer.weight.shape) == ((), (V, D))
    hidden, target = rows(4)
    assert AdaptiveSoftmax(D, V).cutoffs == (), "few classes need no tails"
    ids, _ = layer.topk(hidden, 3)
    np.testing.assert_array_equal(ids[:, 0], layer.log_prob_all(hidden).argmax(1))
    assert np.isfinite(layer.sgd_step(hidden, target, 0.1)[0])
    assert AdaptiveSoftmax(3, 1).log_prob([[1, 2, 3]], [0]) == 0


def test_sizes_and_biases() -> None:
    layer = AdaptiveSoftmax(64, 1000, [100, 400], head_bias=True)
    assert [t.projection.shape for t in layer.tails] == [(16, 64), (4, 64)]
    assert [t.weight.shape for t in layer.tails] == [(300, 16), (600, 4)]
    assert layer.weight.shape == (102, 64)
    assert layer.bias is not None
    assert all(tail.bias is None for tail in layer.tails)
    assert all(t.bias is not None for t in AdaptiveSoftmax(4, 9, [3], bias=True).tails)
    assert AdaptiveSoftmax(2, 9, [3, 5, 7]).tails[2].projection.shape == (1, 2)
    assert "cutoffs=[100, 400]" in repr(layer)


def test_counts_number_the_classes() -> None:
    """Classes with more counts come first, equal ones in the order of their numbers."""
    layer = AdaptiveSoftmax(4, 5, [2], counts=[1, 7, 1, 9, 1])
    assert layer.order is not None
    assert layer.order.tolist() == [3, 1, 0, 2, 4]
    assert AdaptiveSoftmax(4, 3, [2], counts=[3, 3, 1]).order is None


def test_untrained_layers_learn() -> None:
    """Without a seed, weights start at zero but projections do not: that would be for ever."""
    layer = AdaptiveSoftmax(D, V, [5, 12], div_value=1.2)
    hidden, target = np.eye(D, dtype=np.float32)[:4], [0, 6, 13, 20]
    before = layer.loss(hidden, target)
    for _ in range(100):
        layer.adagrad_step(hidden, target, 0.3)
    assert layer.loss(hidden, target) < before / 10


# ---- gradients


def differences(loss: Callable[[], float], array: Array) -> Array:
    """The gradient of a loss by central differences."""
    found = np.zeros(array.shape)
    for i in range(array.size):
        kept, ends = array.flat[i], []
        for shift in (1e-5, -1e-5):
            array.flat[i] = kept + shift
            ends.append(loss())
        array.flat[i] = kept
        found.flat[i] = (ends[0] - ends[1]) / 2e-5
    return found


def soft_targets(n: int, seed: int = 0) -> Array:
    """Class probabilities of which many are 0, and which do not sum to 1."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, V)) < 0.7, 0.0, rng.random((n, V)))


@either
@pytest.mark.parametrize("soft", [False, True])
def test_gradients(make: Callable[..., Any], soft: bool) -> None:
    """Of hidden vectors, head, projections, weights and biases."""
    layer = make(dtype="float64", bias=True)
    hidden = rows(5, "float64")[0]
    target = soft_targets(5) if soft else np.array([1, 6, -7, 20, 13])
    weight = np.linspace(0.5, 2, 5)
    options: Any = {"sample_weight": weight} | ({} if soft else {"ignore_index": -7})

    def loss() -> float:
        found: float = layer.loss(hidden, target, **options)
        return found

    mean = layer.loss_with_grad(hidden, target, **options)
    total = layer.loss_with_grad(hidden, target, reduction="sum", **options)
    mass = weight[[True, True, soft, True, True]].sum()
    assert mean.loss == pytest.approx(loss())
    assert total.loss == pytest.approx(layer.loss(hidden, target, reduction="sum", **options))
    arrays = [hidden, layer.weight, layer.bias]
    found = [[g.d_hidden, g.d_weight, g.d_bias] for g in (mean, total)]
    for i, tail in enumerate(layer.tails):
        arrays += tail.projection, tail.weight, tail.bias
        found = [[*f, *g.tails[i]] for f, g in zip(found, (mean, total), strict=True)]
    for array, of_mean, of_sum in zip(arrays, *found, strict=True):
        np.testing.assert_allclose(of_mean, differences(loss, array), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(of_sum, mass * of_mean, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("step", ["sgd_step", "adagrad_step"])
def test_steps_change_only_tails_with_targets(step: str) -> None:
    layer = by_number(dtype="float64", bias=True)
    hidden = rows(4, "float64")[0]
    target = [0, 6, 7, 1]
    gradient = layer.loss_with_grad(hidden, target, reduction="sum")
    assert gradient.tails[1] is None
    before = [{k: v.copy() for k, v in t.arrays().items()} for t in layer.tails]
    getattr(layer, step)(hidden, target, 0.1)
    for name, array in layer.tails[1].arrays().items():
        np.testing.assert_array_equal(array, before[1][name])
    first, found = layer.tails[0], gradient.tails[0]
    assert found is not None
    rates: Any = 0.1
    if step == "adagrad_step":
        mean = np.square(found.d_projection).mean(1)
        rates = (0.1 / (np.sqrt(mean) + 1e-10))[:, None]
        squares = (np.square(found.d_weight).sum(1) + np.square(found.d_bias)) / 5
        np.testing.assert_allclose(first.arrays()["squares"], squares, rtol=1e-12)
        np.testing.assert_allclose(first.arrays()["projection_squares"], mean, rtol=1e-12)
    want = before[0]["projection"] - rates * found.d_projection
    np.testing.assert_allclose(first.projection, want, rtol=1e-12)


@either
def test_tiles_do_not_matter(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do the blocks of soft targets: the same gradients up to rounding."""
    layer, hidden = make(dtype="float64"), rows(40, "float64")[0]
    want = [layer.loss_with_grad(hidden, target) for target in (rows(40)[1], soft_targets(40))]
    monkeypatch.setattr("boltzmax.adaptive.gradients.SMALL", 0)
    monkeypatch.setattr("boltzmax.adaptive.gradients._ROOM", 64)
    monkeypatch.setattr("boltzmax.adaptive.clusters._BLOCK", 7 * V)
    for before, target in zip(want, (rows(40)[1], soft_targets(40)), strict=True):
        now = layer.loss_with_grad(hidden, target)
        assert now.loss == pytest.approx(before.loss, rel=1e-13)
        for mine, other in zip(
            (now.d_hidden, now.d_weight, *(t.d_weight for t in now.tails)),
            (before.d_hidden, before.d_weight, *(t.d_weight for t in before.tails)),
            strict=True,
        ):
            np.testing.assert_allclose(mine, other, rtol=1e-11, atol=1e-14)


# ---- options of the loss


@either
def test_soft_targets(make: Callable[..., Any]) -> None:
    """By the definition; probabilities of one class are that class."""
    layer, q = make(dtype="float64"), soft_targets(6)
    hidden, target = rows(6, "float64")
    each = -(q * layer.log_prob_all(hidden)).sum(1)
    np.testing.assert_allclose(layer.loss(hidden, q, reduction="none"), each, rtol=1e-12)
    weight = np.linspace(0, 1, 6)
    want = np.average(each, weights=weight)
    assert layer.loss(hidden, q.astype(np.float32), weight) == pytest.approx(want, rel=1e-6)
    one_hot = np.eye(V)[target]
    assert layer.loss(hidden, one_hot) == pytest.approx(layer.loss(hidden, target), rel=1e-13)
    other = make(dtype="float64")
    layer.sgd_step(hidden, one_hot, 0.1)
    other.sgd_step(hidden, target, 0.1)
    np.testing.assert_allclose(layer.weight, other.weight, rtol=1e-12)


@either
@both
def test_ignored_rows(make: Callable[..., Any], dtype: str) -> None:
    """They count for nothing, even if they are NaN."""
    layer = make(dtype=dtype)
    hidden, target = rows(6, dtype)
    want = layer.loss_with_grad(hidden[1:], target[1:])
    hidden[0], target[0] = np.nan, -100
    each = layer.loss(hidden, target, ignore_index=-100, reduction="none")
    assert (each.dtype, each[0]) == (dtype, 0)
    found = layer.loss_with_grad(hidden, target, ignore_index=-100)
    assert found.loss == pytest.approx(want.loss, rel=1e-6)
    np.testing.assert_allclose(found.d_hidden[1:], want.d_hidden, **tolerance(dtype))
    assert not found.d_hidden[0].any()
    loss, _ = layer.sgd_step(hidden, target, 0.1, ignore_index=-100)
    assert loss == pytest.approx(want.loss, rel=1e-6)
    assert np.isfinite(layer.weight).all()
    assert np.isnan(layer.loss(hidden[:1], target[:1], ignore_index=-100))


def test_reductions() -> None:
    layer = by_number()
    hidden, target = rows(6)
    weight = np.linspace(0, 2, 6)
    each = layer.loss(hidden, target, weight, reduction="none")
    np.testing.assert_allclose(each, -weight * layer.log_prob(hidden, target), rtol=1e-5)
    assert layer.loss(hidden, target, weight, reduction="sum") == pytest.approx(each.sum())
    assert layer.loss(hidden, target, weight) == pytest.approx(each.sum() / weight.sum())
    with pytest.raises(ValueError, match="reduction must be one of"):
        layer.loss(hidden, target, reduction="median")
    with pytest.raises(ValueError, match="a gradient needs a scalar"):
        layer.loss_with_grad(hidden, target, reduction="none")


# ---- the likeliest classes


def opened(layer: Any, hidden: Array, k: int, least: float = -np.inf) -> int:
    """For how many rows `topk` opens a tail."""
    parameters = layer._parameters()
    found = top_of_clusters(
        layer._clusters, layer.tails, layer._hidden(hidden), *parameters, k, least
    )
    return found.opened


def test_topk_opens_only_likely_tails() -> None:
    layer = AdaptiveSoftmax(D, V, [9, 15], bias=True, seed=0)
    assert layer.bias is not None
    hidden = rows(50)[0]
    for shift, k in ((-30.0, 9), (0.0, 3), (3.0, 9)):
        layer.bias[9:] = shift
        every = layer.log_prob_all(hidden).astype(float)
        ids, log_probs = layer.topk(hidden, k)
        np.testing.assert_array_equal(ids, np.argsort(-every, kind="stable")[:, :k])
        np.testing.assert_allclose(
            log_probs, np.take_along_axis(every, ids, 1), rtol=1e-5, atol=1e-5
        )
        count = opened(layer, hidden, k)
        assert count == 0 if shift < 0 else 0 < count <= 100
        assert opened(layer, hidden, k, np.log(0.99)) <= count
    layer.bias[9:] = -30.0
    assert opened(layer, hidden, 10) > 0, "the head has only nine classes"


@pytest.mark.parametrize("k", [1, 4, 6, 13, V])
def test_equal_classes_come_by_their_numbers(k: int) -> None:
    """Also where the order inside is another one, and the last of the k is among equal ones."""
    layer = AdaptiveSoftmax(D, V, [5, 12], counts=COUNTS, dtype="float64")
    hidden = rows(3, "float64")[0]
    layer.weight[7 - 2 :] = 0.01
    for weight in (layer.weight, None):
        if weight is None:
            layer.weight[:] = 0
        every = layer.log_prob_all(hidden)
        ids = np.lexsort((np.broadcast_to(np.arange(V), every.shape), -every), axis=1)
        np.testing.assert_array_equal(layer.topk(hidden, k)[0], ids[:, :k])


def test_samples_of_tails() -> None:
    """Two numbers for each row: rows do not depend on each other."""
    layer, hidden = by_counts(), rows(500)[0]
    all_ids = layer.sample(hidden, 1)
    hidden[7] = np.nan
    marked = layer.sample(hidden, 1, errors="mark")
    assert marked[7] == -1
    np.testing.assert_array_equal(np.delete(marked, 7), np.delete(all_ids, 7))
    assert layer.order is not None
    assert set(all_ids[np.arange(500) != 7]) & set(layer.order[12:].tolist()), "of the last tail"

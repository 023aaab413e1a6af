"""Losses of drawn classes: values, gradients, and what they tend to."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax import linear_cross_entropy_with_grad, sampled_softmax_loss
from boltzmax.candidates import LogUniformSampler, UnigramSampler
from every_function import OF_DRAWS
from linear_samples import use_tiles
from sampled_oracle import (
    DRAWS,
    D,
    V,
    differences,
    drawn_losses,
    draws_of,
    gradient_of,
    layer,
    loss_of,
)

Array = npt.NDArray[Any]


def dense(gradient: Any, classes: int = V) -> tuple[Array, Array | None]:
    """The gradients with respect to all weights and biases."""
    d_weight = np.zeros((classes, gradient.d_weight.shape[1]))
    d_weight[gradient.unit_ids] = gradient.d_weight
    if gradient.d_bias is None:
        return d_weight, None
    d_bias = np.zeros(classes)
    d_bias[gradient.unit_ids] = gradient.d_bias
    return d_weight, d_bias


# ---- values and gradients


@pytest.mark.parametrize("name", OF_DRAWS)
def test_values(name: str, isa: str) -> None:
    """Within a few roundings of a score, whose size is about 10."""
    for dtype, shape, bias, remove in itertools.product(
        (np.float32, np.float64), DRAWS.values(), (True, False), (True, False)
    ):
        h, w, t, b = layer(dtype=dtype)
        draws, given = draws_of(shape, t), b if bias else None
        loss = loss_of(name)(h, w, t, draws, bias=given, remove_hits=remove, reduction="none")
        expected = drawn_losses(name, h, w, t, draws, given, remove)
        assert loss.dtype == dtype
        allowed = 40 * np.finfo(dtype).eps * (1 + np.abs(expected))
        assert (np.abs(loss - expected) < allowed).all()


@pytest.mark.parametrize("sizes", [None, (8, 16)], ids=str)
@pytest.mark.parametrize("shape", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("name", OF_DRAWS)
def test_gradients(name: str, shape: Any, sizes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a weighted mean, by differences; in tiles of a few candidates, too."""
    use_tiles(sizes, monkeypatch)
    h, w, t, b = layer()
    t[4] = -100
    draws = draws_of(shape, np.abs(t) % V)
    weight = np.random.default_rng(2).uniform(0.5, 2.0, len(t))
    for remove in (True, False):
        options: dict[str, Any] = {"remove_hits": remove, "sample_weight": weight}
        found = gradient_of(name)(h, w, t, draws, bias=b, **options)
        d_weight, d_bias = dense(found)

        def loss(h: Array, w: Array, b: Array, options: Any = options) -> Any:
            return loss_of(name)(h, w, t, draws, bias=b, **options)

        assert found.loss == loss(h, w, b)
        for got, expected in (
            (found.d_hidden, differences(lambda x: loss(x, w, b), h)),
            (d_weight, differences(lambda x: loss(h, x, b), w)),
            (d_bias, differences(lambda x: loss(h, w, x), b)),
        ):
            assert got is not None
            np.testing.assert_allclose(got, expected, atol=2e-9)
        plain = gradient_of(name)(h, w, t, draws, **options)
        assert plain.d_bias is None


@pytest.mark.parametrize("name", OF_DRAWS)
def test_gradients_in_single_precision(name: str, isa: str) -> None:
    for shape in DRAWS.values():
        exact, rounded = (
            gradient_of(name)(h, w, t, draws_of(shape, t), bias=b)
            for h, w, t, b in (layer(dtype=d) for d in (np.float64, np.float32))
        )
        assert rounded.loss.dtype == np.float32
        np.testing.assert_array_equal(rounded.unit_ids, exact.unit_ids)
        for a, b in ((rounded.d_hidden, exact.d_hidden), (rounded.d_weight, exact.d_weight)):
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_class_has_one_row_in_ascending_order() -> None:
    h, w, t, b = layer()
    ids, log_q, _ = draws_of((17,), t)
    found = boltzmax.sampled_softmax_loss_with_grad(h, w, t, (ids, log_q), bias=b)
    np.testing.assert_array_equal(found.unit_ids, np.unique(np.concatenate([ids, t])))
    assert found.unit_ids.dtype == np.int64
    assert found.d_weight.shape == (len(found.unit_ids), D)
    assert found.d_bias.shape == (len(found.unit_ids),)


# ---- the softmax over all classes


def test_all_classes_once_are_the_cross_entropy(isa: str) -> None:
    for dtype in (np.float32, np.float64):
        h, w, t, b = layer(dtype=dtype)
        every = np.random.default_rng(3).permutation(V), np.zeros(V)
        found = boltzmax.sampled_softmax_loss_with_grad(h, w, t, every, bias=b)
        loss, d_hidden, d_weight, d_bias = linear_cross_entropy_with_grad(h, w, t, b)
        eps = 30 * np.finfo(dtype).eps
        np.testing.assert_allclose(found.loss, loss, rtol=eps)
        np.testing.assert_allclose(found.d_hidden, d_hidden, atol=eps)
        for a, e in zip(dense(found), (d_weight, d_bias), strict=True):
            np.testing.assert_allclose(a, e, atol=eps)  # type: ignore[arg-type]


def means_of_sums(repeats: int = 20_000, **options: Any) -> tuple[float, float, float]:
    """The mean of exp(loss + s_t) over draws, its standard error, and Z."""
    rng = np.random.default_rng(5)
    h, w, b = 0.5 * rng.normal(size=(1, D)), rng.normal(size=(V, D)), rng.normal(size=V) / 2
    s, n = (h @ w.T + b)[0], 12
    target = int(s.argmax())
    counts = np.arange(1.0, V + 1)
    ids, log_q = UnigramSampler(counts).sample(n * repeats, rng=1)
    log_q = log_q.reshape(repeats, n) - np.log(repeats)  # of n draws, not of all
    rows, targets = np.repeat(h, repeats, axis=0), np.full(repeats, target)
    draws = ids.reshape(repeats, n), log_q
    losses = sampled_softmax_loss(rows, w, targets, draws, bias=b, reduction="none", **options)
    sums = np.exp(losses + s[target])
    return float(sums.mean()), float(sums.std() / np.sqrt(repeats)), float(np.exp(s).sum())


def test_the_sum_is_unbiased() -> None:
    mean, error, z = means_of_sums()
    assert error < 0.01 * z
    assert abs(mean - z) < 4 * error


@pytest.mark.parametrize("options", [{"remove_hits": False}, {"correct": False}], ids=str)
def test_other_forms_are_biased(options: dict[str, bool]) -> None:
    mean, error, z = means_of_sums(**options)
    assert abs(mean - z) > 10 * error


def test_the_gradient_tends_to_the_full_one() -> None:
    """At the rate of simulation with the correction; without it not at all."""
    h, w, t, b = layer()
    exact = linear_cross_entropy_with_grad(h, w, t, b)[1]
    sampler, errors = LogUniformSampler(V), {}
    for n, correct in ((100, True), (5000, True), (200_000, True), (200_000, False)):
        found = boltzmax.sampled_softmax_loss_with_grad(
            h, w, t, sampler, n=n, rng=3, bias=b, correct=correct
        )
        errors[n, correct] = np.linalg.norm(found.d_hidden - exact) / np.linalg.norm(exact)
    assert errors[200_000, True] < 0.02
    assert errors[200_000, True] < errors[5000, True] / 2 < errors[100, True] / 4
    assert errors[200_000, False] > 0.1


def test_nce_learns_normalized_probabilities() -> None:
    """If each class is drawn as often as expected, the gradient is zero at log p."""
    target = np.random.default_rng(0).integers(V, size=4000)
    log_p = np.log(np.bincount(target, minlength=V) / len(target))
    nothing, draws = (np.zeros((4000, 1)), np.zeros((V, 1))), (np.arange(V), np.zeros(V))
    for shift, slope in ((0.0, 0.0), (1.0, 0.03)):
        found = boltzmax.nce_loss_with_grad(
            *nothing, target, (*draws, np.zeros(4000)), bias=log_p + shift
        )
        assert found.d_bias.min() >= slope - 1e-13
        assert found.d_bias.max() <= 3 * slope + 1e-13


# ---- samplers


class OwnCandidates:
    """A sampler whose candidates depend on the row."""

    def sample(self, n: int, *, rng: Any = None, hidden: Any = None) -> tuple[Array, Array]:
        ids = np.argsort(-np.abs(hidden), axis=1)[:, :n].astype(np.int64)
        return ids, np.full(ids.shape, -0.5)

    def log_expected_count(self, ids: Array, n: int, *, hidden: Any = None) -> Array:
        return np.full(ids.shape, -0.25)


@pytest.mark.parametrize("name", OF_DRAWS)
def test_samplers_are_asked_for_candidates(name: str) -> None:
    h, w, t, b = layer()
    sampler = LogUniformSampler(V)
    ids, log_q = sampler.sample(20, rng=4)
    draws = ids, log_q, sampler.log_expected_count(t, 20)
    expected = loss_of(name)(h, w, t, draws, bias=b)
    assert loss_of(name)(h, w, t, sampler, n=20, rng=4, bias=b) == expected
    t[2] = -100
    counted = np.arange(len(t)) != 2
    draws = (*OwnCandidates().sample(3, hidden=h[counted]), np.full(len(t) - 1, -0.25))
    expected = loss_of(name)(h[counted], w, t[counted], draws)
    assert loss_of(name)(h, w, t, OwnCandidates(), n=3) == expected


def test_rows_of_any_shape() -> None:
    h, w, t, b = layer(8)
    one = sampled_softmax_loss(h[0], w, t[0], ([3, 4], [0.0, 0.0]), reduction="none")
    assert np.ndim(one) == 0
    assert one == sampled_softmax_loss(h[:1], w, t[:1], ([3, 4], [0.0, 0.0]))
    ids, log_q, _ = draws_of((8, 5), t)
    flat = boltzmax.sampled_softmax_loss_with_grad(h, w, t, (ids, log_q), bias=b)
    blocks = boltzmax.sampled_softmax_loss_with_grad(
        h.reshape(2, 4, D), w, t.reshape(2, 4), (ids.reshape(2, 4, 5), log_q.reshape(2, 4, 5)),
        bias=b,
    )  # fmt: skip
    assert blocks.loss == flat.loss
    np.testing.assert_array_equal(blocks.d_hidden, flat.d_hidden.reshape(2, 4, D))
    np.testing.assert_array_equal(blocks.d_weight, flat.d_weight)


# ---- arrays


@pytest.mark.parametrize("name", OF_DRAWS)
def test_kinds_of_arrays(name: str, tmp_path: Any) -> None:
    """Any layout and dtype, and memory maps, of which few rows are read."""
    h, w, t, b = layer(dtype=np.float32)
    draws = draws_of((17,), t)
    expected = gradient_of(name)(h, w, t, draws, bias=b)
    mapped = np.memmap(tmp_path / "w", np.float32, "w+", shape=w.shape)
    mapped[:] = w
    for hidden, weight in (
        (h[::-1][::-1], w),
        (np.asfortranarray(h), np.asfortranarray(w)),
        (h.astype(">f4"), w.astype(">f4")),
        (h, mapped),
    ):
        found = gradient_of(name)(hidden, weight, t.tolist(), draws, bias=b)
        for a, e in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, e)
    for kind in ("float16", "bfloat16"):
        kind = pytest.importorskip("ml_dtypes").bfloat16 if kind == "bfloat16" else kind
        found = gradient_of(name)(h.astype(kind), w.astype(kind), t, draws, bias=b)
        assert found.d_weight.dtype == found.d_hidden.dtype == np.float32
        whole = gradient_of(name)(
            *(a.astype(kind).astype(np.float32) for a in (h, w)), t, draws, bias=b
        )
        np.testing.assert_array_equal(found.d_weight, whole.d_weight)
    ones = (np.ones((n, D), int) for n in (9, V))
    integers = loss_of(name)(*ones, t, draws)
    assert integers.dtype == np.float64


@pytest.mark.parametrize("shape", [(300,), (400, 300)], ids=["shared", "own"])
@pytest.mark.parametrize("name", OF_DRAWS)
def test_threads_do_not_change_bits(name: str, shape: Any, threads: Callable[[int], None]) -> None:
    rng = np.random.default_rng(0)
    h, w = (rng.normal(size=(n, 200)).astype(np.float32) for n in (400, 700))
    t, ids = rng.integers(700, size=400), rng.integers(700, size=shape)
    draws, found = (ids, rng.normal(size=shape), np.zeros(400)), []
    for count in (1, 3):
        threads(count)
        found.append(gradient_of(name)(h, w, t, draws, bias=w[:, 0]))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_unused_weights_are_not_read() -> None:
    """Nothing grows with the number of classes: no pass over the weights, and no copy."""
    weight = np.zeros((2_000_000, 16), np.float32)  # 128 MB that nobody touches
    h, t = np.ones((64, 16), np.float32), np.arange(64)
    draws = np.arange(0, 2_000_000, 4000), np.zeros(500), np.zeros(64)
    for name in OF_DRAWS:
        gradient_of(name)(h, weight, t, draws)
        tracemalloc.start()
        try:
            gradient_of(name)(h, weight, t, draws)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1e6


def test_losses_have_their_names_in_boltzmax_losses() -> None:
    for name in ("sampled_softmax_loss", "nce_loss_with_grad", "info_nce", "sampling_bias_report"):
        assert getattr(boltzmax.losses, name) is getattr(boltzmax, name)

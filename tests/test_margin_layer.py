"""`boltzmax.margin`: several centres, noise, and the layer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax.margin import (
    MarginSoftmax,
    cosine_logits,
    margin_logits,
    noisy_logits,
    subcenter_cosine,
    subcenter_cosine_backward,
)
from gumbel_oracle import signed_uniforms
from margin_samples import MARGINS, C, D, N, V, classes, lengths, normal, numeric

Array = npt.NDArray[Any]

pytestmark = pytest.mark.usefixtures("strict")

# ---- several centres


def test_subcenters() -> None:
    x, centers = normal(N, D), normal(V, C, D, seed=1)
    each = cosine_logits(x, centers.reshape(V * C, D)).reshape(N, V, C)
    np.testing.assert_allclose(subcenter_cosine(x, centers), each.max(-1), atol=1e-15)
    weights = boltzmax.softmax(each / 0.3)
    soft = subcenter_cosine(x, centers, pooling="soft", gamma=0.3)
    np.testing.assert_allclose(soft, (weights * each).sum(-1), atol=1e-15)
    one = subcenter_cosine(x, centers[:, :1])
    np.testing.assert_allclose(one, cosine_logits(x, centers[:, 0]), atol=1e-15)
    nearly = subcenter_cosine(x, centers, pooling="soft", gamma=1e-6)
    np.testing.assert_allclose(nearly, each.max(-1), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"pooling": "soft"}, {"pooling": "soft", "gamma": 0.5}])
def test_gradient_of_subcenters(options: dict[str, Any]) -> None:
    x, centers, d = normal(N, D), normal(V, C, D, seed=1), normal(N, V, seed=2)

    def total() -> float:
        return float((d * subcenter_cosine(x, centers, **options)).sum())

    d_x, d_c = subcenter_cosine_backward(d, x, centers, **options)
    np.testing.assert_allclose(d_x, numeric(total, x), atol=1e-7)
    np.testing.assert_allclose(d_c, numeric(total, centers), atol=1e-7)


def test_the_first_of_equal_centers_gets_the_gradient() -> None:
    centers = np.repeat(normal(V, 1, D), C, axis=1)
    _, d_c = subcenter_cosine_backward(np.ones((N, V)), normal(N, D, seed=1), centers)
    assert d_c[:, 0].any(axis=-1).all()
    assert not d_c[:, 1:].any()


# ---- noise


def normal_of_counter(key: int, row: int, n: int = 1) -> Array:
    """The normal quantiles of the uniform numbers of a row's first elements."""
    special = pytest.importorskip("scipy.special")
    s = signed_uniforms(key, row, n).astype(float)
    return np.asarray(-np.sign(s) * special.ndtri(np.abs(s)))


def test_noise_lowers_the_target_only() -> None:
    logits, target, of = normal(N, V), classes(N), lengths()
    got = noisy_logits(logits, target, alpha=0.1, rng=5, **of)
    index = np.arange(N), target
    others = np.ones((N, V), bool)
    others[index] = False
    np.testing.assert_array_equal(got[others], logits[others])
    noise = [abs(normal_of_counter(5, row)[0]) for row in range(N)]
    lower = 0.1 * of["weight_norm"][target] * of["feature_norm"] * (1 - of["cosine"]) * noise
    np.testing.assert_allclose(got[index], logits[index] - lower)
    assert (got[index][:-1] < logits[index][:-1]).all()
    assert got[index][-1] == logits[index][-1], "a cosine of 1"


def test_noise_is_half_normal() -> None:
    """The mean of |xi| is sqrt(2 / pi), its mean square 1; six standard errors are allowed."""
    n = 100_000
    got = -noisy_logits(
        np.zeros((n, 1)),
        np.zeros(n, int),
        alpha=1.0,
        weight_norm=np.ones(1),
        feature_norm=np.ones(n),
        cosine=np.zeros(n),
        rng=0,
    )
    assert got.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=6 * 0.6 / np.sqrt(n))
    assert (got**2).mean() == pytest.approx(1, abs=6 * 1.42 / np.sqrt(n))


def test_noise_on_all_logits() -> None:
    logits = np.zeros((2000, V), np.float32)
    got = noisy_logits(logits, np.zeros(2000, int), alpha=0.5, rng=1, noise="all")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[7], 0.5 * normal_of_counter(1, 7, V), rtol=1e-6)
    assert got.mean() == pytest.approx(0, abs=6 * 0.5 / 100)
    assert got.std() == pytest.approx(0.5, rel=0.05)


def test_seeds_of_noise() -> None:
    logits, target = normal(N, V), classes(N)

    def draw(rng: Any) -> Array:
        return noisy_logits(logits, target, alpha=0.1, rng=rng, **lengths())

    rng = np.random.default_rng(7)
    np.testing.assert_array_equal(draw(7), draw(7))
    np.testing.assert_array_equal(draw(rng), draw(np.random.default_rng(7)))
    assert (draw(rng) != draw(np.random.default_rng(7))).any(), "a generator advances"
    assert (draw(None) != draw(None)).any()
    np.testing.assert_array_equal(
        noisy_logits(logits, target, alpha=0.0, rng=7, **lengths()), logits
    )


@pytest.mark.parametrize("noise", ["target", "all"])
def test_parts_of_a_batch_have_the_noise_of_the_whole(noise: str) -> None:
    logits, target, of = normal(N, V), classes(N), lengths()

    def draw(at: slice) -> Array:
        rows = {name: of[name][at] for name in ("feature_norm", "cosine")}
        return noisy_logits(
            logits[at], target[at], alpha=1, weight_norm=of["weight_norm"], rng=3,
            first_row=10 + at.start, noise=noise, **rows,
        )  # fmt: skip

    parts = [draw(slice(0, 2)), draw(slice(2, N))]
    np.testing.assert_array_equal(np.concatenate(parts), draw(slice(0, N)))
    assert (draw(slice(0, 2)) != logits[:2]).any()


# ---- the layer


def layer(**options: Any) -> MarginSoftmax:
    return MarginSoftmax(V, D, **({"scale": 8.0, "dtype": np.float64, "seed": 0} | options))


@pytest.mark.parametrize("margins", [m for m in MARGINS if "easy_margin" not in m])
@pytest.mark.parametrize("pooled", [{}, {"centers_per_class": C, "pooling": "soft"}])
def test_the_loss_of_the_layer_has_the_margin(margins: dict[str, Any], pooled: Any) -> None:
    """It is the cross-entropy of `margin_logits`; probabilities are those of the cosines."""
    model = layer(**margins, **pooled)
    hidden, target = normal(N, D, seed=6), classes(N)
    if pooled:
        centers = model.weight.reshape(V, C, D)
        cosine = subcenter_cosine(hidden, centers, pooling="soft")
    else:
        cosine = cosine_logits(hidden, model.weight)
    logits = margin_logits(cosine, target, scale=8.0, **({"m2": 0.5} | margins))
    want = boltzmax.cross_entropy(logits, target)
    assert model.loss(hidden, target) == pytest.approx(want)
    np.testing.assert_allclose(
        model.log_prob_all(hidden), boltzmax.log_softmax(8.0 * cosine), atol=1e-12
    )
    gradient = model.loss_with_grad(hidden, target)
    assert gradient.loss == pytest.approx(want)
    for array, got in ((hidden, gradient.d_hidden), (model.weight, gradient.d_weight)):
        want_grad = numeric(lambda: model.loss(hidden, target), array)
        np.testing.assert_allclose(got, want_grad, atol=1e-6)


def test_noise_of_the_layer() -> None:
    """In training only; it lowers targets, so that the mean loss rises; seeds repeat it."""
    model, hidden, target = layer(noise_alpha=0.5), normal(N, D, seed=6), classes(N)
    plain = layer()
    assert model.loss(hidden, target) == plain.loss(hidden, target)
    again = layer(noise_alpha=0.5)
    draws = [model.loss_with_grad(hidden, target).loss for _ in range(50)]
    assert draws == [again.loss_with_grad(hidden, target).loss for _ in range(50)]
    assert len(set(draws)) == 50
    assert min(draws) > plain.loss(hidden, target)


def test_rows_of_a_layer_are_numbered_on() -> None:
    """So a batch has the noise of its parts in a row of calls."""
    hidden, target = normal(N, D, seed=6), classes(N)
    whole = layer(noise_alpha=0.5).loss_with_grad(hidden, target).d_hidden * N
    model = layer(noise_alpha=0.5)
    parts = [
        model.loss_with_grad(hidden[at], target[at]).d_hidden * len(hidden[at])
        for at in (slice(0, 2), slice(2, N))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12)


def test_two_centers_learn_opposite_clusters() -> None:
    """Each class has two clusters in opposite directions, which no single centre fits."""
    rng = np.random.default_rng(0)
    target, side = rng.integers(0, V, 300), rng.choice([-1.0, 1.0], (300, 1))
    hidden = side * rng.standard_normal((V, 12))[target] + 0.1 * rng.standard_normal((300, 12))
    found = {}
    for each in (1, 2):
        model = MarginSoftmax(V, 12, scale=16.0, m2=0.3, centers_per_class=each, seed=0)
        for _ in range(150):
            model.adagrad_step(hidden, target, 0.3)
        found[each] = float((model.predict(hidden) == target).mean())
    assert found[1] < 0.8
    assert found[2] == 1.0


def test_the_layer_keeps_its_options(tmp_path: Path) -> None:
    options = {"m1": 1.5, "m2": 0.25, "m3": 0.125, "scale": 8.0, "gamma": 0.5, "noise_alpha": 0.25}
    model = layer(**options, centers_per_class=2, pooling="soft")
    model.save(tmp_path / "layer")
    loaded = MarginSoftmax.load(tmp_path / "layer")
    for other in (loaded, copy.deepcopy(model)):
        for name, value in (options | {"centers_per_class": 2, "pooling": "soft"}).items():
            assert getattr(other, name) == value
    assert MarginSoftmax.__module__ == "boltzmax.margin"

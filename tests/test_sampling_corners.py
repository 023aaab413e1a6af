"""Corners of sampling: options of rows, draws of nearly all classes, exact log-probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boltzmax
import boltzmax.testing
import sampling_oracle as oracle
from boltzmax.sampling import (
    XTC,
    Bias,
    Chain,
    Dry,
    NoRepeatNGram,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    filter_logits,
    sample,
    token_probs,
)

pytestmark = pytest.mark.usefixtures("strict")

Array = npt.NDArray[Any]


# ---- log-probabilities


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 7.0, "top_p": 0.95},
        {"top_p": 0.02},
        {"min_p": 1e-6},
        {"top_k": 3000},
    ],
    ids=str,
)
def test_log_probs_have_the_same_bits(
    options: dict[str, float], threads: Callable[[int], None]
) -> None:
    """Terms of floats are rounded once, and added in the same order, on every ISA."""
    x = (np.random.default_rng(8).normal(size=(2, 30_000)) * 1.5).astype(np.float32)
    wanted = sample(x, rng=1, n=40, **options)
    for row, left in enumerate(filter_logits(x.astype(np.float64), **options)):
        log_p = oracle.log_softmax(left)[wanted.ids[row]].astype(np.float64)
        np.testing.assert_allclose(wanted.log_probs[row], log_p, rtol=0, atol=3e-7)
    for count in (1, 2):
        threads(count)
        for name in boltzmax.available_isas():
            with boltzmax.testing.use_isa(name):
                got = sample(x, rng=1, n=40, **options)
            for a, b in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(a, b)


def test_log_probs_of_doubles_have_the_same_bits() -> None:
    x = np.random.default_rng(9).normal(size=30_000)
    wanted = sample(x, rng=1, n=40)
    for name in boltzmax.available_isas():
        with boltzmax.testing.use_isa(name):
            np.testing.assert_array_equal(sample(x, rng=1, n=40).log_probs, wanted.log_probs)


# ---- without replacement


@pytest.mark.parametrize("classes", [3, 2000])
def test_classes_that_underflow_come_last(classes: int) -> None:
    """Their probability is 0 in double, but they are left, and each is drawn once."""
    x = np.full(classes, -1e4)
    x[1] = 0.0
    drawn = sample(x, n=classes, replace=False, rng=3)
    assert drawn.kept == classes
    assert drawn.ids[0] == 1
    np.testing.assert_array_equal(np.sort(drawn.ids), np.arange(classes))
    np.testing.assert_array_equal(drawn.log_probs, x[drawn.ids])
    assert sample(x, n=classes - 1, replace=False, rng=3).log_probs[-1] == -1e4


def test_classes_that_underflow_keep_their_ratio() -> None:
    x = np.array([-2e4, 0.0, math.log(3) - 2e4])
    second = sample(np.tile(x, (10_000, 1)), n=2, replace=False, rng=5).ids[:, 1]
    assert abs((second == 2).sum() - 7_500) < 4 * math.sqrt(10_000 * 3 / 16)


@pytest.mark.parametrize("n", [1, 70, 300, 600])
def test_first_draws_without_replacement(n: int) -> None:
    """However many follow, the first one has the distribution itself."""
    stats = pytest.importorskip("scipy.stats")
    x = np.zeros(600)
    x[:3] = [5.0, 6.0, 4.0]
    first = sample(np.tile(x, (1000, 1)), n=n, replace=False, rng=6).ids[:, 0]
    p = oracle.softmax(x).astype(np.float64)
    seen = np.append(np.bincount(first, minlength=600)[:3], np.count_nonzero(first > 2))
    assert stats.chisquare(seen, np.append(p[:3], p[3:].sum()) * len(first)).pvalue > 1e-3


def test_all_of_many_classes_are_drawn_once() -> None:
    """Looking through the ids drawn so far would take minutes here."""
    x = np.random.default_rng(0).normal(size=60_000).astype(np.float32)
    for n in (9_000, 60_000):
        assert len(np.unique(sample(x, n=n, replace=False, rng=1).ids)) == n


# ---- options


def test_counters() -> None:
    x = np.zeros((2, 1000))
    largest = 2**64 - 1
    wanted = sample(x, rng=1, counters=np.array([largest, 2], np.uint64)).ids
    np.testing.assert_array_equal(sample(x, rng=1, counters=[largest, 2]).ids, wanted)
    assert sample(x[0], rng=1, counters=largest).ids == wanted[0]
    assert sample(x[:0], rng=1, counters=[]).ids.shape == (0,)
    for counters in ([largest + 1, 2], [2**63, -1], [1, -2]):
        with pytest.raises(ValueError, match=r"^counters must be from 0 to 2\*\*64 - 1, got "):
            sample(x, rng=1, counters=counters)
    with pytest.raises(ValueError, match=r"got -2 for row 1$"):
        sample(x, rng=1, counters=[1, -2])
    for bad in ([1.0, 2.0], ["1", "2"], [True, False], np.zeros(0), [1, 2.5]):
        with pytest.raises(TypeError, match=r"^counters must be integers, got dtype"):
            sample(x, rng=1, counters=bad)


@pytest.mark.parametrize("option", ["temperature", "top_k", "top_p", "min_p", "counters"])
def test_masked_numbers_are_refused(option: str) -> None:
    value = np.ma.masked_array([1, 1], [False, True])  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {option: value}
    with pytest.raises(TypeError, match=r"is a masked array; pass its data$"):
        sample(np.zeros((2, 3)), rng=1, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"order": None}, TypeError, "order must be a sequence of names of filters, got None"),
        (
            {"order": "top_k"},
            TypeError,
            "order must be a sequence of names of filters, got 'top_k'",
        ),
        ({"order": (), "top_k": 2}, ValueError, "top_k is given, but order is empty"),
        ({"temperature": "warm", "compat": "vllm"}, TypeError, "temperature must be a real number"),
        (
            {"temperature": [1.0, 0.0], "compat": "transformers"},
            ValueError,
            "temperature must be from 1e-30 to 1e+30 for compat='transformers', got 0 for row 1",
        ),
        (
            {"temperature": [1.0, -1.0], "compat": "vllm"},
            ValueError,
            "temperature must be from 0 to 1e+30 for compat='vllm', got -1 for row 1",
        ),
        (
            {"temperature": [1.0, math.nan], "compat": "llama.cpp"},
            ValueError,
            "temperature must be at most 1e+30 for compat='llama.cpp', got nan for row 1",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        sample(np.zeros((2, 3)), **options)
    assert str(caught.value).startswith(message)


def test_biases_of_vllm_are_limited_but_not_nan() -> None:
    (bias,) = Chain.compat("vllm", logit_bias={0: math.inf, 1: -500.0}).steps
    assert bias == Bias({0: 100.0, 1: -100.0})
    with pytest.raises(ValueError, match=r"^bias must be below \+inf and not NaN, got nan$"):
        Chain.compat("vllm", logit_bias={1: math.nan})
    for engine in ("vllm", "llama.cpp"):
        with pytest.raises(TypeError, match=r"^logit_bias must be a dict of ids, got 3$"):
            Chain.compat(engine, logit_bias=3)


def test_an_n_gram_longer_than_the_text() -> None:
    """It is not there, and no step of the search is made for it."""
    x = np.arange(4.0)
    got = Chain([NoRepeatNGram(2**62)], rng=0).filter_logits(x, history=[0, 1, 0])
    np.testing.assert_array_equal(got, x)


def test_a_temperature_of_1_needs_no_place_in_the_order() -> None:
    for one in (1, 1.0, np.float32(1.0), np.array(1.0)):
        assert sample(np.zeros(3), temperature=one, order=("top_k",), rng=1).kept == 3


def test_products_of_temperatures() -> None:
    """They leave the range of doubles, but the likeliest class remains the likeliest."""
    x = np.random.default_rng(0).normal(size=700)
    low = Chain([*[Temperature(1e-30)] * 12, TopP(0.5)], rng=0)(x)
    assert (low.ids, low.log_probs, low.kept) == (x.argmax(), 0.0, 1)
    high = Chain([*[Temperature(1e30)] * 12, TopP(0.5)], rng=0)(x)
    assert high.kept == 350
    assert math.isclose(high.log_probs, -math.log(350))


# ---- chains


def test_configs_survive_json() -> None:
    steps = [
        Bias({1: 2.0, 0: -math.inf}),
        RepetitionPenalty([1.0, 2.0]),
        Dry(1.0, breakers=[3, [1, 2]]),
        Temperature(0.5),
        TopK([1, 2]),
        XTC(0.1, 0.2),
    ]
    chain = Chain(steps, rng=2**64 - 1)
    again = Chain.from_config(json.loads(json.dumps(chain.get_config())))
    assert again.steps == chain.steps
    assert again.key == chain.key


def test_wrong_configs() -> None:
    with pytest.raises(ValueError, match=r"^config must have steps and rng, got \['steps'\]$"):
        Chain.from_config({"steps": []})
    with pytest.raises(TypeError, match=r"^a step of config must be a dict, got 3$"):
        Chain.from_config({"steps": [3], "rng": 1})
    with pytest.raises(ValueError, match=r"^step must be one of .*, got \[\]$"):
        Chain.from_config({"steps": [{"step": []}], "rng": 1})


def test_every_xtc_of_a_chain_has_a_coin_of_its_own() -> None:
    """Also after a penalty, which divides the chain."""
    x = np.tile([3.0, 2.9, 2.8, 0.0], (4000, 1))
    history = [[3]] * len(x)
    steps = [XTC(0.5, 0.2), PresencePenalty(1.0), XTC(0.5, 0.2)]
    chain = Chain(steps, rng=2)
    kept = np.isfinite(chain.filter_logits(x, history=history)).sum(axis=1)
    # The first leaves two classes, the third and the last, and the second nothing to leave out.
    assert abs((kept == 2).sum() - 3000) < 4 * math.sqrt(4000 * 3 / 16)
    np.testing.assert_array_equal(chain(x, history=history).kept, kept)


# ---- everything at once

NUMBERS: dict[str, list[float]] = {
    "top_k": [1, 2, 5, 1000],
    "top_p": [1e-300, 0.3, 0.75, 1.0],
    "min_p": [0.0, 0.1, 0.7, 1.0],
    "typical_p": [0.2, 0.6, 1.0],
    "epsilon": [1e-6, 0.06, 0.9],
    "eta": [1e-4, 0.3, 0.99],
    "top_n_sigma": [0.3, 1.1, 50.0],
    "top_h": [0.1, 0.5, 1.0],
}
ROWS = (2, 3)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([1, 2, 9, 127, 129, 700]),
    names=st.lists(st.sampled_from(sorted(NUMBERS)), unique=True, max_size=4),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    has_mask=st.booleans(),
    has_bias=st.booleans(),
)
def test_each_row_is_filtered_on_its_own(
    seed: int, classes: int, names: list[str], dtype: str, has_mask: bool, has_bias: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = (np.round(rng.normal(size=(*ROWS, classes)) * 4) / 2).astype(dtype)
    x[rng.random(x.shape) < 0.1] = -np.inf
    where = rng.random(x.shape) < 0.7 if has_mask else None
    bias = np.round(rng.normal(size=classes)) if has_bias else None
    options: dict[str, Any] = {}
    for name in names:
        shape = [(), ROWS, (ROWS[1],), (ROWS[0], 1)][rng.integers(4)]
        options[name] = rng.choice(NUMBERS[name], shape)
        options[name] = options[name].astype(np.int64) if name == "top_k" else options[name]
    call = {**options, "bias": bias, "where": where, "order": names, "errors": "mark"}
    strided = np.repeat(np.asfortranarray(x), 2, axis=-1)[..., ::2]
    left, p = filter_logits(strided, **call), token_probs(strided, **call)
    drawn = sample(strided, rng=seed, n=3, **call)
    numbers = {name: np.broadcast_to(options[name], ROWS) for name in names}
    for at, place in enumerate(np.ndindex(ROWS)):
        z = x[place].astype(np.float64) + (0.0 if bias is None else bias)
        z = z if where is None else np.where(where[place], z, -np.inf)
        if not np.isfinite(z).any():
            assert np.isnan(left[place]).all()
            assert np.isnan(p[place]).all()
            assert (drawn.ids[place] == -1).all()
            assert drawn.kept[place] == 0
            continue
        steps = []
        for name in names:
            number = float(numbers[name][place])
            steps.append((name, int(number) if name == "top_k" else number))
        (outcome,) = oracle.apply(z, steps)
        one = {name: numbers[name][place] for name in names}
        alone = sample(
            np.where(np.isfinite(z), z, -np.inf).astype(dtype if dtype != "f2" else "f4"),
            **one, order=names, rng=seed, n=3, counters=at,
        )  # fmt: skip
        for a, b in zip(alone, drawn, strict=True):
            np.testing.assert_array_equal(a, b[place])
        assert np.isfinite(left[place][drawn.ids[place]]).all()
        assert math.isclose(p[place].sum(dtype=np.float64), 1.0, abs_tol=2e-3)
        if outcome.margin < 1e-11:
            continue
        np.testing.assert_array_equal(np.isfinite(left[place]), np.isfinite(outcome.logits))
        assert drawn.kept[place] == np.isfinite(outcome.logits).sum()
        log_p = oracle.log_softmax(outcome.logits)[drawn.ids[place]].astype(np.float64)
        error = oracle.log_prob_error(dtype)
        np.testing.assert_allclose(drawn.log_probs[place], log_p, rtol=1e-12, atol=error)

"""Chains of steps: what they leave, what they draw, and their state."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import boltzmax
import sampling_oracle
from boltzmax.sampling import (
    XTC,
    Bias,
    Chain,
    Dry,
    Epsilon,
    Eta,
    FrequencyPenalty,
    MinP,
    Mirostat,
    NoRepeatNGram,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)
from sampling_samples import FILTERS, TIED
from test_nothing_warns import extremes

pytestmark = pytest.mark.usefixtures("strict")

Array = npt.NDArray[Any]
KEY = 0x452821E638D01377


# ---- what steps leave


@st.composite
def steps_of(draw: st.DrawFn) -> tuple[Any, Callable[[Array, Array], Array], Any]:
    """A step, and what it does with a row and a text; and the margin of a filter."""
    kind = draw(st.sampled_from([*FILTERS, "repetition", "presence", "ngram", "dry"]))
    a = draw(st.floats(0.01, 0.99))
    k = draw(st.integers(1, 9))
    made: dict[str, tuple[Any, Any]] = {
        "temperature": (Temperature(3 * a), ("temperature", 3 * a)),
        "top_k": (TopK(k), ("top_k", k)),
        "top_k, ties": (TopK(k, ties="all"), ("top_k", k, "all")),
        "top_p": (TopP(a), ("top_p", a)),
        "min_p": (MinP(a), ("min_p", a)),
        "typical_p": (TypicalP(a), ("typical_p", a)),
        "typical_p of llama.cpp": (TypicalP(a, rule="llama.cpp"), ("typical_p", a, "llama.cpp")),
        "epsilon": (Epsilon(a / 4), ("epsilon", a / 4)),
        "eta": (Eta(a), ("eta", a)),
        "top_n_sigma": (TopNSigma(3 * a), ("top_n_sigma", 3 * a)),
        "top_h": (TopH(a), ("top_h", a)),
        "xtc": (XTC(1.0, a), ("xtc", 1.0, a)),
        "bias": (Bias({0: a}), ("bias", a)),
        "repetition": (
            RepetitionPenalty(2 * a),
            lambda x, text: sampling_oracle.repetition(x, text, 2 * a),
        ),
        "presence": (
            PresencePenalty(a, last_n=k),
            lambda x, text: sampling_oracle.presence(x, text, a, last_n=k),
        ),
        "ngram": (NoRepeatNGram(k), lambda x, text: sampling_oracle.no_repeat_ngram(x, text, k)),
        "dry": (Dry(a, allowed_length=k), lambda x, t: sampling_oracle.dry(x, t, a, 1.75, k)),
    }
    step, exact = made[kind]
    return step, exact, kind


@given(
    st.lists(steps_of(), max_size=5),
    st.sampled_from([1, 2, 5, 30]),
    st.sampled_from([0.0, 1.0, 4.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_steps_in_any_order(
    steps: list[Any], classes: int, scale: float, tied: bool, seed: int
) -> None:
    """Also penalties after filters: they act on what these have left."""
    rng = np.random.default_rng(seed)
    x = scale * rng.normal(size=(2, classes))
    x = np.round(x) if tied else x
    x[rng.random(x.shape) < 0.1] = -np.inf
    where = rng.random(x.shape) < 0.9
    where[:, 0], x[:, 0] = True, 0.0
    texts = [rng.integers(0, classes, rng.integers(0, 12)) for _ in x]
    want = []
    for row, text, mask in zip(x, texts, where, strict=True):
        z = np.where(mask, row, -np.inf)
        for _, exact, kind in steps:
            if callable(exact):
                z = exact(z, text)
            else:
                if kind == "bias":
                    exact = ("bias", np.append(exact[1], np.zeros(classes - 1)))
                z, margin = next(o[1:] for o in sampling_oracle.apply(z, [exact]) if o.weight)
                assume(margin > 1e-9)
            assume(np.isfinite(z).any())
        want.append(z)
    chain = Chain([step for step, *_ in steps], rng=1)
    got = chain.filter_logits(x, history=texts, where=where)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)
    p = chain.token_probs(x, history=texts, where=where)
    np.testing.assert_allclose(p, [sampling_oracle.softmax(z) for z in want], rtol=1e-10)
    sample = chain(x, history=texts, where=where)
    assert np.isfinite(np.take_along_axis(np.array(want), sample.ids[:, None], -1)).all()
    assert (sample.kept == np.isfinite(want).sum(axis=1)).all()
    drawn = np.take_along_axis(p, sample.ids[:, None], -1)[:, 0]
    np.testing.assert_allclose(sample.log_probs, np.log(drawn), rtol=1e-9, atol=1e-12)


def test_a_penalty_after_a_filter_acts_on_what_is_left() -> None:
    x = np.array([4.0, 3.0, 0.0])
    first = Chain([PresencePenalty(2.0), TopK(2)]).filter_logits(x, history=[0, 2])
    last = Chain([TopK(2), PresencePenalty(2.0)]).filter_logits(x, history=[0, 2])
    assert first.tolist() == [2.0, 3.0, -np.inf]
    assert last.tolist() == [2.0, 3.0, -np.inf]
    x = np.array([4.0, 3.0, 2.5])
    first = Chain([PresencePenalty(2.0), TopK(2)]).filter_logits(x, history=[0])
    last = Chain([TopK(2), PresencePenalty(2.0)]).filter_logits(x, history=[0])
    assert first.tolist() == [-np.inf, 3.0, 2.5]
    assert last.tolist() == [2.0, 3.0, -np.inf]
    scaled = Chain([Temperature(0.5), RepetitionPenalty(2.0)]).filter_logits(x, history=[0])
    assert scaled.tolist() == [4.0, 6.0, 5.0]


def test_top_h_of_probabilities_that_underflow() -> None:
    """They come after all of the entropy, even where that rounds to 0."""
    x = np.array([0.0, 1e4, 0.0])
    for h, kept in ((0.5, 1), (np.nextafter(1.0, 0.0), 1), (1.0, 3)):
        assert np.isfinite(Chain([TopH(h)]).filter_logits(x)).sum() == kept


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_limits_of_dtypes(name: str) -> None:
    """Numbers at the limits, penalties that overflow, empty arrays: no warning, or a ValueError."""
    steps: list[list[Any]] = [[step, TopK(2)] for step in ALL if not isinstance(step, Mirostat)]
    steps += [[PresencePenalty(p)] for p in (-1e308, 1e308)] + [[Dry(1e308)], [Mirostat()]]
    steps += [[RepetitionPenalty(p), TopP(0.9)] for p in (1e-300, 1e300)]
    for x in extremes(np.dtype(name)):
        rows = int(np.prod(x.shape[:-1]))
        for made in steps:
            chain = Chain(made, rng=KEY)
            with contextlib.suppress(ValueError):
                chain(x, history=[[0, 1, 0, 1, 0]] * rows, prompt=0, errors="mark")
                chain.filter_logits(x, history=[[0, 1, 0, 1, 0]] * rows, prompt=0)


def test_no_steps_are_softmax() -> None:
    p = Chain([]).token_probs(TIED)
    np.testing.assert_allclose(p, boltzmax.softmax(TIED), rtol=1e-15)


# ---- numbers of rows


def penalized() -> Chain:
    return Chain([RepetitionPenalty(1.2), Temperature(0.9), TopK(20), XTC(0.5, 0.1)], rng=KEY)


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_draws_what_calls_in_a_row_draw(isa: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 4, 60)).astype(np.float32)
    texts = [rng.integers(0, 60, 9) for _ in range(16)]
    batch, single, halves = penalized(), penalized(), penalized()
    together = batch(x, history=texts, n=3)
    rows = [single(z, history=t, n=3) for z, t in zip(x.reshape(16, 60), texts, strict=True)]
    assert (together.ids == np.reshape([r.ids for r in rows], (4, 4, 3))).all()
    assert (together.log_probs == np.reshape([r.log_probs for r in rows], (4, 4, 3))).all()
    parts = [halves(x[i : i + 2], history=texts[4 * i : 4 * i + 8], n=3) for i in (0, 2)]
    assert (together.ids == np.concatenate([part.ids for part in parts])).all()
    assert batch.counter == single.counter == halves.counter == 16


def test_the_next_call_has_the_next_numbers() -> None:
    chain = Chain([TopK(50)], rng=KEY)
    x = np.zeros(50)
    first, second = chain(x).ids, chain(x).ids
    assert chain.counter == 2
    assert chain(x, counters=0).ids == first
    assert chain(x, counters=1).ids == second
    assert chain.counter == 2
    assert (chain(np.zeros((2, 50)), counters=[1, 0]).ids == [second, first]).all()
    chain.reset()
    assert chain(x).ids == first
    chain.counter = 2**64 - 1
    chain(np.zeros((2, 50)))
    assert chain.counter == 1


def test_filters_show_what_the_next_call_draws_from() -> None:
    chain = Chain([TopK(9), XTC(0.5, 0.1)], rng=KEY)
    cuts = set()
    for _ in range(20):
        p = chain.token_probs(TIED)
        left = chain.filter_logits(TIED)
        assert (np.isfinite(left) == (p > 0.0)).all()
        sample = chain(TIED)
        np.testing.assert_allclose(sample.log_probs, np.log(p[sample.ids]), rtol=1e-12)
        cuts.add(int(sample.kept))
    assert len(cuts) == 2
    assert chain.counter == 20


def test_generators_and_keys() -> None:
    generator = np.random.default_rng(3)
    key = int(copy.deepcopy(generator).integers(2**64, dtype=np.uint64))
    assert Chain([], rng=generator).key == key
    assert Chain([], rng=KEY).key == KEY
    assert Chain([]).key != Chain([]).key
    for bad in (-1, 2**64, "1", 0.5):
        with pytest.raises((TypeError, ValueError), match="rng must be"):
            Chain([], rng=bad)


# ---- objects

ALL: list[Any] = [
    *(step for step, _ in FILTERS.values()),
    *(RepetitionPenalty(1.1), PresencePenalty(0.5, 9, prompt=False), FrequencyPenalty(0.1)),
    *(NoRepeatNGram(3), Dry(0.8, breakers=[1, [2, 3]]), Mirostat()),
]
PER_ROW = [TopK([3, 4]), TopP([0.5, 0.9]), PresencePenalty([[0.5], [1.0]])]


def test_configs() -> None:
    chain = Chain([*PER_ROW, *ALL], rng=KEY)
    config = chain.get_config()
    again = Chain.from_config(config)
    assert again.get_config() == config
    assert again.steps == chain.steps
    assert again.key == KEY
    assert Chain.from_config(json.loads(json.dumps(config))).steps == chain.steps
    with pytest.raises(ValueError, match=r"step must be one of 'Temperature', .*, got 'TopQ'"):
        Chain.from_config({"steps": [{"step": "TopQ"}], "rng": 1})


def test_pickles_go_on() -> None:
    steps = [FrequencyPenalty(0.1), Temperature(0.8), XTC(0.3, 0.05), Mirostat(2.0)]
    chain = Chain(steps, rng=KEY)
    x = np.random.default_rng(2).normal(size=(3, 200))
    text = [[1], [2, 3], []]
    for _ in range(5):
        chain(x, history=text)
    copies = [pickle.loads(pickle.dumps(chain)), copy.deepcopy(chain)]
    assert b"boltzmax.sampling.chain" not in pickle.dumps(chain)
    want = [chain(x, history=text) for _ in range(5)]
    for other in copies:
        assert all(same(other(x, history=text), sample) for sample in want)
        assert (other.counter, other.key) == (chain.counter, KEY)
        np.testing.assert_array_equal(other.mu, chain.mu)


def test_repr_says_how_to_make_it() -> None:
    chain = Chain([TopK(5), RepetitionPenalty(1.5)], rng=3)
    assert eval(repr(chain)).get_config() == chain.get_config()


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (TopK(5), TypeError, "steps must be a list of steps, got TopK"),
        (3, TypeError, "steps must be a list of steps, got 3"),
        ([TopK(5), TopP], TypeError, "got <class 'boltzmax.sampling.TopP'> at 1"),
        (["top_k"], TypeError, "steps must be steps, such as TopK(50), got 'top_k' at 0"),
    ],
)
def test_bad_steps(steps: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Chain(steps)


def test_bad_rows_change_nothing() -> None:
    chain = Chain([PresencePenalty(1.0), TopK(2), PresencePenalty(1.0)], rng=KEY)
    x = np.zeros((3, 4))
    x[1, 2], x[2] = np.nan, -np.inf
    for call in (chain, chain.filter_logits, chain.token_probs):
        with pytest.raises(ValueError, match="row 1"):
            call(x, history=[[0]] * 3)
    assert chain.counter == 0
    sample = chain(x, history=[[0]] * 3, errors="mark")
    assert (sample.ids >= 0).tolist() == [True, False, False]
    assert np.isnan(sample.log_probs).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="errors must be one of"):
        chain(x, history=[[0]] * 3, errors="ignore")

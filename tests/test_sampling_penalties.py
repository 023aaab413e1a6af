"""Penalties of sampling against their definitions, and the texts that they read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sampling_oracle
from boltzmax.sampling import (
    Bias,
    Chain,
    Dry,
    FrequencyPenalty,
    NoRepeatNGram,
    PresencePenalty,
    RepetitionPenalty,
    TopK,
)
from ulp import dtype_of

pytestmark = pytest.mark.usefixtures("strict")

Array = npt.NDArray[Any]
LIMITS = {"float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52, "bfloat16": 2.0**-7}


def logits_of(rng: np.random.Generator, *shape: int) -> Array:
    """Some are excluded, but never the first."""
    x = 2.0 * rng.normal(size=shape)
    x[rng.random(shape) < 0.1] = -np.inf
    x[..., 0] = 1.0
    return x


def texts_of(rng: np.random.Generator, rows: int, classes: int, longest: int = 40) -> list[Array]:
    """Texts, half of which repeat themselves."""
    texts = [rng.integers(0, classes, rng.integers(0, longest)) for _ in range(rows)]
    return [np.tile(t[:5], 9)[: len(t)] if rng.random() < 0.5 else t for t in texts]


def flat(texts: list[Array]) -> tuple[Array, Array]:
    """The same texts, in the form of CSR."""
    return np.concatenate(texts), np.cumsum([0, *map(len, texts)])


# ---- the definitions


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 3, 7, 40]),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(0, 30)),
    st.booleans(),
)
def test_counted_penalties(
    seed: int, classes: int, rows: int, last_n: int | None, prompt: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, texts = logits_of(rng, rows, classes), texts_of(rng, rows, classes)
    prompts = [int(rng.integers(0, len(t) + 1)) for t in texts]
    for step, exact in (
        (RepetitionPenalty, sampling_oracle.repetition),
        (PresencePenalty, sampling_oracle.presence),
        (FrequencyPenalty, sampling_oracle.frequency),
    ):
        chain = Chain([step(1.3, last_n, prompt)])
        want = [
            exact(x[r], t, 1.3, last_n=last_n, prompt=0 if prompt else prompts[r])
            for r, t in enumerate(texts)
        ]
        for history in (texts, flat(texts)):
            got = chain.filter_logits(x, history=history, prompt=prompts)
            np.testing.assert_array_equal(got, want)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 3, 7]),
    st.integers(1, 5),
    st.sampled_from([1.0, 1.0000001, 1.2, 1.75, 1e9]),
    st.one_of(st.none(), st.integers(0, 30)),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=2),
)
def test_penalties_of_sequences(
    seed: int, classes: int, n: int, base: float, last_n: int | None, breakers: list[list[int]]
) -> None:
    rng = np.random.default_rng(seed)
    x, texts = logits_of(rng, 2, classes), texts_of(rng, 2, classes)
    no_ngram, dry = NoRepeatNGram(n), Dry(0.75, base, n, breakers, last_n)
    got = Chain([no_ngram]).filter_logits(x, history=texts, errors="mark")
    want = np.array([sampling_oracle.no_repeat_ngram(z, t, n) for z, t in zip(x, texts)])  # noqa: B905
    want[~np.isfinite(want).any(axis=1)] = np.nan  # nothing is left
    np.testing.assert_array_equal(got, want)
    got = Chain([dry]).filter_logits(x, history=texts)
    for row, z, text in zip(got, x, texts, strict=True):
        want = sampling_oracle.dry(z, text, 0.75, base, n, breakers, last_n)
        np.testing.assert_allclose(row, want, rtol=1e-14)


def test_repetition_by_hand() -> None:
    chain = Chain([RepetitionPenalty(2.0)])
    got = chain.filter_logits([3.0, -3.0, 0.0, -np.inf, 3.0], history=[3, 2, 1, 0, 0])
    assert got.tolist() == [1.5, -6.0, 0.0, -np.inf, 3.0]


def test_openai_penalties_by_hand() -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence."""
    chain = Chain([FrequencyPenalty(0.25), PresencePenalty(0.5)])
    assert chain.filter_logits(np.zeros(3), history=[1, 1, 0, 1]).tolist() == [-0.75, -1.25, 0.0]


def test_dry_by_hand() -> None:
    """After "... 1 2 3 4 ... 1 2 3", 4 would repeat three ids; 9 is a breaker."""
    text = [1, 2, 3, 4, 7, 9, 5, 1, 2, 3]
    zeros = np.zeros(10)

    def dry(**options: Any) -> list[float]:
        return list(Chain([Dry(2.0, 3.0, **options)]).filter_logits(zeros, history=text))

    assert dry() == [0, 0, 0, 0, -6, 0, 0, 0, 0, 0]
    assert dry(allowed_length=3) == [0, 0, 0, 0, -2, 0, 0, 0, 0, 0]
    assert dry(allowed_length=4) == [0] * 10
    assert dry(breakers=[9]) == dry(breakers=[[7, 9], 8]) == dry()  # the repetition is after it
    assert dry(breakers=[2]) == [0] * 10  # one id after the breaker
    assert dry(breakers=[[2, 3]]) == [0] * 10
    assert dry(breakers=[4]) == [0] * 10  # a breaker is not penalized
    assert dry(last_n=6) == [0] * 10


def test_a_long_periodic_text_is_penalized_at_most_by_the_largest_float() -> None:
    text = np.arange(60_000) % 3
    got = Chain([Dry(1.0, 1.75)]).filter_logits(np.zeros(3), history=text)
    assert got[1:].tolist() == [0.0, 0.0]
    assert got[0] == -(1.75 ** int(88.7228391 / np.log(1.75)))


def test_one_number_for_each_row() -> None:
    x = np.ones((2, 3, 4))
    penalties = np.arange(6.0).reshape(2, 3)
    got = Chain([PresencePenalty(penalties)]).filter_logits(x, history=[[1]] * 6)
    np.testing.assert_array_equal(got[..., 1], 1.0 - penalties)
    assert (got[..., [0, 2, 3]] == 1.0).all()
    got = Chain([FrequencyPenalty([[1.0], [2.0]])]).filter_logits(x, history=[[1, 1]] * 6)
    assert got[..., 1].tolist() == [[-1.0] * 3, [-3.0] * 3]
    with pytest.raises(ValueError, match=re.escape("penalty of shape (5,) does not broadcast")):
        Chain([PresencePenalty(np.ones(5))]).filter_logits(x, history=[[1]] * 6)


def test_dtypes_and_what_is_left_alone(dtype: np.dtype[Any]) -> None:
    """Logits of other ids keep their bits; those in the text are rounded once, from double."""
    rng = np.random.default_rng(5)
    x = logits_of(rng, 3, 50).astype(dtype)
    before = x.copy()
    texts = [rng.integers(0, 50, 20) for _ in range(3)]
    chain = Chain([RepetitionPenalty(1.1), PresencePenalty(0.3)])
    got = chain.filter_logits(x, history=texts)
    assert got.dtype == dtype
    assert (x == before).all()
    exact = x.astype(float)
    for r, text in enumerate(texts):
        exact[r] = sampling_oracle.repetition(exact[r], text, 1.1)
        exact[r] = sampling_oracle.presence(exact[r], text, 0.3)
        others = np.setdiff1d(np.arange(50), text)
        assert (got[r, others] == x[r, others]).all()
    finite = np.isfinite(exact)
    error = np.abs(got[finite].astype(float) - exact[finite])
    assert (error <= LIMITS[dtype.name] * (np.abs(exact[finite]) + 0.3)).all()


def test_rows_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(6)
    x, texts = logits_of(rng, 4, 30).astype(np.float32), texts_of(rng, 4, 30)
    steps = [RepetitionPenalty(1.3), FrequencyPenalty(0.1), Dry(0.8), NoRepeatNGram(3)]
    together = Chain(steps).filter_logits(x, history=texts)
    for row, z, text in zip(together, x, texts, strict=True):
        np.testing.assert_array_equal(Chain(steps).filter_logits(z, history=text), row)
    strided = np.asfortranarray(x)
    np.testing.assert_array_equal(Chain(steps).filter_logits(strided, history=texts), together)


def test_bfloat16_is_penalized_in_single_precision() -> None:
    """A penalty that bfloat16 would lose still changes the probabilities."""
    bfloat16 = dtype_of("bfloat16") if pytest.importorskip("ml_dtypes") else None
    x = np.array([100.0, 100.0], bfloat16)
    sample = Chain([PresencePenalty(0.125)], rng=1)(x, history=[0])
    want = np.log(1 / (1 + np.exp([0.125, -0.125])))
    np.testing.assert_allclose(sample.log_probs, want[int(sample.ids)], rtol=1e-6)


# ---- texts


def test_forms_of_history() -> None:
    chain = Chain([PresencePenalty(1.0)])
    want = np.array([[-1.0, 0.0], [-1.0, -1.0], [0.0, 0.0]])
    x = np.zeros((3, 2))
    for history in (
        [[0, 0], [1, 0], []],
        [np.array([0], np.uint8), (1, 0), np.empty(0, np.int32)],
        ([0, 1, 0], [0, 1, 3, 3]),
        (np.array([0, 1, 0], np.int16), np.array([0, 1, 3, 3])),
    ):
        np.testing.assert_array_equal(chain.filter_logits(x, history=history), want)
    square = np.array([[0, 0], [1, 0], [1, 1]])
    assert chain.filter_logits(x, history=square).tolist() == [[-1, 0], [-1, -1], [0, -1]]
    for one in ([1], (1, 1), np.array([1], np.uint64)):
        assert chain.filter_logits([0.0, 0.0], history=one).tolist() == [0.0, -1.0]
    assert chain.filter_logits([0.0, 0.0], history=[]).tolist() == [0.0, 0.0]
    assert chain.filter_logits(np.zeros((0, 4)), history=[]).shape == (0, 4)


BAD_HISTORIES: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "missing": ((2, 3), None, ValueError, "history is missing"),
    "too few": ((2, 3), [[0]], ValueError, "one text for each of the 2 rows, got 1"),
    "too many": ((2, 3), [[0], [0], [0]], ValueError, "one text for each of the 2 rows, got 3"),
    "no list": ((2, 3), 4, TypeError, "history must be a list of arrays"),
    "floats": ((2, 3), [[0], [0.5]], TypeError, "history[1] must be an array of integers"),
    "bools": ((3,), [True, False], TypeError, "history must be an array of integers"),
    "axes": ((3,), [[0, 1]], ValueError, "history must have one axis"),
    "too large": (
        *((2, 3), [[0, 1], [2, 2, 3]], ValueError),
        "history must be ids from 0 to 2, got 3 in row 1 at position 2",
    ),
    "negative": (
        *((3,), [0, -1], ValueError),
        "history must be ids from 0 to 2, got -1 in row 0 at position 1",
    ),
    "after an empty text": (
        *((3, 3), ([0, 7], [0, 0, 0, 2]), ValueError),
        "got 7 in row 2 at position 1",
    ),
    "huge": ((3,), np.array([2**63], np.uint64), ValueError, "below 2**63"),
    "offsets": ((2, 3), ([0, 1], [0, 1]), ValueError, "indptr must end with"),
    "rows of offsets": ((2, 3), ([0, 1], [0, 2]), ValueError, "the 2 rows, got 1"),
    "falling": ((2, 3), ([0, 1], [0, 3, 2]), ValueError, "indptr must not decrease"),
    "a tuple of texts": ((2, 3), ([0, 1], [1, 2]), ValueError, "a list has one text for each row"),
    "a tuple of three": ((3, 3), ([0], [1], [2]), ValueError, "which means (values, indptr)"),
    "a tuple of floats": ((2, 3), ([0.5], [0, 1, 1]), TypeError, "which means (values, indptr)"),
    "masked": ((3,), np.ma.masked_array([0, 1], [0, 1]), TypeError, "masked array"),
}


@pytest.mark.parametrize("case", BAD_HISTORIES)
def test_bad_histories(case: str) -> None:
    shape, history, error, message = BAD_HISTORIES[case]
    chain = Chain([TopK(2), PresencePenalty(1.0)], rng=1)
    for call in (chain, chain.filter_logits, chain.token_probs):
        with pytest.raises(error, match=re.escape(message)):
            call(np.zeros(shape), history=history)
    assert chain.counter == 0


def test_a_tuple_is_compressed_rows() -> None:
    """Two texts in a list differ from the same two arrays in a tuple."""
    x, pair = np.zeros((2, 3)), ([0, 1], [0, 1, 2])
    chain = Chain([PresencePenalty(1.0)])
    np.testing.assert_array_equal(chain.filter_logits(x, history=pair), [[-1, 0, 0], [0, -1, 0]])
    got = chain.filter_logits(x, history=list(pair))
    np.testing.assert_array_equal(got, [[-1, -1, 0], [-1, -1, -1]])


def test_bad_prompts() -> None:
    chain = Chain([PresencePenalty(1.0, prompt=False)])
    x, texts = np.zeros((2, 3)), [[0, 1], [2]]
    for prompt, error, message in (
        (None, ValueError, "prompt is missing"),
        ([0, 2], ValueError, "from 0 to the length of the text, 1 in row 1, got 2"),
        (-1, ValueError, "2 in row 0, got -1"),
        (0.5, TypeError, "prompt must be an integer or one per row"),
        ([0, 0, 0], ValueError, "does not broadcast to one per row, (2,)"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            chain.filter_logits(x, history=texts, prompt=prompt)
    assert chain.filter_logits(x, history=texts, prompt=[1, 1]).tolist() == [[0, -1, 0], [0, 0, 0]]


BAD_STEPS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "zero": (lambda: RepetitionPenalty(0.0), ValueError, "penalty must be positive and finite"),
    "a row": (lambda: RepetitionPenalty([1.0, -1.0]), ValueError, "got -1 for row 1"),
    "nan": (lambda: PresencePenalty(np.nan), ValueError, "penalty must be finite, got nan"),
    "infinite": (lambda: FrequencyPenalty(np.inf), ValueError, "penalty must be finite, got inf"),
    "text": (lambda: FrequencyPenalty("1"), TypeError, "penalty must be a"),
    "last_n": (lambda: PresencePenalty(1.0, -1), ValueError, "last_n must be at least 0, got -1"),
    "half": (lambda: PresencePenalty(1.0, 1.5), TypeError, "last_n must be an integer"),  # type: ignore[arg-type]
    "n": (lambda: NoRepeatNGram(0), ValueError, "n must be at least 1, got 0"),
    "multiplier": (lambda: Dry(-1.0), ValueError, "multiplier must be at least 0 and finite"),
    "base": (lambda: Dry(1.0, 0.5), ValueError, "base must be at least 1 and finite, got 0.5"),
    "bases": (lambda: Dry(1.0, [2.0, 3.0]), TypeError, "base must be a single number"),  # type: ignore[arg-type]
    "length": (lambda: Dry(1.0, 2.0, 0), ValueError, "allowed_length must be at least 1, got 0"),
    "breaker": (lambda: Dry(1.0, breakers=[[]]), ValueError, "a breaker must be ids"),
    "breakers": (lambda: Dry(1.0, breakers="."), TypeError, "breakers must be ids"),
    "word": (lambda: Dry(1.0, breakers=["."]), TypeError, "a breaker must be an array of integers"),
}


@pytest.mark.parametrize("case", BAD_STEPS)
def test_bad_steps(case: str) -> None:
    make, error, message = BAD_STEPS[case]
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_biases_act_between_penalties() -> None:
    x = np.array([2.0, 2.0])
    first = Chain([Bias({0: 2.0}), RepetitionPenalty(2.0)]).filter_logits(x, history=[0])
    last = Chain([RepetitionPenalty(2.0), Bias({0: 2.0})]).filter_logits(x, history=[0])
    assert (first.tolist(), last.tolist()) == ([2.0, 2.0], [3.0, 2.0])

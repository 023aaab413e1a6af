"""Chains with the options of other engines: their order, their rules, their values for "off"."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

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

Array = npt.NDArray[Any]


def steps(engine: str, **options: Any) -> list[Any]:
    return list(Chain.compat(engine, **options).steps)


# Every option of each engine, and the steps in the engine's order.
EVERYTHING: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "transformers": (
        {
            "eta_cutoff": 0.02,
            "epsilon_cutoff": 0.01,
            "typical_p": 0.8,
            "min_p": 0.1,
            "top_p": 0.9,
            "top_k": 5,
            "top_h": 0.7,
            "temperature": 0.6,
            "do_sample": True,
            "no_repeat_ngram_size": 3,
            "repetition_penalty": 1.3,
        },
        [
            *(RepetitionPenalty(1.3), NoRepeatNGram(3), Temperature(0.6), TopH(0.7)),
            *(TopK(5, ties="all"), TopP(0.9), MinP(0.1), TypicalP(0.8), Epsilon(0.01), Eta(0.02)),
        ],
    ),
    "vllm": (
        {
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.1,
            "temperature": 0.6,
            "logit_bias": {3: 1.5},
            "presence_penalty": 0.5,
            "frequency_penalty": 0.2,
            "repetition_penalty": 1.3,
        },
        [
            *(Bias({3: 1.5}), RepetitionPenalty(1.3), FrequencyPenalty(0.2, prompt=False)),
            *(PresencePenalty(0.5, prompt=False), Temperature(0.6), MinP(0.1)),
            *(TopK(5, ties="all"), TopP(0.9)),
        ],
    ),
    "llama.cpp": (
        {
            "temperature": 0.6,
            "xtc_probability": 0.5,
            "xtc_threshold": 0.2,
            "min_p": 0.1,
            "top_p": 0.9,
            "typical_p": 0.8,
            "top_k": 5,
            "top_n_sigma": 1.5,
            "dry_multiplier": 0.8,
            "dry_base": 2.0,
            "dry_allowed_length": 3,
            "dry_penalty_last_n": 99,
            "dry_sequence_breakers": [[1], [2, 3]],
            "presence_penalty": 0.5,
            "frequency_penalty": 0.2,
            "repeat_penalty": 1.3,
            "repeat_last_n": 32,
            "logit_bias": {3: 1.5},
        },
        [
            *(Bias({3: 1.5}), RepetitionPenalty(1.3, 32), FrequencyPenalty(0.2, 32)),
            *(PresencePenalty(0.5, 32), Dry(0.8, 2.0, 3, [[1], [2, 3]], 99), TopNSigma(1.5)),
            *(TopK(5), TypicalP(0.8, rule="llama.cpp"), TopP(0.9), MinP(0.1, rule="log")),
            *(XTC(0.5, 0.2), Temperature(0.6)),
        ],
    ),
}

OFF: dict[str, dict[str, Any]] = {
    "transformers": {
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "temperature": 1.0,
        "top_h": None,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": None,
        "typical_p": 1.0,
        "epsilon_cutoff": 0.0,
        "eta_cutoff": 0.0,
    },
    "vllm": {
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "temperature": 1.0,
        "min_p": 0.0,
        "top_k": -1,
        "top_p": 1.0,
        "logit_bias": None,
    },
    "llama.cpp": {
        "repeat_penalty": 1.0,
        "repeat_last_n": 64,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "dry_multiplier": 0.0,
        "top_n_sigma": -1.0,
        "top_k": 0,
        "typical_p": 1.0,
        "top_p": 1.0,
        "min_p": 0.0,
        "xtc_probability": 0.0,
        "mirostat": 0,
        "temperature": 1.0,
        "logit_bias": None,
    },
}


@pytest.mark.parametrize("engine", EVERYTHING)
def test_order_and_rules(engine: str) -> None:
    options, want = EVERYTHING[engine]
    assert steps(engine, **options) == want


@pytest.mark.parametrize("engine", EVERYTHING)
def test_off(engine: str) -> None:
    assert steps(engine) == []
    assert steps(engine, **OFF[engine]) == []
    for option in EVERYTHING[engine][0]:
        assert steps(engine, **{option: None}) == [], option


@pytest.mark.parametrize(
    ("engine", "options", "want"),
    [
        ("transformers", {"do_sample": False, "top_p": 0.5}, [Temperature(0.0)]),
        (
            *("transformers", {"do_sample": False, "repetition_penalty": 2.0}),
            [RepetitionPenalty(2.0), Temperature(0.0)],
        ),
        ("transformers", {"top_p": 0.0}, [TopK(1)]),
        ("transformers", {"epsilon_cutoff": 1.0, "eta_cutoff": 2.0}, []),
        ("vllm", {"temperature": 0.0}, [Temperature(0.0)]),
        ("vllm", {"temperature": 1e-6}, [Temperature(0.01)]),
        ("vllm", {"temperature": 0.005}, [Temperature(0.01)]),
        ("vllm", {"top_k": 0}, []),
        ("vllm", {"logit_bias": {1: -300, 2: 101.0}}, [Bias({1: -100.0, 2: 100.0})]),
        ("llama.cpp", {"temperature": -1.0}, [Temperature(0.0)]),
        ("llama.cpp", {"top_p": 0.0, "top_k": -3}, [TopK(1)]),
        ("llama.cpp", {"xtc_probability": 0.5, "xtc_threshold": 0.6}, []),
        ("llama.cpp", {"repeat_penalty": 1.5}, [RepetitionPenalty(1.5, 64)]),
        ("llama.cpp", {"repeat_penalty": 1.5, "repeat_last_n": -1}, [RepetitionPenalty(1.5)]),
        ("llama.cpp", {"dry_multiplier": 0.5}, [Dry(0.5)]),
        ("llama.cpp", {"dry_multiplier": 0.5, "dry_base": 0.5}, []),
        ("llama.cpp", {"dry_multiplier": 0.5, "dry_penalty_last_n": 0}, []),
        (
            *("llama.cpp", {"mirostat": 1, "mirostat_tau": 3.0, "temperature": 0.5, "top_k": 4}),
            [Temperature(0.5), Mirostat(3.0, 0.1, 1)],
        ),
        (
            *("llama.cpp", {"samplers": ["temperature", "top_k"], "top_k": 4, "temperature": 0.5}),
            [Temperature(0.5), TopK(4)],
        ),
    ],
)
def test_particular_values(engine: str, options: dict[str, Any], want: list[Any]) -> None:
    assert steps(engine, **options) == want


@pytest.mark.parametrize(
    ("engine", "options", "error", "message"),
    [
        ("hf", {}, ValueError, "engine must be one of 'transformers', 'vllm', 'llama.cpp'"),
        ("vllm", {"topk": 3}, TypeError, "vllm has no option 'topk' here; it has logit_bias, "),
        ("vllm", {"top_p": np.nan}, ValueError, "top_p must be a number, got nan"),
        ("vllm", {"top_p": "a"}, TypeError, "top_p must be a real number, got 'a'"),
        ("vllm", {"top_p": [0.5, 0.9]}, TypeError, "top_p must be a real number"),
        ("vllm", {"top_p": 0.0}, ValueError, "p must be in (0, 1], got 0"),
        ("vllm", {"temperature": -1.0}, ValueError, "temperature must be 0, or from"),
        ("transformers", {"temperature": 0.0}, ValueError, "do_sample=False takes the likeliest"),
        ("transformers", {"top_k": -1}, ValueError, "k must be at least 1, got -1"),
        ("transformers", {"top_k": 2.5}, TypeError, "k must be an integer, got 2.5"),
        ("llama.cpp", {"mirostat": 3}, ValueError, "mirostat must be 0, 1 or 2, got 3"),
        ("llama.cpp", {"samplers": ["top_q"]}, ValueError, "a name of samplers must be one of"),
        ("llama.cpp", {"repeat_last_n": 0.5}, TypeError, "repeat_last_n must be an integer"),
    ],
)
def test_bad_options(
    engine: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Chain.compat(engine, **options)


def test_prompts_count_as_in_vllm() -> None:
    """Repetition counts them; frequency and presence count only what follows."""
    options = {"repetition_penalty": 2.0, "frequency_penalty": 1.0, "presence_penalty": 0.5}
    chain = Chain.compat("vllm", **options)
    left = chain.filter_logits(np.full(4, 8.0), history=[0, 1, 1, 2, 2], prompt=2)
    assert left.tolist() == [4.0, 4.0 - 1.5, 4.0 - 2.5, 8.0]


def test_ties_at_the_kth() -> None:
    x = [0.0, 2.0, 1.0, 1.0, 1.0, 0.0]
    for engine, want in (("transformers", 4), ("vllm", 4), ("llama.cpp", 2)):
        assert Chain.compat(engine, top_k=2)(x).kept == want
    left = Chain.compat("llama.cpp", top_k=3).filter_logits(x)
    assert np.flatnonzero(np.isfinite(left)).tolist() == [1, 2, 3]


# ---- transformers itself


@pytest.fixture(scope="module")
def transformers() -> Any:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    return transformers


def processors_of(transformers: Any, options: dict[str, Any]) -> Any:
    """The list of processors that transformers makes of these options."""
    import torch

    class Model(transformers.GenerationMixin):  # type: ignore[misc, name-defined]
        config = transformers.PretrainedConfig()
        device = torch.device("cpu")

    config = transformers.GenerationConfig(**{"do_sample": True, "top_k": 0, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Model()._get_logits_processor(config, input_ids_seq_length=1)


def by_transformers(transformers: Any, options: dict[str, Any], x: Array, text: Array) -> Any:
    import torch

    processors = processors_of(transformers, options)
    try:
        return processors(torch.tensor(text)[None], torch.tensor(x.copy())[None])[0].numpy()
    except ValueError:  # its distributions refuse rows without a class
        return np.full(x.shape, -np.inf)


def adversarial(kind: str, rng: np.random.Generator, classes: int) -> Array:
    x = np.asarray(rng.normal(size=classes)) * 2.5
    if kind == "tied":
        return np.round(x)
    if kind == "equal":
        return np.full(classes, 3.0)
    if kind == "peaked":
        return np.where(np.arange(classes) == classes // 2, 1e4, x)
    if kind == "far":
        return 1e4 * np.sign(x) + x
    if kind == "excluded":
        return np.where((rng.random(classes) < 0.5) & (np.arange(classes) > 0), -np.inf, x)
    return x


OPTIONS = {
    "repetition_penalty": st.floats(0.5, 2.0),
    "no_repeat_ngram_size": st.integers(0, 4),
    "temperature": st.floats(0.1, 3.0),
    "top_h": st.floats(0.01, 0.99),
    "top_k": st.integers(0, 60),
    "top_p": st.floats(0.0, 1.0),
    "min_p": st.floats(0.001, 1.0),
    "typical_p": st.floats(0.01, 1.0),
    "epsilon_cutoff": st.floats(0.0, 0.2),
    "eta_cutoff": st.floats(0.0, 0.2),
}


@given(
    st.one_of(
        st.sampled_from(sorted(OPTIONS)).flatmap(
            lambda name: st.fixed_dictionaries({name: OPTIONS[name]})
        ),
        st.fixed_dictionaries({}, optional=OPTIONS),
    ),
    st.sampled_from(["normal", "tied", "equal", "peaked", "far", "excluded"]),
    st.sampled_from([2, 3, 50, 300]),
    st.integers(0, 2**32 - 1),
)
def test_the_sets_of_transformers(
    transformers: Any, options: dict[str, Any], kind: str, classes: int, seed: int
) -> None:
    """Set for set; of equal logits on the border of top_p and top_h, transformers takes any."""
    rng = np.random.default_rng(seed)
    x = adversarial(kind, rng, classes)
    text = rng.integers(0, classes, rng.integers(1, 12))
    want = by_transformers(transformers, options, x, text)
    chain = Chain.compat("transformers", **options)
    got = chain.filter_logits(x, history=text, errors="mark")
    if not np.isfinite(want).any():
        assert np.isnan(got).all()
        return
    if options.keys() & {"top_p", "top_h"} and len(np.unique(x)) < len(x):
        got, want = np.sort(got), np.sort(want)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_order_of_transformers(transformers: Any) -> None:
    options, want = EVERYTHING["transformers"]
    classes = {
        "RepetitionPenaltyLogitsProcessor": RepetitionPenalty,
        "NoRepeatNGramLogitsProcessor": NoRepeatNGram,
        "TemperatureLogitsWarper": Temperature,
        "TopHLogitsWarper": TopH,
        "TopKLogitsWarper": TopK,
        "TopPLogitsWarper": TopP,
        "MinPLogitsWarper": MinP,
        "TypicalLogitsWarper": TypicalP,
        "EpsilonLogitsWarper": Epsilon,
        "EtaLogitsWarper": Eta,
    }
    made = [classes[type(p).__name__] for p in processors_of(transformers, options)]
    assert made == [type(step) for step in want]

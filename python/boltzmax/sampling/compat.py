"""The options of other engines as steps, in each engine's order and with its rules.

As their sources have it: transformers 5.24 (``generation/logits_process.py`` and the order in
``generation/utils.py``), vLLM's V1 sampler (``v1/sample``, ``sampling_params.py``) and llama.cpp
(``llama-sampler.cpp`` and ``common/sampling.cpp``).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from boltzmax._lib.arguments import as_integer, as_number, one_of
from boltzmax.sampling.mirostat import Mirostat
from boltzmax.sampling.penalties import (
    Dry,
    FrequencyPenalty,
    NoRepeatNGram,
    PresencePenalty,
    RepetitionPenalty,
)
from boltzmax.sampling.steps import (
    XTC,
    Bias,
    Epsilon,
    Eta,
    MinP,
    Step,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)

_NO_NUMBERS = {"do_sample", "logit_bias", "dry_sequence_breakers", "samplers"}


def steps_of(engine: str, options: Mapping[str, Any]) -> list[Step]:
    """Return the steps that an engine's options stand for."""
    build = ENGINES[one_of(engine, "engine", tuple(ENGINES))]
    known = list(inspect.signature(build).parameters)
    for option in options:
        if option not in known:
            raise TypeError(f"{engine} has no option {option!r} here; it has {', '.join(known)}")
    bias = options.get("logit_bias")
    if not (bias is None or isinstance(bias, Mapping)):
        raise TypeError(f"logit_bias must be a dict of ids, got {bias!r}")
    given = {option: value for option, value in options.items() if value is not None}
    for option in given.keys() - _NO_NUMBERS:
        if math.isnan(as_number(given[option], option)):
            raise ValueError(f"{option} must be a number, got {given[option]!r}")
    return list(build(**given))


def _transformers(
    *,
    do_sample: bool = True,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    temperature: float = 1.0,
    top_h: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
    epsilon_cutoff: float = 0.0,
    eta_cutoff: float = 0.0,
) -> Iterable[Step]:
    if repetition_penalty != 1.0:
        yield RepetitionPenalty(repetition_penalty)
    if no_repeat_ngram_size != 0:
        yield NoRepeatNGram(no_repeat_ngram_size)
    if not do_sample:
        yield Temperature(0.0)
        return
    if not temperature > 0.0:
        raise ValueError(
            f"temperature must be positive for transformers, got {temperature!r}; "
            "do_sample=False takes the likeliest class"
        )
    if temperature != 1.0:
        yield Temperature(temperature)
    if top_h is not None:
        yield TopH(top_h)
    if top_k != 0:
        yield TopK(top_k, ties="all")
    if top_p < 1.0:
        yield TopP(top_p) if top_p != 0.0 else TopK(1)
    if min_p != 0.0:
        yield MinP(min_p)
    if typical_p < 1.0:
        yield TypicalP(typical_p)
    if 0.0 < epsilon_cutoff < 1.0:
        yield Epsilon(epsilon_cutoff)
    if 0.0 < eta_cutoff < 1.0:
        yield Eta(eta_cutoff)


def _vllm(
    *,
    logit_bias: Mapping[int, float] | None = None,
    repetition_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    temperature: float = 1.0,
    min_p: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Iterable[Step]:
    if logit_bias:
        yield Bias({i: _clipped(as_number(b, "logit_bias")) for i, b in logit_bias.items()})
    if repetition_penalty != 1.0:
        yield RepetitionPenalty(repetition_penalty)
    if frequency_penalty != 0.0:
        yield FrequencyPenalty(frequency_penalty, prompt=False)
    if presence_penalty != 0.0:
        yield PresencePenalty(presence_penalty, prompt=False)
    if temperature != 1.0:
        # It is raised first, and compared with 1e-5, below which draws are greedy, only then.
        yield Temperature(0.01 if 0.0 < temperature < 0.01 else temperature)
    if min_p != 0.0:
        yield MinP(min_p)
    if top_k not in (0, -1):
        yield TopK(top_k, ties="all")
    if top_p != 1.0:
        yield TopP(top_p)


# llama.cpp's names of its samplers, in the order in which they act unless it is told otherwise.
_SAMPLERS = (
    *("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc"),
    "temperature",
)


def _llama_cpp(
    *,
    logit_bias: Mapping[int, float] | None = None,
    repeat_penalty: float = 1.0,
    repeat_last_n: int = 64,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    dry_multiplier: float = 0.0,
    dry_base: float = 1.75,
    dry_allowed_length: int = 2,
    dry_penalty_last_n: int = -1,
    dry_sequence_breakers: Any = (),
    top_n_sigma: float = -1.0,
    top_k: int = 0,
    typical_p: float = 1.0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    xtc_probability: float = 0.0,
    xtc_threshold: float = 0.1,
    temperature: float = 1.0,
    mirostat: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    samplers: Iterable[str] = _SAMPLERS,
) -> Iterable[Step]:
    def penalties() -> Iterable[Step]:
        last_n = _last_n(repeat_last_n, "repeat_last_n")
        if repeat_penalty != 1.0:
            yield RepetitionPenalty(repeat_penalty, last_n)
        if frequency_penalty != 0.0:
            yield FrequencyPenalty(frequency_penalty, last_n)
        if presence_penalty != 0.0:
            yield PresencePenalty(presence_penalty, last_n)

    def dry() -> Iterable[Step]:
        last_n = _last_n(dry_penalty_last_n, "dry_penalty_last_n")
        if dry_multiplier != 0.0 and dry_base >= 1.0 and last_n != 0:
            breakers = dry_sequence_breakers
            yield Dry(dry_multiplier, dry_base, dry_allowed_length, breakers, last_n)

    def by_temperature() -> Iterable[Step]:
        if temperature != 1.0:
            yield Temperature(max(temperature, 0.0))

    def by_top_p() -> Iterable[Step]:
        if top_p < 1.0:
            yield TopP(top_p) if top_p > 0.0 else TopK(1)

    def if_on(is_on: bool, build: Callable[[], Step]) -> Callable[[], Iterable[Step]]:
        return lambda: [build()] if is_on else []

    by_name: dict[str, Callable[[], Iterable[Step]]] = {
        "penalties": penalties,
        "dry": dry,
        "top_n_sigma": if_on(top_n_sigma > 0.0, lambda: TopNSigma(top_n_sigma)),
        "top_k": if_on(top_k > 0, lambda: TopK(top_k)),
        "typ_p": if_on(typical_p < 1.0, lambda: TypicalP(typical_p, rule="llama.cpp")),
        "top_p": by_top_p,
        "min_p": if_on(min_p > 0.0, lambda: MinP(min_p, rule="log")),
        "xtc": if_on(
            xtc_probability > 0.0 and xtc_threshold <= 0.5,
            lambda: XTC(xtc_probability, xtc_threshold),
        ),
        "temperature": by_temperature,
    }
    if logit_bias:
        yield Bias(logit_bias)
    if mirostat not in (0, 1, 2):
        raise ValueError(f"mirostat must be 0, 1 or 2, got {mirostat!r}")
    if mirostat:
        yield from by_temperature()
        yield Mirostat(mirostat_tau, mirostat_eta, mirostat)
        return
    for name in samplers:
        yield from by_name[one_of(name, "a name of samplers", _SAMPLERS)]()


def _clipped(bias: float) -> float:
    """Return a bias as vLLM limits it; NaN stays, and is refused."""
    return bias if math.isnan(bias) else min(100.0, max(-100.0, bias))


def _last_n(value: Any, name: str) -> int | None:
    """Return how many ids count; -1 stands for all."""
    n = as_integer(value, name)
    return None if n == -1 else max(n, 0)


ENGINES: dict[str, Callable[..., Iterable[Step]]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "llama.cpp": _llama_cpp,
}

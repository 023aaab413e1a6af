"""From logits to the next class: filters, penalties and draws.

A step is a small object that changes logits or leaves classes out; a `Chain` is a list of steps
with random numbers. Steps act in the order of the list. No step sorts the classes, sums are exact
to the last class that counts, and draws depend on nothing but a key and the number of the row.

- `chain`: steps, a text and a state
- `compat`: the options of other engines
- `filters`: draws from filtered logits in one call
- `history`: the text so far
- `mirostat`: a step that aims at a given surprise
- `penalties`: steps that read the text so far
- `program`: runs a sequence of steps on logits
- `steps`: the steps
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.sampling.chain import Chain
from boltzmax.sampling.filters import filter_logits, sample, token_probs
from boltzmax.sampling.mirostat import Mirostat
from boltzmax.sampling.penalties import (
    Dry,
    FrequencyPenalty,
    NoRepeatNGram,
    PresencePenalty,
    RepetitionPenalty,
)
from boltzmax.sampling.program import Sample
from boltzmax.sampling.steps import (
    XTC,
    Bias,
    Epsilon,
    Eta,
    MinP,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    TypicalP,
)

__all__ = [
    "XTC",
    "Bias",
    "Chain",
    "Dry",
    "Epsilon",
    "Eta",
    "FrequencyPenalty",
    "MinP",
    "Mirostat",
    "NoRepeatNGram",
    "PresencePenalty",
    "RepetitionPenalty",
    "Sample",
    "Temperature",
    "TopH",
    "TopK",
    "TopNSigma",
    "TopP",
    "TypicalP",
    "filter_logits",
    "sample",
    "token_probs",
]

show_in(globals())

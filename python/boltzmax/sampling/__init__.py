"""From logits to the next class: filters and draws.

- `filters`: draws from filtered logits in one call
- `program`: runs a sequence of steps on logits
- `steps`: the steps
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.sampling.filters import filter_logits, sample, token_probs
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
    "Epsilon",
    "Eta",
    "MinP",
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

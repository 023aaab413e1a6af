"""Filters of sampling, each as a step and as the oracle's, and logits with ties."""

from __future__ import annotations

from typing import Any

import numpy as np

from boltzmax.sampling import (
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

FILTERS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "temperature": (Temperature(0.7), ("temperature", 0.7)),
    "top_k": (TopK(7), ("top_k", 7)),
    "top_k, ties": (TopK(7, ties="all"), ("top_k", 7, "all")),
    "top_p": (TopP(0.85), ("top_p", 0.85)),
    "min_p": (MinP(0.06), ("min_p", 0.06)),
    "typical_p": (TypicalP(0.8), ("typical_p", 0.8)),
    "typical_p of llama.cpp": (TypicalP(0.8, rule="llama.cpp"), ("typical_p", 0.8, "llama.cpp")),
    "epsilon": (Epsilon(0.04), ("epsilon", 0.04)),
    "eta": (Eta(0.1), ("eta", 0.1)),
    "top_n_sigma": (TopNSigma(1.5), ("top_n_sigma", 1.5)),
    "top_h": (TopH(0.8), ("top_h", 0.8)),
    "xtc": (XTC(0.4, 0.1), ("xtc", 0.4, 0.1)),
    "bias": (Bias({1: 1.0, 5: -0.5}), ("bias", [0, 1, 0, 0, 0, -0.5] + [0] * 8)),
}
TIED = np.array([1.0, 2.0, 2.0, 0.0, -np.inf, 3.0, 0.5, 2.0, -1.0, 1.5, 0.0, -2.0, 0.5, -np.inf])

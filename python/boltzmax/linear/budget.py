"""The choice of a screen by measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from boltzmax._lib.output_layer import Array
from boltzmax.linear.quantised import QuantizedLinear
from boltzmax.screens.low_rank import LowRankLinear
from boltzmax.screens.screen import Screen

MakeScreen = Callable[[Array, Array | None], Screen]

_REPEATS = 5


class Trial(NamedTuple):
    """A screen that was tried: the seconds that a call takes, and what else it costs."""

    name: str
    seconds: float
    nbytes: int
    rescored: float


def default_screens(n_features: int) -> Mapping[str, MakeScreen]:
    """Return the screens that are tried, by their names."""
    return {
        "8 bits": QuantizedLinear,
        "4 bits": partial(QuantizedLinear, bits=4),
        "bfloat16": partial(QuantizedLinear, dtype="bfloat16"),
        "low rank": partial(LowRankLinear, rank=max(1, n_features // 4)),
    }


def measured(name: str, screen: Any, answer: Callable[[], Any]) -> Trial:
    """Return what an answer by this screen takes."""
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        top = answer()
        seconds.append(time.perf_counter() - start)
    rescored = float(top.rescored.mean()) if len(top.rescored) else 0.0
    return Trial(name, median(seconds), int(getattr(screen, "nbytes", 0)), rescored)


def best(trials: list[Trial], target: float) -> int:
    """Return the smallest screen that is fast enough, or the fastest if none is."""
    fast = [i for i, trial in enumerate(trials) if trial.seconds <= target]
    if fast:
        return min(fast, key=lambda i: trials[i].nbytes)
    return min(range(len(trials)), key=lambda i: trials[i].seconds)

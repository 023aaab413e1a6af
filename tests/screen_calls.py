"""Calls of screens, two stages and quantised layers, for the test of leaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax

Array = NDArray[Any]
Call = Callable[[], object]

NAMES = (
    *("LowRankLinear", "low_rank", "ClusteredLinear", "PrunedLinear", "prune", "Screen"),
    *("TwoStageClassifier", "QuantizedSoftmax", "QuantizedHierarchicalSoftmax"),
)


def everything(weight: Array, bias: Array, hidden: Array, target: Array) -> dict[str, list[Call]]:
    """The calls of each public name."""
    makers: dict[str, Callable[[], Any]] = {
        "LowRankLinear": lambda: boltzmax.LowRankLinear(weight, bias, rank=2),
        "low_rank": lambda: boltzmax.low_rank(weight, 2),
        "ClusteredLinear": lambda: boltzmax.ClusteredLinear(weight),
        "PrunedLinear": lambda: boltzmax.PrunedLinear(weight, ratio=0.5, method="row", block=1),
        "prune": lambda: boltzmax.prune(weight, 0.5, "block", block=2),
    }
    proven = boltzmax.TwoStageClassifier(weight, bias)
    full = boltzmax.QuantizedSoftmax(boltzmax.QuantizedLinear(weight))
    tree = boltzmax.HierarchicalSoftmax(boltzmax.Tree.balanced(len(weight)), weight.shape[1])
    branches = tree.quantize()
    two_stages: list[Call] = [
        lambda: proven.topk(hidden, 3),
        lambda: proven.log_partition(hidden, 1e-3),
        lambda: proven.sample(hidden, 1),
        lambda: refused(proven.topk, hidden, len(weight) + 1),
        lambda: refused(boltzmax.TwoStageClassifier, weight * np.inf),
    ]
    return {
        **{name: [partial(used, make, hidden)] for name, make in makers.items()},
        "Screen": two_stages[:1],
        "TwoStageClassifier": two_stages,
        "QuantizedSoftmax": [lambda: full.topk(hidden, 3), lambda: full.sample(hidden, 1)],
        "QuantizedHierarchicalSoftmax": [
            lambda: branches.topk(hidden, 3),
            lambda: branches.log_prob(hidden, target),
        ],
    }


def used(make: Callable[[], Any], hidden: Array) -> object:
    screen = make()
    return screen.candidates(hidden, 3), screen.log_partition(hidden)


def refused(call: Callable[..., object], *args: object) -> None:
    with pytest.raises(ValueError, match=r"k must be|weight must be"):
        call(*args)

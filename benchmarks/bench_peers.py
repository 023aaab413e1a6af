"""Whole calls, with result arrays, against the peers: small, in cache, out of cache, any axis."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from boltzmax.cli import peers
from boltzmax.cli.peers import FUNCTIONS, Case, Peer
from boltzmax.cli.timing import Task

if TYPE_CHECKING:
    from conftest import Measure

SMALL, CACHED, LARGE = (10,), (64, 1000), (256, 32000)
AXES = (((1000, 1000), 0), ((64, 50, 100), 1), ((1000, 1000), -1), ((64, 100, 50), -1))

CASES = [
    *(Case(function, SMALL) for function in FUNCTIONS),
    *(Case(function, CACHED, d) for function in FUNCTIONS for d in peers.available_dtypes()),
    *(Case(function, LARGE) for function in FUNCTIONS),
    *(Case(function, shape, axis=axis) for function in FUNCTIONS for shape, axis in AXES),
]


@pytest.mark.parametrize("peer", peers.installed(), ids=lambda peer: peer.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_peer(measure: Measure, case: Case, peer: Peer) -> None:
    if case.dtype not in peer.dtypes:
        pytest.skip(f"{peer.name} has no {case.dtype}")
    measure(str(case), peer.prepare(case, case.data()))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_np_exp(measure: Measure, function: str) -> None:
    case = Case(function, SMALL)
    measure(str(case), Task(partial(np.exp, case.data())))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_np_copyto(measure: Measure, function: str) -> None:
    case = Case(function, LARGE)
    x = case.data()
    measure(str(case), Task(partial(np.copyto, np.ones_like(x), x)))

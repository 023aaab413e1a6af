"""Output arrays: a fresh one, one passed as ``out=``, or the input itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

import boltzmax
from boltzmax.cli.peers import Case, dims
from boltzmax.cli.timing import Task

if TYPE_CHECKING:
    from conftest import Measure

SHAPES = ((10,), (64, 1000), (256, 32000), (512, 32000))


@pytest.mark.parametrize("output", ["fresh", "out", "in place"])
@pytest.mark.parametrize("shape", SHAPES, ids=dims)
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_output(measure: Measure, function: str, shape: tuple[int, ...], output: str) -> None:
    case = Case(function, shape)
    x = case.data()
    out = {"fresh": None, "out": x.copy(), "in place": x}[output]
    call = partial(getattr(boltzmax, function), x, out=out)
    measure(str(case), Task(call, partial(boltzmax.set_num_threads, 1)))

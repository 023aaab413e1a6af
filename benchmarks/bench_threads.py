"""One thread and two: many rows, one long row, and arrays too small for threads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

import boltzmax
from boltzmax.cli.peers import FUNCTIONS, dims
from boltzmax.cli.timing import Task

if TYPE_CHECKING:
    from conftest import Measure

SHAPES = ((10,), (8, 100), (64, 1000), (256, 32000), (10_000_000,))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=dims)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_threads(measure: Measure, function: str, shape: tuple[int, ...], threads: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    out = None if function == "logsumexp" else np.ones_like(x)
    call = partial(getattr(boltzmax, function), x, out=out)
    measure(f"{function} {dims(shape)}", Task(call, partial(boltzmax.set_num_threads, threads)))

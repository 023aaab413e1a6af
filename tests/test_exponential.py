"""The worst error of the vector exponential: a sample of all floats, and the documented numbers.

For all floats: ``python tests/exponential.py``, or ``python -m pytest tests/test_exponential.py
--all-floats``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import boltzmax
import exponential
import oracle
import ulp

ROOT = Path(__file__).parent.parent


def needs_reference(name: str) -> None:
    if name == "float64" and not oracle.LONGDOUBLE_IS_WIDER:
        pytest.skip("long double is no wider than float64 here")


@pytest.mark.parametrize("name", exponential.WORST)
def test_sample(isa: str, name: str, request: pytest.FixtureRequest) -> None:
    """No error of the sample exceeds the known worst; NaN, -inf and -0 are correct."""
    needs_reference(name)
    everything = request.config.getoption("--all-floats")
    numbers = exponential.numbers(name, 1 if everything else 4099 if name == "float32" else 128)
    worst, _ = exponential.measure(numbers, [isa])
    known, at = exponential.WORST[name][exponential.arithmetic(isa)]
    assert worst[isa].error <= known, f"{worst[isa].error:.4f} ULP at {worst[isa].at.hex()}"
    if everything and name == "float32":
        assert worst[isa].at == at


@pytest.mark.parametrize("name", exponential.WORST)
def test_worst_inputs(isa: str, name: str) -> None:
    """The documented error is reached at its input, so it is not just a bound."""
    needs_reference(name)
    known, at = exponential.WORST[name][exponential.arithmetic(isa)]
    worst, _ = exponential.measure([np.full(40, at, name)], [isa])
    assert known - 1e-4 <= worst[isa].error <= known


def test_special_values(isa: str) -> None:
    for name in exponential.WORST:
        y = np.array([-0.0, -np.inf, np.nan, -1e4, -5e-324], name)
        assert exponential.exponential(y)[[0, 1, 3, 4]].tolist() == [1, 0, 0, 1]
        assert np.isnan(exponential.exponential(y)[2])


@pytest.mark.parametrize("name", ulp.HALF)
def test_every_half(isa: str, name: str) -> None:
    """16-bit results are within 0.55 ULP of the exact ones, in rows (x, 0) for all x <= 0."""
    dtype = ulp.dtype_of(name)
    x = np.arange(1 << 15, 1 << 16, dtype=np.uint16).view(dtype)
    rows = np.zeros((x.size, 2), dtype)
    rows[:, 0] = x
    with np.errstate(all="ignore"):
        below = np.exp(x.astype(np.float64))
        exact = {
            "softmax": below / (1 + below),
            "log_softmax": x.astype(np.float64) - np.log1p(below),
        }
        for op, value in exact.items():
            got = getattr(boltzmax, op)(rows)[:, 0].astype(np.float64)
            finite = np.isfinite(value)
            error = np.abs(got - value)[finite] / ulp.ulp(value[finite], dtype)
            assert error.max() <= 0.55, op
            np.testing.assert_array_equal(got[~finite], value[~finite])


def worst_in(text: str) -> list[tuple[float, float]]:
    """Every "<number> ULP at <hexadecimal float>" of a text."""
    plain = re.sub(r"\n//|\s+|`", " ", text)
    found = re.findall(r"(\d\.\d+) ULP at +(-0x1\.\w+p[+-]\d+)", re.sub(" +", " ", plain))
    return [(float(error), float.fromhex(at)) for error, at in found]


@pytest.mark.parametrize("page", ["docs/concepts/accuracy.md", "cpp/kernels/math/exp.hpp"])
def test_documented_errors_are_current(page: str) -> None:
    """The page has all of the numbers, and no others."""
    path = ROOT / page
    if not path.exists():
        pytest.skip("the sources are not here")
    known = {pair for name in exponential.WORST for pair in exponential.WORST[name].values()}
    written = worst_in(path.read_text(encoding="utf-8"))
    assert sorted(set(written)) == sorted(known)

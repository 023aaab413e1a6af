"""Instruction sets: their names, the one in use, and how to select another."""

from __future__ import annotations

import pytest

import boltzmax
import boltzmax.testing
from conftest import RunPython


def test_isa_names() -> None:
    assert boltzmax.isa() in boltzmax.available_isas()
    assert "scalar" in boltzmax.available_isas()
    assert set(boltzmax.available_isas()) <= {"scalar", "avx2", "avx512", "neon"}
    assert len(set(boltzmax.available_isas())) == len(boltzmax.available_isas())


def test_use_isa() -> None:
    before = boltzmax.isa()
    for name in boltzmax.available_isas():
        with boltzmax.testing.use_isa(name):
            assert boltzmax.isa() == name
        assert boltzmax.isa() == before
    with pytest.raises(RuntimeError, match="inside"), boltzmax.testing.use_isa("scalar"):
        raise RuntimeError("inside")
    assert boltzmax.isa() == before
    with pytest.raises(ValueError, match="scalar") as error, boltzmax.testing.use_isa("sse9"):
        pass
    assert "sse9" in str(error.value)


@pytest.mark.parametrize("name", boltzmax.available_isas())
def test_isa_from_the_environment(run_python: RunPython, name: str) -> None:
    code = "import boltzmax as b; print(b.isa(), b.softmax([1.0, 2.0, 3.0]).tobytes().hex())"
    done = run_python(code, env={"BOLTZMAX_ISA": name})
    assert done.returncode == 0, done.stderr
    with boltzmax.testing.use_isa(name):
        assert done.stdout.split() == [name, boltzmax.softmax([1.0, 2.0, 3.0]).tobytes().hex()]


@pytest.mark.parametrize("name", ["sse9", "AVX2 ", "neon,scalar", "none"])
def test_unknown_isa_is_an_error_that_lists_the_valid_ones(
    run_python: RunPython, name: str
) -> None:
    done = run_python("import boltzmax", env={"BOLTZMAX_ISA": name})
    assert done.returncode == 1, "an exception, not a crash"
    last = done.stderr.strip().splitlines()[-1]
    assert "BOLTZMAX_ISA" in last
    assert name in last
    assert all(valid in last for valid in boltzmax.available_isas())


def test_isa_that_this_machine_lacks(run_python: RunPython) -> None:
    missing = [name for name in ("avx512", "neon", "avx2") if name not in boltzmax.available_isas()]
    for name in missing:
        done = run_python("import boltzmax", env={"BOLTZMAX_ISA": name})
        assert done.returncode == 1
        assert name in done.stderr
        with pytest.raises(ValueError, match=name), boltzmax.testing.use_isa(name):
            pass


def test_fastest_isa_is_the_default(run_python: RunPython) -> None:
    done = run_python("import boltzmax; print(boltzmax.isa())")
    order = ["scalar", "neon", "avx2", "avx512"]
    assert done.stdout.strip() == max(boltzmax.available_isas(), key=order.index)

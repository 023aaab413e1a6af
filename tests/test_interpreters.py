"""Sub-interpreters: the package works in them or raises an ImportError; nothing crashes."""

from __future__ import annotations

import sys

import pytest

from conftest import RunPython

HERE = """
import sys, warnings
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

USE = '''
import warnings
warnings.simplefilter("ignore")  # NumPy's, about itself
try:
    import boltzmax
except ImportError:
    print("refuses", flush=True)
else:
    import numpy
    assert boltzmax.softmax([0.0, 0.0]).tolist() == [0.5, 0.5]
    large = numpy.zeros((300, 20_000), numpy.float32)
    for _ in range(3):
        assert (boltzmax.softmax(large) == numpy.float32(1 / 20_000)).all()
    print("works", flush=True)
'''

def in_another():
    other = interpreters.create()
    if hasattr(interpreters, "exec"):
        failure = interpreters.exec(other, USE)
        assert failure is None, failure
    else:
        interpreters.run_string(other, USE)
    interpreters.destroy(other)

def in_this():
    exec(USE, {"__name__": "__main__"})
"""
ORDERS = {
    "first here": "in_this(); in_another(); in_this()",
    "first there": "in_another(); in_this(); in_another()",
    "several": "in_this(); in_another(); in_another(); in_another(); in_this()",
    "never here": "in_another(); in_another()",
}


@pytest.mark.parametrize("order", ORDERS)
def test_import_in_a_sub_interpreter(run_python: RunPython, order: str) -> None:
    if sys.implementation.name != "cpython":
        pytest.skip("only CPython has sub-interpreters")
    done = run_python(HERE + ORDERS[order])
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    said, calls = done.stdout.split(), ORDERS[order].split(";")
    assert len(said) == len(calls)
    assert said == ["works" if "this" in call else "refuses" for call in calls]

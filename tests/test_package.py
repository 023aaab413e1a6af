"""The package's metadata and contents."""

from __future__ import annotations

import copy
import pickle
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
from conftest import RunPython

FUNCTIONS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "softmax_backward",
    "log_softmax_backward",
    "set_num_threads",
    "get_num_threads",
    "isa",
    "available_isas",
    "show_config",
    "get_include",
    "get_cmake_dir",
    "config",
)


def test_config() -> None:
    config: dict[str, Any] = boltzmax.config()
    assert set(config) >= {
        "version",
        "isa",
        "available_isas",
        "num_threads",
        "cpu",
        "compiler",
        "cuda",
        "numpy",
    }
    assert config["version"] == boltzmax.__version__
    assert config["isa"] == boltzmax.isa()
    assert list(config["available_isas"]) == list(boltzmax.available_isas())
    assert config["num_threads"] == boltzmax.get_num_threads()
    assert config["numpy"] == np.__version__
    assert isinstance(config["cuda"], bool)
    assert config["cpu"]
    assert config["compiler"]


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    boltzmax.show_config()
    shown = capsys.readouterr().out
    config = boltzmax.config()
    for key in ("version", "isa", "cpu", "compiler"):
        assert str(config[key]) in shown


def test_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", boltzmax.__version__)


def test_types_are_shipped() -> None:
    assert (Path(boltzmax.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("language", ["c", "c++"])
def test_headers_compile_alone(language: str, tmp_path: Path) -> None:
    """As C99 and as C++17, each separately, without warnings."""
    compiler = shutil.which("cc" if language == "c" else "c++")
    if compiler is None:
        pytest.skip("no compiler on the path")
    folder = Path(boltzmax.get_include())
    headers = sorted(folder.rglob("*.h"))
    assert headers, f"no headers under {folder}"
    standard = "-std=c99" if language == "c" else "-std=c++17"
    for header in headers:
        source = tmp_path / ("alone.c" if language == "c" else "alone.cpp")
        name = header.relative_to(folder).as_posix()
        # Twice, to test the include guards.
        source.write_text(f'#include "{name}"\n#include "{name}"\nint main(void) {{ return 0; }}\n')
        command = [compiler, standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
        done = subprocess.run(
            [*command, f"-I{folder}", str(source)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_can_be_sent_to_other_processes(name: str) -> None:
    function = getattr(boltzmax, name)
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function
    assert function.__name__ == name
    assert function.__module__.split(".")[0] == "boltzmax"


def test_import_needs_only_numpy(run_python: RunPython) -> None:
    """The import loads neither SciPy nor a framework, even if they are installed."""
    code = """
import sys
import numpy
before = set(sys.modules)
import boltzmax, boltzmax.special
boltzmax.softmax([1.0, 2.0]); boltzmax.logsumexp([1.0, 2.0])
print(*sorted({m.partition(".")[0] for m in set(sys.modules) - before}))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    heavy = {"scipy", "torch", "sklearn", "matplotlib", "rich", "tqdm", "ml_dtypes", "onnxruntime"}
    heavy |= {"jax", "jaxlib", "keras", "tensorflow"}
    assert not heavy & set(done.stdout.split())


def test_import_loads_no_modules_that_few_calls_need(run_python: RunPython) -> None:
    """Each of these would take more than a millisecond."""
    code = """
import sys
import numpy
before = set(sys.modules)
import boltzmax
print(*sorted(set(sys.modules) - before))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    rare = {"argparse", "ast", "ctypes", "hashlib", "importlib.metadata", "inspect", "json"}
    rare |= {"pathlib", "secrets", "tempfile", "threading", "urllib.parse", "zipfile"}
    assert not rare & set(done.stdout.split())


def test_bfloat16_works_when_ml_dtypes_comes_later(run_python: RunPython) -> None:
    """ml_dtypes imported after the package, and after its first calls."""
    pytest.importorskip("ml_dtypes")
    code = """
import numpy as np, boltzmax
boltzmax.softmax(np.ones(3, np.float32))
import ml_dtypes
y = boltzmax.softmax(np.ones(4, ml_dtypes.bfloat16))
assert y.dtype == ml_dtypes.bfloat16 and (y.astype(float) == 0.25).all()
s = boltzmax.logsumexp(np.zeros(1, ml_dtypes.bfloat16))
assert isinstance(s, ml_dtypes.bfloat16)
print("done")
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"]

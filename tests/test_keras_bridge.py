"""The Keras layer on each backend, and TensorFlow, each in its own process."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from conftest import RunPython

# Its import would need its default backend, TensorFlow.
if importlib.util.find_spec("keras") is None:
    pytest.skip("no Keras", allow_module_level=True)

CHECKS = Path(__file__).parent / "keras_checks.py"


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_layer(backend: str, run_python: RunPython, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    env = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = run_python(CHECKS, str(tmp_path), env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == [backend, "passed"]


def test_without_keras_the_import_says_what_to_install(run_python: RunPython) -> None:
    done = run_python("import sys; sys.modules['keras'] = None\nimport boltzmax.keras")
    assert "ImportError: boltzmax.keras needs Keras 3 with its JAX or PyTorch" in done.stderr


def test_tensorflow(run_python: RunPython) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("no TensorFlow")
    env = {"PYTHONWARNINGS": "default", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = run_python(CHECKS.with_name("tensorflow_checks.py"), env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("passed\n")

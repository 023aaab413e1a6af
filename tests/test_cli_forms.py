"""The command line: other forms of softmax in ``apply``, and completion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax.cli import main
from conftest import Fail, RunPython


@pytest.mark.parametrize(
    ("op", "given"),
    [
        *((op, {}) for op in ("sparsemax", "entmax15", "sigsoftmax", "spherical_softmax")),
        *((op, {}) for op in ("log_sigsoftmax", "log_taylor_softmax", "logcumsumexp")),
        ("entmax", {"alpha": 1.3}),
        ("taylor_softmax", {"order": 4, "temperature": 2.0}),
        ("windowed_softmax", {"window": 5}),
        ("windowed_logsumexp", {"window": 4}),
        ("gumbel_softmax", {"rng": 7, "temperature": 0.5}),
    ],
)
@pytest.mark.parametrize("axis", [-1, 0])
def test_apply_of_other_forms(folder: Path, op: str, given: dict[str, Any], axis: int) -> None:
    x = np.random.default_rng(3).normal(size=(40, 6, 9)).astype(np.float32)
    np.save("x.npy", x)
    names = {"rng": "seed"}
    options = [f"--{names.get(name, name)}={value}" for name, value in given.items()]
    argv = ["apply", op, "x.npy", "y.npy", f"--axis={axis}", "--block-mb=0.001", *options]
    assert main(argv) == 0
    want = getattr(boltzmax, op)(x, axis=axis, **given)
    assert (np.load("y.npy") == want).all()


def test_apply_refuses_options_of_others(folder: Path, failure: Fail) -> None:
    np.save("x.npy", np.zeros((2, 3)))
    assert "--alpha does not go with sparsemax" in failure(
        "apply", "sparsemax", "x.npy", "y.npy", "--alpha=2"
    )
    assert "--temperature does not go with logcumsumexp" in failure(
        "apply", "logcumsumexp", "x.npy", "y.npy", "--temperature=2"
    )
    assert "windowed_softmax needs --window" in failure(
        "apply", "windowed_softmax", "x.npy", "y.npy"
    )
    assert "gumbel_softmax needs --seed" in failure("apply", "gumbel_softmax", "x.npy", "y.npy")
    np.save("x.npy", np.asfortranarray(np.zeros((2, 3))))
    assert "C order" in failure("apply", "gumbel_softmax", "x.npy", "y.npy", "--seed=1")
    assert not Path("y.npy").exists()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("boltzmax ap", {"apply"}),
        ("boltzmax apply soft", {"softmax"}),
        ("boltzmax info --x", set()),
    ],
)
def test_the_shell_completes(
    line: str, wanted: set[str], run_python: RunPython, tmp_path: Path
) -> None:
    pytest.importorskip("argcomplete")
    found = tmp_path / "completions"
    done = run_python(
        "from boltzmax.cli import main; main()",
        env={
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(found),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
        },
    )
    assert done.returncode == 0, done.stderr
    assert {word.strip() for word in found.read_text().split("\n") if word.strip()} == wanted

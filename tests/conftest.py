"""Fixtures that the tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import boltzmax
import boltzmax.testing
import fuzzing
import ulp
from boltzmax.cli import main
from linear_samples import TILES, use_tiles

fuzzing.register_profiles()

RunPython = Callable[..., subprocess.CompletedProcess[str]]
Fail = Callable[..., str]
Array = np.ndarray[Any, Any]
Split = tuple[Array, Array, Array, Array]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-floats",
        action="store_true",
        help="check the exponential on every non-positive float32 instead of on a sample (minutes)",
    )
    parser.addoption(
        "--library-prefix",
        help="where `cmake --install` has put the library for programs without Python",
    )
    parser.addoption(
        "--objects",
        type=Path,
        metavar="FOLDER",
        help="look for the object files of the kernels there, and require them (default: build/)",
    )
    parser.addoption(
        "--one-in",
        type=int,
        default=1,
        metavar="N",
        help="run one in N of the cases of each test, and always the same ones",
    )


@pytest.hookimpl(trylast=True)  # of what -k has left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out cases for `--one-in`, by a hash of their names, but no test altogether."""
    n = config.getoption("--one-in")
    kept, left_out = [], []
    seen: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        first = test not in seen
        seen.add(test)
        kept_by_hash = zlib.crc32(item.nodeid.encode()) % n == 0
        (kept if first or kept_by_hash else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_report_header(config: pytest.Config) -> str:
    isas = ", ".join(boltzmax.available_isas())
    return f"boltzmax {boltzmax.__version__}: {isas}; {boltzmax.get_num_threads()} threads"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if fuzzing.seen:
        each = ", ".join(f"{name} {count:,}" for name, count in sorted(fuzzing.seen.items()))
        terminalreporter.write_line(f"inputs seen by fuzzing: {fuzzing.seen.total():,} ({each})")


@pytest.fixture(params=tuple(boltzmax.available_isas()))
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with each instruction set that this machine has."""
    with boltzmax.testing.use_isa(request.param):
        yield request.param


@pytest.fixture(params=ulp.DTYPES)
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    """Every native dtype, and bfloat16 if ml_dtypes is installed."""
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return ulp.dtype_of(request.param)


@pytest.fixture
def strict() -> Iterator[None]:
    """Any warning, and any floating-point error that NumPy detects, is a failure."""
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        yield


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """`boltzmax.set_num_threads`, restored at the end of the test."""
    before = boltzmax.get_num_threads()
    yield boltzmax.set_num_threads
    boltzmax.set_num_threads(before)


@cache
def _interpreter_starts() -> bool:
    """Whether Python can start Python; under emulation it cannot, or not on the same processor."""
    code = "import boltzmax; print(*boltzmax.available_isas())"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode != 0 or done.stdout.split() == list(boltzmax.available_isas())


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run a script (a path, or code) in a fresh interpreter.

    The environment is that of the tests without the package's variables, plus `env`.
    """
    if not _interpreter_starts():
        pytest.skip("a process of this interpreter would not run on the processor emulated here")

    def run(
        script: str | Path,
        *args: str,
        env: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        command = [str(script)] if isinstance(script, Path) else ["-c", script]
        ours = ("BOLTZMAX_ISA", "BOLTZMAX_NUM_THREADS", "OMP_NUM_THREADS")
        environment = {k: v for k, v in os.environ.items() if k not in ours}
        return subprocess.run(
            [sys.executable, "-W", "error", *command, *args],
            env=environment | (env or {}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(params=TILES, ids=str)
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the logits of linear layers into tiles of several sizes."""
    use_tiles(request.param, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str]) -> Fail:
    """Return a function that runs a command which must fail, and returns its one-line message."""

    def run(*argv: str) -> str:
        assert main(argv) == 2
        output = capsys.readouterr()
        assert output.err.count("\n") == 1
        assert output.err.startswith("python -m boltzmax: error: ")
        return output.err.strip()

    return run


# ---- data sets for classifiers


def halves(load: Callable[..., Any]) -> Split:
    """Return the samples to train on and those to test on, then the classes of both."""
    from sklearn.model_selection import train_test_split

    x, y = load(return_X_y=True)
    found = train_test_split(x, y, test_size=0.5, random_state=0, stratify=y)
    return found[0], found[1], found[2], found[3]


@pytest.fixture(scope="session")
def iris() -> Split:
    """Three kinds of flowers, by four lengths."""
    return halves(pytest.importorskip("sklearn.datasets").load_iris)


@pytest.fixture(scope="session")
def digits() -> Split:
    """Ten digits, by eight times eight pixels."""
    return halves(pytest.importorskip("sklearn.datasets").load_digits)


@pytest.fixture(scope="session")
def overlapping() -> tuple[Array, Array]:
    """Three features, and four classes that these do not tell apart for certain."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    return x, (x @ rng.normal(size=(3, 4)) + rng.gumbel(size=(200, 4))).argmax(axis=1)

"""The command line: its output, its files, and what remains after a failure."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax.cli import main, make_parser
from boltzmax.cli.apply import blocks
from boltzmax.cli.arguments import PROGRAM
from conftest import Fail

Spawn = Callable[..., subprocess.Popen[str]]

HEADER = b"\x93NUMPY\x01\x00\x10\x00"  # of 16 characters
OPERATIONS = ("softmax", "log_softmax", "logsumexp")
KINDS = ("float16", "float32", "float64", "int32")


def scores(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    return (5 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- apply ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["-1", "0", "1", "0,2", "none"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", OPERATIONS)
def test_apply_equals_one_call(folder: Path, op: str, kind: str, axis: str) -> None:
    x = scores(6, 20, 70, dtype=kind)
    np.save("x.npy", x)
    assert main(["apply", op, "x.npy", "y.npy", f"--axis={axis}", "--block-mb", "0.01"]) == 0
    axes = None if axis == "none" else tuple(int(a) for a in axis.split(","))
    expected = getattr(boltzmax, op)(x, axes)
    y = np.load("y.npy")
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)
    assert names(folder) == ["x.npy", "y.npy"]


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("shape", [(), (7,), (1, 1), (0,), (3, 0), (0, 3)])
def test_apply_takes_any_shape(folder: Path, op: str, shape: tuple[int, ...]) -> None:
    x = scores(*shape)
    np.save("x.npy", x)
    assert main(["apply", op, "x.npy", "y.npy"]) == 0
    np.testing.assert_array_equal(np.load("y.npy"), getattr(boltzmax, op)(x))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("op", OPERATIONS)
def test_apply_keeps_fortran_order(folder: Path, op: str, axis: int) -> None:
    x = np.asfortranarray(scores(30, 40, 50))
    np.save("x.npy", x)
    assert main(["apply", op, "x.npy", "y.npy", f"--axis={axis}", "--block-mb", "0"]) == 0
    y = np.load("y.npy")
    assert y.flags.f_contiguous
    np.testing.assert_array_equal(y, getattr(boltzmax, op)(x, axis))


def test_apply_passes_the_options_on(folder: Path) -> None:
    x = scores(40, 30)
    np.save("x.npy", x)
    options = ["--temperature", "2.5", "--dtype", "float64"]
    assert main(["apply", "log_softmax", "x.npy", "y.npy", *options]) == 0
    expected = boltzmax.log_softmax(x, temperature=2.5, dtype="float64")
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_apply_at_temperature_0(folder: Path) -> None:
    np.save("x.npy", np.array([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]]))
    argv = ["apply", "softmax", "x.npy", "y.npy", "--temperature=0", "--block-mb=0"]
    assert main(argv) == 0
    np.testing.assert_array_equal(np.load("y.npy"), [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])


def test_apply_reads_the_other_byte_order(folder: Path) -> None:
    x = scores(40, 30)
    np.save("x.npy", x.astype(">f4"))
    assert main(["apply", "softmax", "x.npy", "y.npy"]) == 0
    np.testing.assert_array_equal(np.load("y.npy"), boltzmax.softmax(x))


def test_apply_can_replace_its_input(folder: Path) -> None:
    x = scores(40, 30)
    np.save("x.npy", x)
    assert main(["apply", "softmax", "x.npy", "x.npy"]) == 0
    np.testing.assert_array_equal(np.load("x.npy"), boltzmax.softmax(x))
    assert names(folder) == ["x.npy"]


def test_apply_keeps_a_symbolic_link(folder: Path) -> None:
    np.save("x.npy", scores(4, 3))
    Path("link.npy").symlink_to("y.npy")
    assert main(["apply", "softmax", "x.npy", "link.npy"]) == 0
    assert Path("link.npy").is_symlink()
    assert names(folder) == ["link.npy", "x.npy", "y.npy"]


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("shape", [(4_000_000,), (2000, 2000)], ids=["one row", "rows"])
def test_apply_does_not_load_the_file(folder: Path, op: str, shape: tuple[int, ...]) -> None:
    np.save("x.npy", scores(*shape))
    tracemalloc.start()
    try:
        assert main(["apply", op, "x.npy", "y.npy", "--block-mb", "1"]) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < Path("x.npy").stat().st_size / 4


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("reduced", [(), (0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("block_bytes", [0, 5000, 100_000, 10**9])
def test_blocks_cover_everything_once(
    order: Any, reduced: tuple[int, ...], block_bytes: int
) -> None:
    x = np.zeros((7, 30, 250), np.float32, order)
    for index in blocks(x, reduced, block_bytes):
        x[index] += 1
        assert all(x[index].shape[axis] == x.shape[axis] for axis in reduced)
    assert np.all(x == 1)


def test_block_sizes() -> None:
    x = np.zeros((100, 10_000), np.float32)
    sizes = [x[index].nbytes for index in blocks(x, (1,), 200_000)]
    assert sizes == [200_000] * 20


def test_apply_errors(folder: Path, failure: Fail) -> None:
    np.save("x.npy", scores(4, 3))
    assert "No such file" in failure("apply", "softmax", "missing.npy", "y.npy")
    assert "no such directory: nowhere" in failure("apply", "softmax", "x.npy", "nowhere/y.npy")
    assert "axis 2 is out of bounds" in failure("apply", "softmax", "x.npy", "y.npy", "--axis=2")
    assert "emperature" in failure("apply", "softmax", "x.npy", "y.npy", "--temperature=-1")
    Path("directory").mkdir()
    assert "not a regular file" in failure("apply", "softmax", "x.npy", "directory")
    assert names(folder) == ["directory", "x.npy"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a", "b"]), "<U1"),
        (np.array([None, 1]), "objects"),
        (np.zeros(3, [("a", "f4"), ("b", "i4")]), "a"),
        (np.zeros(3, "M8[s]"), "datetime64"),
    ],
    ids=["strings", "objects", "records", "dates"],
)
def test_apply_refuses_other_dtypes(
    folder: Path, failure: Fail, array: np.ndarray[Any, Any], message: str
) -> None:
    np.save("x.npy", array)
    assert message in failure("apply", "softmax", "x.npy", "y.npy")
    assert names(folder) == ["x.npy"]


@pytest.mark.parametrize("content", [b"", b"not an array", HEADER + b"{'descr" + 9 * b"{"])
def test_apply_refuses_other_files(folder: Path, failure: Fail, content: bytes) -> None:
    Path("x.npy").write_bytes(content)
    assert "x.npy: " in failure("apply", "softmax", "x.npy", "y.npy")


def test_apply_refuses_a_truncated_file(folder: Path, failure: Fail) -> None:
    np.save("x.npy", scores(100, 100))
    content = Path("x.npy").read_bytes()
    Path("x.npy").write_bytes(content[: len(content) // 2])
    assert "x.npy: " in failure("apply", "softmax", "x.npy", "y.npy")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError("disk full")])
def test_a_failed_run_leaves_no_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    np.save("x.npy", scores(4, 3))
    Path("y.npy").write_text("the old file")
    calls = iter([np.float32(0)])  # the first call, for the dtype, succeeds

    def fail(x: Any, **options: Any) -> Any:
        for answer in calls:
            return answer
        raise error

    monkeypatch.setattr(boltzmax._core, "softmax", fail)
    if error is MemoryError:
        with pytest.raises(MemoryError):
            main(["apply", "softmax", "x.npy", "y.npy"])
    else:
        assert main(["apply", "softmax", "x.npy", "y.npy"]) != 0
    assert names(folder) == ["x.npy", "y.npy"]
    assert Path("y.npy").read_text() == "the old file"


@pytest.fixture
def spawn(run_python: object) -> Spawn:
    """Return a function that starts ``python -m boltzmax``, skipping as `run_python` does."""

    def start(*argv: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "boltzmax", *argv]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_killed_run_leaves_no_output(folder: Path, spawn: Spawn, name: str) -> None:
    np.lib.format.open_memmap("x.npy", "w+", np.float32, (100_000, 1024)).flush()  # 400 MB, sparse
    run = spawn("apply", "softmax", "x.npy", "y.npy", "--block-mb", "0")
    while run.poll() is None and not list(folder.glob(".boltzmax-*")):
        time.sleep(0.001)
    run.send_signal(getattr(signal, name))
    _, errors = run.communicate()
    assert run.returncode == {"SIGTERM": 143, "SIGKILL": -9}[name]
    assert "Traceback" not in errors
    left = [path for path in names(folder) if path != "x.npy"]
    for path in left:
        Path(path).unlink()
    assert "y.npy" not in left
    assert not left or name == "SIGKILL"


# --- the other commands --------------------------------------------------------------------------


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["boltzmax"] == boltzmax.__version__
    assert facts["CUDA"] in ("yes", "no")


def test_runs_as_a_module(spawn: Spawn) -> None:
    output, errors = spawn("info").communicate()
    assert "ISA in use" in output
    assert errors == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["dance"], "invalid choice"),
        (["bench", "--shapes", "64xy"], "invalid shape list value: '64xy'"),
        (["bench", "--threads", "0"], "invalid integer of at least 1 list value: '0'"),
        (["bench", "--dtypes", "float32,int8"], "'int8' is not one of float32"),
        (["bench", "--functions", "tanh"], "'tanh' is not one of softmax"),
        (["bench", "--plot", "figure.doc"], "not one of .png"),
        (["apply", "tanh", "x.npy", "y.npy"], "invalid choice: 'tanh'"),
        (["apply", "softmax", "x.npy", "y.npy", "--axis=a"], "invalid axis value: 'a'"),
        (["apply", "softmax", "x.npy", "y.npy", "--block-mb=nan"], "invalid megabytes value"),
    ],
)
def test_wrong_arguments(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_demo_learns(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    assert main(["demo", "--epochs", "20"]) == 0
    output = capsys.readouterr().out
    accuracy = [float(word.rstrip("%")) for word in output.split() if word.endswith("%")]
    assert accuracy[0] > 95  # train
    assert accuracy[1] > 93  # test


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ([], ["full", "tree"]),
        (["--layer", "full"], ["full"]),
        (["--layer", "tree"], ["tree"]),
        (["--output", "tree"], ["tree"]),
        (["--output", "full,adaptive,sampled"], ["full", "adaptive", "sampled"]),
        (["--layer", "both"], ["full", "tree"]),
    ],
)
def test_text_learns(
    options: list[str], layers: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a repetitive text the next word is certain, with any layer."""
    (folder / "text.txt").write_text("the cat sat on the mat . " * 200, encoding="utf-8")
    argv = ["text", "--file", "text.txt", "--epochs", "3", "--prompt", "Cat sat on"]
    assert main(argv + options) == 0
    output = capsys.readouterr().out
    assert "1,400 words, 7" in output
    for layer in ("full", "tree", "adaptive", "sampled"):
        _, *after = output.split(f"after 'Cat sat on', {layer} softmax:")
        assert len(after) == (layer in layers)
        for likeliest in (text.split() for text in after):
            assert likeliest[0] == "the"
            assert float(likeliest[1].rstrip("%")) > 90


# 'a' is followed by rare words only, which a vocabulary of 4 does not have.
MOSTLY_UNKNOWN = " ".join(f"a word{i} b a other{i} c" for i in range(200))


@pytest.mark.parametrize("layer", ["full", "tree", "adaptive"])
def test_text_writes(layer: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many words as asked for, never <unknown>, the same for the same seed."""
    (folder / "text.txt").write_text(MOSTLY_UNKNOWN, encoding="utf-8")
    argv = ["text", "--file", "text.txt", "--vocabulary", "4", "--epochs", "1", "--layer", layer]
    argv += ["--generate", "A word7", "--words", "30", "--temperature", "1.5", "--top-p", "0.95"]
    written = []
    for seed in ("1", "1", "2"):
        assert main([*argv, "--seed", seed]) == 0
        output = capsys.readouterr().out
        assert output.count(f"{layer} softmax:\n") == 1
        written.append(output.partition("softmax:\n")[2].split())
    assert all(words[:2] == ["a", "word7"] and len(words) == 32 for words in written)
    assert all(set(words[2:]) <= {"a", "b", "c"} for words in written)
    assert written[0] == written[1] != written[2]


def test_text_writes_marks_after_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A likeliest word after the other, in a text where it is certain."""
    (folder / "text.txt").write_text("the cat sat on the mat . " * 200, encoding="utf-8")
    argv = ["text", "--file", "text.txt", "--layer", "full", "--generate", "cat sat on"]
    for options in (["--temperature", "0"], ["--top-k", "1"], ["--min-p", "1"]):
        assert main([*argv, *options, "--words", "7"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == "cat sat on the mat. the cat sat on"


def test_text_errors(folder: Path, failure: Fail) -> None:
    """Errors for a file that is missing, too short, or not text."""
    (folder / "short.txt").write_text("too short")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\xfa" * 100)
    assert "missing.txt" in failure("text", "--file", "missing.txt")
    assert "too short" in failure("text", "--file", "short.txt")
    assert "not UTF-8" in failure("text", "--file", "bytes.txt")
    assert "--vocabulary" in failure("text", "--vocabulary", "1")
    assert "temperature must be 0, or from" in failure("text", "--temperature", "-1")


def test_demo_says_what_to_install(failure: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert failure("demo").endswith('sklearn is missing: pip install "boltzmax[demo]"')


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["text"], ["bench"], ["info"], ["apply"], ["report"], ["quantize"]]
)
def test_help_ends_with_examples_that_parse(
    command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    _, examples = capsys.readouterr().out.split("examples:\n")
    lines = [line.strip() for line in examples.splitlines() if line.startswith("  ")]
    assert lines
    for line in lines:
        program, arguments = line[: len(PROGRAM)], line[len(PROGRAM) :]
        assert program == PROGRAM
        argv = shlex.split(arguments)
        assert argv[: len(command)] == command
        make_parser().parse_args(argv)


@pytest.mark.parametrize(
    "argv",
    [
        *("text --seed -1", "text --epochs -1", "text --top-k 0", "text --words 0"),
        *("demo --seed -3", "demo --epochs 0"),
    ],
)
def test_integers_out_of_range(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv.split())
    assert "invalid integer of at least" in capsys.readouterr().err


@pytest.mark.parametrize("argv", ["text --top-p 0", "text --top-p 1.5", "text --min-p nan"])
def test_shares_out_of_range(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv.split())
    assert "invalid number above 0 and at most 1" in capsys.readouterr().err

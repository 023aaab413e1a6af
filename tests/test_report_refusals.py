"""``python -m boltzmax report``: what it refuses, in which words; it leaves no file then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boltzmax.cli import main
from conftest import Fail
from report_samples import sample, write

Array = np.ndarray[Any, Any]

pytest.importorskip("matplotlib")


def test_mistakes_are_named(folder: Path, failure: Fail) -> None:
    z, y = sample(50)
    argv = write(z, y)
    np.save("short.npy", y[:9])
    np.save("high.npy", np.where(np.arange(50) == 3, 5, y))
    bad = z.copy()
    bad[[7, 9], [0, 4]] = np.nan
    np.save("bad.npy", bad)
    np.save("cube.npy", np.zeros((2, 2, 2)))
    np.save("words.npy", np.array(["a"]))
    np.save("one.npy", z[:1])
    Path("three.txt").write_text("a\nb\nc\n")
    Path("same.txt").write_text("a\n" * 5)
    Path("binary.txt").write_bytes(b"\xff\xfe")

    def message(*arguments: str) -> str:
        return failure("report", *arguments)

    assert "(50,)" in message("z.npy", "short.npy")
    assert "5" in (text := message("z.npy", "high.npy"))
    assert "3" in text
    text = message("bad.npy", "y.npy")
    assert "bad.npy, y.npy: " in text
    assert "no NaN" in text
    assert "2 rows have not, the first is row 7" in text
    assert "got shape (2, 2, 2)" in message("cube.npy", "y.npy")
    assert "<U1" in message("words.npy", "y.npy")
    assert "at least 2 rows" in message("one.npy", "y.npy")
    assert "No such file" in message("missing.npy", "y.npy")
    assert "LABELS.npy is missing" in message("z.npy")
    assert "three.txt has 3 lines, but there are 5 classes" in message(
        *argv[1:], "--classes", "three.txt"
    )
    assert "same.txt: " in message(*argv[1:], "--tree", "same.txt")
    assert "not UTF-8" in message(*argv[1:], "--classes", "binary.txt")
    assert "no such directory" in message(*argv[1:], "--out", "no/where")
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros(8), "y must be integers of shape (8,), got float64"),
        (np.zeros(8, bool), "got bool"),
        (np.zeros((8, 1), int), "got shape (8, 1)"),
        (np.array(["0"] * 8), "got <U1"),
        (np.array([0] * 7 + [-1]), "y -1 at position 7 is out of range for 3 classes"),
        (np.array([0] * 7 + [2**62]), "is out of range"),
        (np.array([0] * 7 + [2**64 - 1], np.uint64), "18446744073709551615 at position 7"),
        (np.zeros(16, int), "got shape (16,)"),
        (np.zeros(0, int), "got shape (0,)"),
        (np.array([0] * 8, object), "Python objects"),
    ],
)
def test_bad_labels(labels: Array, words: str, folder: Path, failure: Fail) -> None:
    np.save("z.npy", np.eye(8, 3))
    np.save("y.npy", labels, allow_pickle=True)
    assert words in failure("report", "z.npy", "y.npy")
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.zeros((0, 3)), "at least 2 rows"),
        (np.zeros((8, 0)), "got shape (8, 0)"),
        (np.float32(1), "got shape ()"),
        (np.zeros((8, 3), complex), "complex128"),
        (np.zeros((8, 3), "datetime64[s]"), "datetime64"),
        (np.full((8, 3), np.inf), "8 rows have not, the first is row 0"),
        (np.where(np.eye(8, 3) == 1, -np.inf, 0.0), "the label of row 0, has the logit -inf"),
    ],
)
def test_bad_logits(logits: Array, words: str, folder: Path, failure: Fail) -> None:
    np.save("z.npy", logits)
    np.save("y.npy", np.arange(8) % 3)
    assert words in failure("report", "z.npy", "y.npy")
    assert not Path("report.html").exists()


@pytest.mark.parametrize("cut", [0, 5, 40, 200])
def test_truncated_files(cut: int, folder: Path, failure: Fail) -> None:
    write(*sample(50))
    for name in "z.npy", "y.npy":
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[:cut])
        assert f"{name}: " in failure("report", "z.npy", "y.npy")
        Path(name).write_bytes(whole)
    assert not Path("report.html").exists()


def test_files_of_another_kind(folder: Path, failure: Fail) -> None:
    write(*sample(50))
    np.savez("z.npz", z=1)
    Path("folder").mkdir()
    assert "z.npz: the magic string is not correct" in failure("report", "z.npz", "y.npy")
    assert "directory" in failure("report", "folder", "y.npy")
    assert "directory" in failure("report", "z.npy", "y.npy", "--classes", "folder")


def test_results_that_cannot_be_written(folder: Path, failure: Fail) -> None:
    """It is an error before the work, and nothing is left."""
    argv = write(*sample(50))[1:]
    Path("file").write_text("mine")
    Path("folder").mkdir()
    before = sorted(folder.rglob("*"))
    assert "not a directory: file" in failure("report", *argv, "--out", "file")
    assert "a directory, not a file: folder" in failure("report", *argv, "--json", "folder")
    assert "no such directory: no" in failure("report", *argv, "--json", "no/file.json")
    assert sorted(folder.rglob("*")) == before
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("option", ["--risk=0", "--risk=1", "--alpha=nan", "--alpha=1.5"])
def test_shares_out_of_range(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["report", option])
    assert "invalid number between 0 and 1 value" in capsys.readouterr().err

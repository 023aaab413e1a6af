"""The command ``bench``: tables, files, figures, and the sweep over lengths of rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import boltzmax
from boltzmax.cli import bench, main, sweep, timing
from boltzmax.cli.timing import Task, interleave
from conftest import Fail

BENCH = ["bench", "--quick", "--functions", "softmax,logsumexp", "--shapes", "3x4"]


@pytest.mark.parametrize("rich", [True, False])
def test_bench_prints_a_table(
    rich: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    assert main(BENCH) == 0
    output = capsys.readouterr().out
    for word in ("softmax", "logsumexp", "3x4", "float32", "boltzmax", "numpy", "speed-up"):
        assert word in output


def test_bench_writes_json_and_restores_the_threads(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = boltzmax.get_num_threads()
    assert main([*BENCH, "--threads", "1,2", "--dtypes", "float64", "--json", "b.json"]) == 0
    assert boltzmax.get_num_threads() == threads
    capsys.readouterr()
    assert main([*BENCH, "--json", "-"]) == 0
    for text in Path("b.json").read_text(), capsys.readouterr().out:
        report = json.loads(text)
        ours, numpy = report["results"][:2]
        assert report["config"]["isa"] == boltzmax.config()["isa"]
        assert (ours["peer"], numpy["peer"]) == ("boltzmax", "numpy")
        assert ours["speedup"] == 1
        assert numpy["speedup"] == pytest.approx(numpy["seconds"] / ours["seconds"])
        assert ours["ns_per_element"] == pytest.approx(1e9 * ours["seconds"] / 12)


def test_bench_draws_a_figure(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main([*BENCH, "--plot", "figure.png"]) == 0
    assert Path("figure.png").read_bytes().startswith(b"\x89PNG")


SWEEP = ["bench", "--sweep", "--quick", "--functions", "softmax"]


def test_sweep_times_all_lengths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A curve for each library; the same output in a file and on standard output."""
    pytest.importorskip("matplotlib")
    argv = [*SWEEP, "--dtypes", "float32,float64", "--json", "sweep.json", "--plot", "sweep.png"]
    assert main(argv) == 0
    assert "softmax, float64: ns per row" in capsys.readouterr().out
    assert Path("sweep.png").read_bytes().startswith(b"\x89PNG")
    curves, found = sweep.read(Path("sweep.json"))
    assert found["config"]["version"] == boltzmax.__version__
    ours, numpy = curves[:2]
    assert (ours.peer, numpy.peer) == ("boltzmax", "numpy")
    assert {curve.dtype for curve in curves} == {"float32", "float64"}
    assert {curve.operation for curve in curves} == {"softmax"}
    for curve in curves:
        assert curve.n == sweep.lengths(few=True)
        assert all(0 < a <= b for a, b in zip(curve.least, curve.median, strict=True))
    assert ours.times[100] == ours.least[ours.n.index(100)]


def test_sweep_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["curves"][0]["peer"] == "boltzmax"


@pytest.mark.parametrize("options", [["--shapes", "3x4"], ["--threads", "2"]])
def test_sweep_chooses_its_cases(options: list[str], failure: Fail) -> None:
    assert "--sweep chooses the shapes" in failure(*SWEEP, *options)


def test_lengths_of_a_sweep() -> None:
    """All short ones, powers of two with their neighbours, and matrices that fit in the cache."""
    lengths = sweep.lengths(few=False)
    assert lengths[:40] == list(range(1, 41))
    assert {255, 256, 257, 4095, 4096} <= set(lengths)
    assert lengths == sorted(set(lengths))
    for rows, n in sweep.shapes(few=False):
        assert rows <= sweep.MOST_ROWS
        assert sweep.ELEMENTS <= rows * n < sweep.ELEMENTS + n or rows == sweep.MOST_ROWS


def test_bench_has_many_short_rows_among_its_shapes() -> None:
    assert (100_000, 10) in bench.SHAPES


def test_interleave_times_in_turns() -> None:
    calls: list[str] = []
    tasks = {name: Task(lambda name=name: calls.append(name)) for name in "ab"}  # type: ignore[misc]
    times = interleave(tasks, rounds=3, sample=1e-6)
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert all(np.all(values > 0) for values in times.values())
    assert {"a", "b"} == set(calls)


def test_least_of_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"a": np.array([3.0, 1.0, 2.0]), "b": np.array([5.0, 4.0, 6.0])}
    monkeypatch.setattr(timing, "interleave", lambda *_: measured)
    assert timing.least({}) == {"a": 1.0, "b": 4.0}

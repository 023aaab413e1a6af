"""The script that runs everything on a real device: its own logic, which needs no device."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)

sys.path.append(str(FOLDER))
script: Any = importlib.import_module("on_a_device")
goals = script.device_goals
parts: Any = importlib.import_module("device_parts")
tests: Any = importlib.import_module("device_tests")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_parts_that_fail_or_hang_do_not_hide_the_next(tmp_path: Path) -> None:
    """And each is in the files before the next begins."""

    def hangs(seconds: float) -> dict[str, Any]:
        # Its child would hold the log open for a minute.
        code = "import subprocess; print('begun', flush=True); subprocess.run(['sleep', '60'])"
        done = parts.run_command([sys.executable, "-c", code], seconds, tmp_path / "logs/hangs.log")
        assert (done.status, done.how, done.text) == (None, "out of time", "begun\n")
        return {"ok": False, "why": done.how}

    def fails(_: float) -> dict[str, Any]:
        assert [record["part"] for record in lines(tmp_path)] == ["hangs"]
        raise ValueError("no such thing")

    def works(_: float) -> dict[str, Any]:
        assert "fails (0.0 s): NOT OK" in (tmp_path / "summary.txt").read_text()
        return {"figure": 3}

    report = parts.Report(tmp_path, lambda records: script.summarize(tmp_path, records))
    begin = time.monotonic()
    chosen = [
        parts.Part("hangs", 0.5, hangs), parts.Part("fails", 9, fails),
        parts.Part("works", 9, works),
    ]  # fmt: skip
    assert not parts.run_parts(chosen, report, 60)
    assert time.monotonic() - begin < 30
    found = {record["part"]: record for record in lines(tmp_path)}
    assert [record["ok"] for record in found.values()] == [False, False, True]
    assert found["fails"]["why"] == "ValueError: no such thing"
    assert found["works"]["figure"] == 3


def test_no_part_begins_after_the_end(tmp_path: Path) -> None:
    report = parts.Report(tmp_path, lambda records: 1 / 0)
    limits: list[float] = []

    def note(seconds: float) -> dict[str, Any]:
        limits.append(seconds)
        return {}

    assert parts.run_parts([parts.Part("first", 99, note)], report, 60)
    assert limits[0] <= 60
    assert not parts.run_parts([parts.Part("late", 99, note)], report, parts.LEAST / 2)
    assert len(limits) == 1
    assert "not run" in lines(tmp_path)[-1]["why"]
    assert "ZeroDivisionError" in (tmp_path / "summary.txt").read_text()


def test_commands(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = parts.run_command([sys.executable, "-c", "print(1); raise SystemExit(3)"], 30, log)
    assert (first.status, first.how, first.text, first.is_good) == (3, "status 3", "1\n", False)
    missing = parts.run_command([tmp_path / "nothing"], 30, log)
    assert missing.status is None
    assert missing.end.startswith("not started")


# A process of tests that hung, one that crashed, and one in which a test broke CUDA.
HUNG = (
    "tests/test_a.py::test_x[1] PASSED [ 1%]\ntests/test_a.py::test_y[1 2-z] Timeout (0:00:45)!\n"
)
BROKEN = """
test_a.py::test_x PASSED [ 1%]
test_a.py::test_y[a] FAILED [ 2%]
test_a.py::test_z FAILED [ 3%]
RuntimeError: launching a kernel: an illegal memory access was encountered
FAILED test_a.py::test_y[a] - RuntimeError
"""


def test_tests_that_keep_others_from_running() -> None:
    def spoiler(status: int | None, text: str) -> str | None:
        found: str | None = tests.spoiler(parts.Outcome(status, 1.0, text))
        return found

    assert spoiler(None, HUNG) == spoiler(-11, HUNG) == "test_a.py::test_y[1 2-z]"
    assert spoiler(1, BROKEN) == "test_a.py::test_y[a]"
    assert spoiler(1, BROKEN.replace("illegal memory access", "wrong number")) is None
    assert spoiler(0, "test_a.py::test_x PASSED [ 1%]") is None


def test_tests_run_again_without_the_one_that_spoilt_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parts.Run(tmp_path, None, tmp_path)
    texts = [(None, HUNG), (1, "tests/test_a.py::test_w FAILED\n")]
    commands: list[list[str]] = []

    def command(log: str, seconds: float, *words: object) -> Any:
        commands.append([str(word) for word in words])
        return parts.Outcome(texts[len(commands) - 1][0], 1.0, texts[len(commands) - 1][1])

    monkeypatch.setattr(run, "command", command)
    record = tests.run_file(run, "test_a.py", 100.0)
    assert record["spoilers"] == ["test_a.py::test_y[1 2-z]"]
    left_out = [word for word in commands[1] if word.startswith("--deselect")]
    assert left_out == [f"--deselect=tests/test_a.py::test_{of}" for of in ("y[1 2-z]", "x[1]")]
    assert (record["passed"], record["wrong"]) == (
        1, ["test_a.py::test_y[1 2-z]", "test_a.py::test_w"],
    )  # fmt: skip


def test_names_of_files_and_tests_exist() -> None:
    for name in tests.TEST_FILES:
        assert (Path(__file__).parent / name).exists()
    for test in tests.SANITIZED:
        name, _, function = test.partition("[")[0].partition("::")
        text = (Path(__file__).parent / name).read_text(encoding="utf-8")
        assert re.search(rf"^def {function}\(", text, re.M), test


def test_goals() -> None:
    cases = list(goals.cases_with_goals())
    assert len(cases) == len({str(case) for case in cases})
    unmeasured = list(goals.speed_verdicts([]))
    assert {v.reached for v in unmeasured} == {None}
    case, call = cases[0], goals.SMALL[0]
    records = [
        {"case": str(case), "of_copy": 0.95, "speedup": {"torch": 1.2, "triton": 0.9}},
        {"case": str(case), "of_copy": 0.80, "speedup": {"compile": 0.98}},  # the first counts
        {"case": str(call), "speedup": {"torch": 0.5}},
    ]
    verdicts = list(goals.speed_verdicts(records))
    assert [v.goal for v in verdicts] == [v.goal for v in unmeasured]
    known = [(v.figure, v.reached) for v in verdicts if v.reached is not None]
    assert known == [
        ("0.95", True), ("1.20x as fast", True), ("0.90x as fast", False),
        ("0.98x as fast", True), ("0.50x as fast", False),
    ]  # fmt: skip
    assert str(verdicts[0]) == f"{case} >= 0.90 of a copy's bandwidth, 0.95, yes"


def test_skipped_tests_are_no_verdict() -> None:
    ran = {"part": "tests", "ok": True, "passed": 2, "wrong": []}
    for is_there in (True, False):
        device = {"part": "device", "ok": is_there}
        verdict = next(iter(script.verdicts([device, ran], [])))
        assert verdict.reached is (True if is_there else None)
        assert verdict.figure == ("2 passed and 0 not" if is_there else "-")


def test_table_of_kernels() -> None:
    kernel = dict.fromkeys(
        ("registers", "local_bytes", "shared_bytes", "threads", "cluster", "blocks"), 7
    )
    record = {"case": "softmax 1x2", "of_copy": 0.5,
              "kernels": [{**kernel, "kernel": "Rows", "occupancy": 0.25}]}  # fmt: skip
    table = goals.kernel_table([record, {"case": "call"}])
    assert table.splitlines()[1].split() == ["softmax", "1x2", "Rows", *6 * ["7"], "0.25", "0.50"]

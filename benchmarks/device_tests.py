"""The tests of boltzmax.cuda on a device, and a few of them under compute-sanitizer."""

from __future__ import annotations

import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from device_parts import Outcome, Record, Run

TEST_FILES = ("test_cuda.py", "test_cuda_torch.py", "test_cuda_losses.py", "test_cuda_layers.py",
              "test_cuda_trees.py", "test_cuda_arrays.py")  # fmt: skip
# One or two of every kernel: they are many times slower under a sanitizer.
SANITIZED = (
    "test_cuda.py::test_rows_of_any_length[3-softmax-float32]",
    "test_cuda.py::test_rows_of_any_length[129-softmax-float16]",
    "test_cuda.py::test_rows_of_any_length[1025-log_softmax-float32]",
    "test_cuda.py::test_rows_of_any_length[16384-softmax-float64]",
    "test_cuda.py::test_rows_split_over_blocks[float32-262144-1]",
    "test_cuda.py::test_rows_too_long_for_shared_memory[float32-150001]",
    "test_cuda.py::test_axes_and_strides[softmax]",
    "test_cuda.py::test_gradients[softmax-200-float32]",
    "test_cuda.py::test_gradients[log_softmax-5000-float32]",
    "test_cuda.py::test_rows_at_any_offset[700-1]",
    "test_cuda_losses.py::test_cross_entropy[float32-3001-mean]",
    "test_cuda_losses.py::test_losses_of_many_rows",
    "test_cuda_layers.py::test_row_stats[float32-257]",
    "test_cuda_layers.py::test_row_stats_with_many_ranks[float32-300]",
    "test_cuda_trees.py::test_ties_of_many_classes",
)
TOOLS = ("memcheck", "racecheck", "synccheck")
SANITIZER_STATUS = 86  # of a process in which a sanitizer has found something
# After these errors CUDA refuses all calls of the process.
LASTING = re.compile(
    "illegal memory access|misaligned address|unspecified launch failure|illegal instruction|"
    "hardware stack error|launch timed out|assert triggered"
)
ATTEMPTS = 4  # of a file, each without a test that spoilt the last one


# ---- tests

NAME = r"^(?:tests/)?(test_\w+\.py::[^\s\[]+(?:\[.*?\])?)"  # of a test at the beginning of a line
RESULT = re.compile(NAME + r" (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.M)
GOOD = ("PASSED", "SKIPPED", "XFAIL")
STARTED = re.compile(NAME + r"(?= |$)", re.M)


def spoiler(done: Outcome) -> str | None:
    """Return the test that kept others from running: one that hung, crashed or broke CUDA."""
    results = dict(RESULT.findall(done.text))
    if done.status is None or done.status < 0:
        begun = [name for name in STARTED.findall(done.text) if name not in results]
        return begun[-1] if begun else None
    if LASTING.search(done.text):
        return next((name for name, result in results.items() if result == "FAILED"), None)
    return None


def run_file(run: Run, name: str, seconds: float) -> Record:
    """Run a file of tests, and go on without those that spoil it for others."""
    end = time.monotonic() + seconds
    without: list[str] = []
    results: dict[str, str] = {}
    stem = name.removesuffix(".py")
    for attempt in range(ATTEMPTS):
        left = end - time.monotonic()
        command = [
            *pytest(run),
            "-v",
            f"--junitxml={run.out / 'logs' / stem}-{attempt}.xml",
            f"tests/{name}",
        ]
        # pytest leaves out all names that begin like this, so a name must have its end.
        known = [test for test, of in results.items() if of in GOOD and test.endswith("]")]
        command += [f"--deselect=tests/{test}" for test in (*without, *known)]
        command += [] if run.has_products else ["-k", "not linear"]
        # A test that hangs leaves time for the others.
        done = run.command(stem, left / 2 if attempt + 1 < ATTEMPTS else left, *command)
        results.update(RESULT.findall(done.text))
        bad = spoiler(done)
        if bad is None:
            break
        without.append(bad)
        results[bad] = "FAILED" if done.status is not None else "HUNG OR CRASHED"
        if end - time.monotonic() < 10:
            break
    wrong = [test for test, result in results.items() if result not in GOOD]
    record: Record = {"passed": list(results.values()).count("PASSED"), "wrong": wrong,
                      "skipped": list(results.values()).count("SKIPPED"), "spoilers": without,
                      "status": done.status}  # fmt: skip
    if done.status != 0:
        record["end"] = done.end
    return record


def pytest(run: Run) -> list[str | Path]:
    """Return the start of a command that tests, whatever plug-ins and warnings a machine has."""
    return [run.python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin",
            "-W", "default", "-o", "faulthandler_timeout=45"]  # fmt: skip


def tests(run: Run, seconds: float) -> Record:
    """Run the files of tests side by side."""
    run.env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with ThreadPoolExecutor(len(TEST_FILES)) as pool:
        each = list(pool.map(lambda name: run_file(run, name, seconds), TEST_FILES))
    files = dict(zip(TEST_FILES, each, strict=True))
    left_out = "" if run.has_products else "linear layers, which need cuBLAS"
    passed, wrong = (
        sum(record["passed"] for record in each),
        [t for r in each for t in r["wrong"]],
    )
    unended = [n for n, r in files.items() if r["status"] not in (0, 5) and not r["wrong"]]
    why = "; ".join(filter(None, (
        f"{len(wrong)} tests failed" if wrong else "",
        f"not ended: {', '.join(unended)}: {files[unended[0]]['end']}" if unended else "",
        "" if passed else "no test passed",
    )))  # fmt: skip
    return {"ok": not why, "why": why, "passed": passed, "wrong": wrong, "left_out": left_out,
            "files": files}  # fmt: skip


# ---- compute-sanitizer


def sanitizer(run: Run) -> Path | None:
    """Return compute-sanitizer, from the path, CUDA's folders or a package."""
    found = shutil.which("compute-sanitizer")
    if found:
        return Path(found)
    homes = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", "")]
    folders = [Path(home) for home in homes if home] + sorted(Path("/usr/local").glob("cuda*"))
    places = [
        f / sub / "compute-sanitizer" for f in folders for sub in ("bin", "compute-sanitizer")
    ]
    packages = sorted((run.work / "environment").glob("**/nvidia/**/compute-sanitizer"))
    return next((p for p in places + packages if p.is_file() and os.access(p, os.X_OK)), None)


def sanitize(run: Run, tool: Path, name: str, seconds: float) -> Record:
    """Run one of compute-sanitizer's tools on a few tests."""
    ids = [f"tests/{test}" for test in SANITIZED]
    options = ("--tool", name, "--error-exitcode", str(SANITIZER_STATUS), "--print-limit", "20")
    done = run.command(name, seconds, tool, *options, *pytest(run), "-v", *ids)
    summaries = re.findall(r"^=+ (?:ERROR|RACECHECK) SUMMARY: .*$", done.text, re.M)
    results = dict(RESULT.findall(done.text))
    passed = list(results.values()).count("PASSED")
    is_clean = done.is_good and bool(summaries) and passed == len(ids)
    record: Record = {"ok": is_clean, "summary": summaries, "passed": passed, "of": len(ids)}
    return record if is_clean else {**record, "how": done.how, "end": done.end}


def sanitizers(run: Run, seconds: float) -> Record:
    """Run the tools side by side."""
    run.env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    tool = sanitizer(run)
    if tool is None:
        return {"ok": False, "why": "not run: compute-sanitizer is not installed, nor carried"}
    with ThreadPoolExecutor(len(TOOLS)) as pool:
        each = list(pool.map(lambda name: sanitize(run, tool, name, seconds), TOOLS))
    found = dict(zip(TOOLS, each, strict=True))
    bad = [name for name, record in found.items() if not record["ok"]]
    return {
        "ok": not bad,
        "why": f"see {', '.join(bad)}" if bad else "",
        "tool": str(tool),
        **found,
    }

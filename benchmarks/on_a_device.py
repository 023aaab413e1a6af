"""Everything that a machine with an NVIDIA GPU can tell about boltzmax.cuda, in one go.

    python benchmarks/carried_wheels.py wheels          # before, where there are nvcc and a network
    python3.12 benchmarks/on_a_device.py --wheels wheels --out results    # there

The machine needs a driver and the Python of the wheels, and no network; PyTorch, Triton and
compute-sanitizer are used if it has them. The parts are `facts`, `install`, `device` (what the
package sees), `tests`, `speed` (bench_cuda.py) and `sanitizers`. Each has a time limit, a failure
of one does not hide the next, and all together take at most ``--seconds`` (nine minutes). The
folder gets ``results.jsonl`` (a line per part), ``speed.jsonl`` (a line per case), ``summary.txt``
and ``logs/``, each written as the results come.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also where the script is a module

import device_goals
from device_goals import Verdict
from device_parts import ROOT, Part, Record, Report, Run, read_lines, run_parts
from device_tests import TOOLS, sanitizer, sanitizers, tests

# What the tests import; pip takes a wheel only for what the machine lacks.
REQUIREMENTS = ("numpy>=2.0", "pytest>=8", "pytest-benchmark", "hypothesis", "mpmath", "ml_dtypes")
PROBE_TORCH = """
import json, torch
facts = {"version": torch.__version__, "cuda": torch.version.cuda}
facts["sees"] = torch.cuda.is_available()
try:
    import triton
    facts["triton"] = triton.__version__
except ImportError:
    facts["triton"] = None
if facts["sees"]:
    facts["device"] = torch.cuda.get_device_name()
print(json.dumps(facts))
"""
PROBE_DEVICE = """
import json, boltzmax.cuda
from boltzmax.cuda import arrays
facts = {"file": boltzmax.__file__, "version": boltzmax.__version__}
facts["why_unavailable"] = boltzmax.cuda.why_unavailable()
if not facts["why_unavailable"]:
    facts["attributes"] = arrays.module().device_attributes(0)
    facts["cuda_version"] = arrays.module().cuda_version
    facts["is_emulated"] = arrays.module().is_emulated
    try:
        arrays.load_products()
        facts["cublas"] = True
    except RuntimeError as error:
        facts["cublas"] = str(error)
print(json.dumps(facts))
"""
PROBE_FOLDERS = """
import json, sys
print(json.dumps([p for p in sys.path if "site-packages" in p or "dist-packages" in p]))
"""


# ---- facts, installation


def facts(run: Run, seconds: float) -> Record:
    """Return what the machine is: each fact is missing or there, none is an error."""
    each = seconds / 4
    record: Record = {
        "python": sys.version,
        "cores": os.cpu_count(),
        "machine": " ".join(os.uname()),
    }
    query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit"
    for name, command in {
        "nvidia_smi": ("nvidia-smi", query, "--format=csv,noheader"),
        "commit": ("git", "-c", "safe.directory=*", "rev-parse", "HEAD"),
        "nvcc": ("nvcc", "--version"),
    }.items():
        done = run.command("facts", each, *command)
        record[name] = done.text.strip() if done.is_good else f"none ({done.end or done.how})"
    run.command("nvidia-smi", each, "nvidia-smi")
    record["torch"] = run.probe("torch", each, PROBE_TORCH)
    record["sanitizer"] = str(sanitizer(run) or "none found")
    return record


def install(run: Run, seconds: float) -> Record:
    """Install the carried wheels, in a virtual environment or else in a folder of their own."""
    if run.wheels is None:
        return {"how": f"nothing installed: {run.python} as it is"}
    end = time.monotonic() + seconds
    target, base = run.work / "environment", run.python
    folders = run.probe("install", seconds / 4, PROBE_FOLDERS)
    pip: list[str | Path] = [base, "-m", "pip"]
    options: list[str | Path] = ["--no-index", "--no-compile", "--find-links", run.wheels]
    # Without a pip of its own: that would take long, and needs a module that some systems lack.
    making = (base, "-m", "venv", "--without-pip", "--system-site-packages", target)
    made = run.command("install", seconds / 2, *making)
    if made.is_good:
        how = "virtual environment"
        run.python = target / "bin/python"
        pip += ["--python", run.python]
        # One that was made in a virtual environment sees the packages of that one's base only.
        own = Path(run.probe("install", seconds / 4, PROBE_FOLDERS)[0])
        (own / "machine.pth").write_text("\n".join(folders) + "\n", encoding="utf-8")
    else:
        how = f"folder, since venv failed ({made.how}): {made.end}"
        shutil.rmtree(target, ignore_errors=True)
        options += ["--target", target]
        run.env["PYTHONPATH"] = str(target)
    wanted: list[str] = list(REQUIREMENTS)
    if sanitizer(run) is None and list(run.wheels.glob("nvidia_cuda_sanitizer_api-*")):
        wanted.append("nvidia-cuda-sanitizer-api")
    for packages in (["--no-deps", "--force-reinstall", "boltzmax"], wanted):
        left = end - time.monotonic()
        done = run.command("install", left, *pip, "install", *options, *packages)
        if not done.is_good:
            return {"ok": False, "how": how, "why": f"pip, {done.how}: {done.end}"}
    return {"how": how, "python": str(run.python)}


def device(run: Run, seconds: float) -> Record:
    """Return what the package sees of the device."""
    seen = run.probe("device", seconds, PROBE_DEVICE)
    why = seen.get("why_unavailable") or seen.get("end", "")
    run.has_products = seen.get("cublas", True) is True
    return {"ok": not why and "failed" not in seen, "why": why, **seen}


# ---- speed


def speed(run: Run, seconds: float) -> Record:
    """Run bench_cuda.py; it writes as it goes, and stops by itself before it is killed."""
    lines = run.out / "speed.jsonl"
    script, stop = ROOT / "benchmarks/bench_cuda.py", str(max(1.0, seconds - 20))
    options = ("--json", str(lines), "--seconds", stop, *run.speed_arguments)
    done = run.command("speed", seconds, run.python, script, *options)
    count = len(read_lines(lines))
    why = "" if done.is_good else f"{done.how}: {done.end}"
    return {"ok": done.is_good and count > 0, "why": why, "cases": count}


# ---- the summary


def verdicts(records: Sequence[Record], lines: Sequence[Record]) -> Iterator[Verdict]:
    """Yield the verdict on every goal."""
    parts = {record["part"]: record for record in records}
    tested = parts.get("tests", {})
    has_device = parts.get("device", {}).get("ok", False)  # without one, tests are skipped
    is_known = has_device and bool(tested.get("passed") or tested.get("wrong"))
    figure = f"{tested['passed']} passed and {len(tested['wrong'])} not" if is_known else "-"
    yield Verdict(
        "results within the CPU's error budget", figure, tested["ok"] if is_known else None
    )
    for name in TOOLS:
        record = parts.get("sanitizers", {}).get(name)
        found = "-" if record is None else f"{record['passed']} of {record['of']} tests"
        summary = "" if record is None else " ".join(record["summary"]).replace("=", "").strip()
        yield Verdict(f"{name} is clean", f"{found} {summary}".strip(), record and record["ok"])
    yield from device_goals.speed_verdicts(lines)


def summarize(out: Path, records: list[Record]) -> str:
    """Return parts, goals and kernels in words."""
    lines = read_lines(out / "speed.jsonl")
    text = []
    for record in records:
        text.append(
            f"{record['part']} ({record['seconds']} s): {'ok' if record['ok'] else 'NOT OK'}"
        )
        hidden = ("part", "seconds", "ok", "began", "trace", "files")
        text += [
            f"    {name}: {value}" for name, value in record.items() if name not in hidden and value
        ]
    order = (False, True, None)  # what is not reached comes first, what is not known last
    judged = sorted(verdicts(records, lines), key=lambda verdict: order.index(verdict.reached))
    reached = sum(verdict.reached is True for verdict in judged)
    text += [
        "",
        f"{reached} of {len(judged)} goals reached (goal, figure, reached)",
        *map(str, judged),
    ]
    return "\n".join([*text, "", device_goals.kernel_table(lines), ""])


PARTS: tuple[tuple[str, float, Callable[[Run, float], Record]], ...] = (
    ("facts", 60, facts),
    ("install", 60, install),
    ("device", 40, device),
    ("tests", 130, tests),
    ("speed", 230, speed),
    ("sanitizers", 110, sanitizers),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("device_results"), metavar="FOLDER")
    parser.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="default: nothing is installed"
    )
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="default: a temporary one")
    parser.add_argument("--seconds", type=float, default=540, help="for all parts")
    parser.add_argument("--slower", type=float, default=1, metavar="TIMES", help="longer limits")
    parser.add_argument(
        "--parts", default="", metavar="NAMES", help="some parts, with commas between"
    )
    parser.add_argument("--speed", default="", metavar="ARGUMENTS", help="of bench_cuda.py")
    options = parser.parse_args(arguments)
    out = options.out.resolve()
    work = options.work or out / "work"
    run = Run(out, options.wheels and options.wheels.resolve(), work.resolve(),
              speed_arguments=options.speed.split())  # fmt: skip
    (out / "speed.jsonl").unlink(missing_ok=True)
    names = options.parts.split(",") if options.parts else [name for name, _, _ in PARTS]
    parts = [
        Part(name, limit * options.slower, partial(of, run))
        for name, limit, of in PARTS
        if name in names
    ]
    report = Report(out, partial(summarize, out))
    is_good = run_parts(parts, report, options.seconds)
    print((out / "summary.txt").read_text(encoding="utf-8"))
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

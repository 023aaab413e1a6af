"""Parts of a run on a borrowed machine, each with a time limit; results are written as they come.

Nothing here needs more than Python: what a part does happens in processes of its own, which are
killed with all that they have started when their time is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
LEAST = 5.0  # seconds: no part starts with less


class Outcome(NamedTuple):
    """How a command ended: `status` is None if its time was over, or if it could not be started."""

    status: int | None
    seconds: float
    text: str

    @property
    def is_good(self) -> bool:
        return self.status == 0

    @property
    def end(self) -> str:
        """The last lines of what it wrote."""
        return "\n".join(self.text.splitlines()[-8:])

    @property
    def how(self) -> str:
        """Why it is not good, in a few words."""
        return "out of time" if self.status is None else f"status {self.status}"


def run_command(
    command: Sequence[str | Path],
    seconds: float,
    log: Path,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Run a command for at most so many seconds; what it writes is added to a file as it comes."""
    begin = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as stream:
        try:
            process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            )  # fmt: skip
        except OSError as error:
            return Outcome(None, 0.0, f"not started: {error}")
        try:
            status: int | None = process.wait(max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            status = None
        # The whole session of the process: what it has started must not outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with log.open("rb") as written:
        written.seek(start)
        text = written.read().decode("utf-8", "replace")
    return Outcome(status, time.monotonic() - begin, text)


class Report:
    """A folder with what is known so far: a line of JSON per part, and a summary in words."""

    def __init__(self, folder: Path, summarize: Callable[[list[Record]], str]) -> None:
        self.folder, self.records = folder, list[Record]()
        self._summarize = summarize
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / "results.jsonl"
        self._lines.write_text("", encoding="utf-8")

    def add(self, record: Record) -> None:
        """Write a record, and the summary with it."""
        self.records.append(record)
        with self._lines.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.write_summary()

    def write_summary(self) -> None:
        try:
            text = self._summarize(self.records)
        except Exception:  # the records matter more
            text = f"no summary:\n{traceback.format_exc()}"
        (self.folder / "summary.txt").write_text(text, encoding="utf-8")


@dataclass
class Run:
    """What the parts share."""

    out: Path
    wheels: Path | None
    work: Path
    python: Path = Path(sys.executable)
    speed_arguments: Sequence[str] = ()
    has_products: bool = True
    env: dict[str, str] = field(default_factory=dict)

    def command(self, log: str, seconds: float, *command: str | Path) -> Outcome:
        path = self.out / "logs" / f"{log}.log"
        return run_command(command, seconds, path, self.env, ROOT)

    def probe(self, log: str, seconds: float, code: str) -> Any:
        """Return the last line that a piece of Python prints, as JSON; or why there is none."""
        done = self.command(log, seconds, self.python, "-c", code)
        try:
            return json.loads(done.text.splitlines()[-1])
        except (ValueError, IndexError):
            return {"failed": done.how, "end": done.end}


@dataclass(frozen=True)
class Part:
    """A name, a time limit, and what to do within so many seconds; it returns its results.

    The results say by ``"ok": False`` that something went wrong.
    """

    name: str
    seconds: float
    run: Callable[[float], Record]


def run_parts(parts: Sequence[Part], report: Report, total: float) -> bool:
    """Run parts one after the other, within `total` seconds; return whether all went well.

    A part that fails does not keep the next from running.
    """
    begin = time.monotonic()
    for part in parts:
        start = time.monotonic()
        left = total - (start - begin)
        record: Record = {"part": part.name, "began": round(start - begin, 1)}
        if left < LEAST:
            record |= {"ok": False, "why": "not run: the time of the whole run was over"}
        else:
            try:
                record |= {"ok": True, **part.run(min(part.seconds, left))}
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                record |= {"ok": False, "why": why, "trace": traceback.format_exc()}
        record["seconds"] = round(time.monotonic() - start, 1)
        report.add(record)
        verdict = "ok" if record["ok"] else f"NOT OK: {record.get('why', '')}"
        print(f"{record['began']:6.1f} s  {part.name}: {verdict}", flush=True)
    return all(record["ok"] for record in report.records)


def read_lines(path: Path) -> list[Record]:
    """Return the records of a file of JSON lines; the last may be incomplete."""
    records: list[Record] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
    return records

"""What boltzmax.cuda is to reach on a device, and which of it a run has reached.

Figures are ratios: bytes that must be read and written, over the time, as a fraction of what a copy
on the device reaches in the same run; and a rival's time over ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Record = dict[str, Any]

LENGTHS = (1000, 1024, 4096, 10_000, 16_384, 32_768, 50_257, 131_072, 262_144)
SHORT_LENGTHS = (2, 10, 32, 100)
ROWS_OF_SHORT = (100_000, 1_000_000)
DTYPES = ("float32", "bfloat16")
NUMBERS = 2**28  # of a long case's array: far more than any second-level cache holds
RIVALS = ("torch", "triton", "compile")
LONG, SHORT = 0.9, 0.7  # of the copy's bandwidth
NOISE = 1.03  # the tolerance of "no slower"


@dataclass(frozen=True)
class Case:
    """A function, on so many rows of n numbers."""

    function: str
    dtype: str
    rows: int
    n: int
    at_least: float = 0.0  # of the copy's bandwidth

    def __str__(self) -> str:
        return f"{self.function} {self.rows}x{self.n} {self.dtype}"


@dataclass(frozen=True)
class SmallCall:
    """A call whose time is that of its launch."""

    rows: int
    n: int

    def __str__(self) -> str:
        return f"call of softmax {self.rows}x{self.n} float32"


SMALL = (SmallCall(1, 10), SmallCall(64, 1000), SmallCall(8, 50_257))


def cases_with_goals(numbers: int = NUMBERS) -> Iterator[Case]:
    """Yield the cases of the goals, the most important first."""
    for function in ("softmax", "log_softmax", "cross_entropy_with_grad"):
        for dtype in DTYPES:
            for n in LENGTHS:
                yield Case(function, dtype, max(1, numbers // n), n, LONG)
        if function == "softmax":
            for dtype in DTYPES:
                for rows in ROWS_OF_SHORT:
                    for n in SHORT_LENGTHS:
                        rows_here = max(1, min(rows, numbers // n))
                        yield Case(function, dtype, rows_here, n, SHORT)


def other_cases(numbers: int = NUMBERS) -> Iterator[Case]:
    """Yield cases of the remaining kernels, for the table of kernels."""
    for function in ("softmax_backward", "log_softmax_backward", "logsumexp", "row_stats"):
        for n in (100, 1000, 32_768, 262_144):
            yield Case(function, "float32", max(1, numbers // n // 4), n)


class Verdict(NamedTuple):
    """A goal, what was measured, and whether that reaches it (None: not measured)."""

    goal: str
    figure: str
    reached: bool | None

    def __str__(self) -> str:
        word = {True: "yes", False: "no", None: "not measured"}[self.reached]
        return f"{self.goal}, {self.figure}, {word}"


def _against(name: str, rival: str, speedup: float | None) -> Verdict:
    goal = f"{name} no slower than {rival}"
    if speedup is None:
        return Verdict(goal, "-", None)
    return Verdict(goal, f"{speedup:.2f}x as fast", speedup * NOISE >= 1)


def speed_verdicts(records: Sequence[Record], numbers: int = NUMBERS) -> Iterator[Verdict]:
    """Yield the verdict on each goal of speed from the records of bench_cuda.py."""
    found: dict[str, Record] = {}
    for record in records:  # a case is measured twice: with and without torch.compile
        if "case" in record:
            known = found.setdefault(record["case"], {**record, "speedup": {}})
            known["speedup"] = {**record["speedup"], **known["speedup"]}
    for case in cases_with_goals(numbers):
        record = found.get(str(case), {})
        of_copy = record.get("of_copy")
        goal = f"{case} >= {case.at_least:.2f} of a copy's bandwidth"
        figure = "-" if of_copy is None else f"{of_copy:.2f}"
        yield Verdict(goal, figure, None if of_copy is None else of_copy >= case.at_least)
        for rival in rivals_of(case.function):
            yield _against(str(case), rival, record.get("speedup", {}).get(rival))
    for call in SMALL:
        speedup = found.get(str(call), {}).get("speedup", {})
        yield _against(str(call), "torch", speedup.get("torch"))


def rivals_of(function: str) -> tuple[str, ...]:
    """Return who has the function in bench_cuda.py."""
    if function == "softmax":
        return RIVALS
    return ("torch", "compile") if function == "log_softmax" else ("torch",)


def kernel_table(records: Sequence[Record]) -> str:
    """Return a line per case and kernel: what it takes, and what it reaches."""
    header = ("case", "kernel", "registers", "local", "shared", "threads", "cluster", "blocks",
              "occupancy", "of copy")  # fmt: skip
    rows = [header]
    for record in records:
        for k in record.get("kernels", []):
            figures = (k["registers"], k["local_bytes"], k["shared_bytes"], k["threads"],
                       k["cluster"], k["blocks"])  # fmt: skip
            of_copy = f"{record['of_copy']:.2f}"
            occupancy = f"{k['occupancy']:.2f}"
            rows.append((record["case"], k["kernel"], *map(str, figures), occupancy, of_copy))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)

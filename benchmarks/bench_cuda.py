"""boltzmax.cuda compared with a memory copy, PyTorch, torch.compile and a Triton kernel.

``python benchmarks/bench_cuda.py`` prints, for each function, dtype and shape, the bandwidth of
reading each operand and writing each result once, as a fraction of the bandwidth of a copy on the
device in the same run; the rivals' times over ours; and which goals (`device_goals`) are reached.
``--json FILE`` writes a line per case as it comes, with what each kernel takes of the device:
registers, shared memory, occupancy.

All calls of a case are interleaved, so that clock changes affect all equally; the median of the
rounds counts. With PyTorch the device's own clock is read, around calls that were queued while the
device was busy, so that the host's speed does not matter. Without PyTorch there are no rivals, and
the host's clock is read, around so many calls that waiting does not matter; where a call is shorter
than its launch, that is the time of the launch. Arrays of short rows fit into the second-level
cache, for the copy and for all others.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import boltzmax.cuda
import device_goals
from boltzmax.cli.timing import Task, interleave
from boltzmax.cuda.arrays import ITEM, DeviceArray, module
from device_goals import Case, Record, SmallCall

Call = Callable[[], Any]

SAMPLE = 2e-3  # seconds of calls per task and round
LAUNCHES = 5e-4  # seconds of small calls per round: fewer than a stream has room for
QUEUED = 100e-6  # seconds, at most, in which the host queues a call
CYCLES = 2e9  # of the device per second, at most
MOST_CALLS = 50  # per task and round
# The arrays of a case's size that are read and written.
TRAFFIC = {"softmax_backward": 3, "log_softmax_backward": 3, "logsumexp": 1, "row_stats": 1}


# ---- arrays and clocks: of PyTorch, or without it


def host_scores(count: int) -> np.ndarray[Any, Any]:
    """Return normal numbers, which repeat after a million."""
    block = 3 * np.random.default_rng(0).standard_normal(min(count, 2**20), dtype=np.float32)
    return np.resize(block, count)


class OwnArrays:
    """Arrays of boltzmax, timed by the host's clock."""

    clock = "host"

    def scores(self, rows: int, n: int, dtype: str) -> Any:
        numbers = host_scores(rows * n)
        if dtype == "bfloat16":
            numbers = (numbers.view(np.uint32) >> 16).astype(np.uint16)
        return self._on_device(numbers, (rows, n), dtype)

    def targets(self, rows: int, n: int) -> Any:
        return self._on_device(np.arange(rows, dtype=np.int64) * 31 % n, (rows,), "int64")

    def _on_device(self, numbers: Any, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        array = DeviceArray(shape, dtype, 0, 0)
        array.copy_in(numbers)
        return array

    def address(self, x: Any) -> int:
        return int(x.view.address)

    def keywords(self, y: Any) -> dict[str, Any]:
        """Return where results go: boltzmax's own pool would give large ones back at each wait."""
        return {"out": y}

    def rivals(
        self, case: Case | SmallCall, x: Any, target: Any, compiled: bool
    ) -> dict[str, Call]:
        return {}

    def wait(self) -> None:
        module().wait_for(0, 0)

    def seconds(self, call: Call, count: int) -> float:
        """Return the time of so many calls; none is left when it begins and ends."""
        self.wait()
        begin = time.perf_counter()
        for _ in range(count):
            call()
        self.wait()
        return time.perf_counter() - begin


class TorchOnHost(OwnArrays):
    """PyTorch's tensors in the host's memory, which the emulated device uses."""

    device = "cpu"

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def scores(self, rows: int, n: int, dtype: str) -> Any:
        x = self.torch.randn(rows, n, device=self.device).mul_(3)
        return x.to(getattr(self.torch, dtype))

    def targets(self, rows: int, n: int) -> Any:
        return self.torch.arange(rows, device=self.device) * 31 % n

    def address(self, x: Any) -> int:
        return int(x.data_ptr())

    def keywords(self, y: Any) -> dict[str, Any]:
        return {}

    def rivals(
        self, case: Case | SmallCall, x: Any, target: Any, compiled: bool
    ) -> dict[str, Call]:
        """Return the other implementations, by name; `compiled`: only torch.compile's."""
        torch = self.torch
        function = "softmax" if isinstance(case, SmallCall) else case.function
        if function == "cross_entropy_with_grad":
            leaf, loss = x.detach().requires_grad_(), torch.nn.functional.cross_entropy
            calls = {"torch": lambda: torch.autograd.grad(loss(leaf, target), leaf)}
            return {} if compiled else calls
        if function not in ("softmax", "log_softmax"):
            return {}
        theirs = getattr(torch, function)
        if compiled:
            torch.compiler.reset()  # otherwise it gives up after a few shapes
            fused = torch.compile(lambda a: theirs(a, -1), dynamic=False)
            return {"compile": lambda: fused(x)}
        calls = {"torch": lambda: theirs(x, -1)}
        if function == "softmax" and (written := triton_softmax(torch)) is not None:
            calls["triton"] = lambda: written(x)
        return calls


class TorchOnDevice(TorchOnHost):
    """PyTorch's tensors on the device, timed by the device's clock."""

    clock, device = "device", "cuda"

    def wait(self) -> None:
        self.torch.cuda.synchronize()

    def seconds(self, call: Call, count: int) -> float:
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        if hasattr(self.torch.cuda, "_sleep"):  # keeps the device busy while calls are queued
            self.torch.cuda._sleep(int(count * QUEUED * CYCLES))
        begin.record()
        for _ in range(count):
            call()
        end.record()
        self.wait()
        return float(begin.elapsed_time(end)) * 1e-3


def arrays_here() -> OwnArrays:
    """Return PyTorch's arrays where it can use the device, else boltzmax's."""
    try:
        import torch
    except ImportError:
        return OwnArrays()
    if module().is_emulated:
        return TorchOnHost(torch)
    return TorchOnDevice(torch) if torch.cuda.is_available() else OwnArrays()


def triton_softmax(torch: Any) -> Callable[[Any], Any] | None:
    """Return the usual Triton softmax, with one program per row."""
    try:
        import triton
        import triton.language as tl
    except ImportError:
        return None

    @triton.jit  # type: ignore[untyped-decorator]
    def kernel(x: Any, y: Any, n: Any, stride: Any, width: tl.constexpr) -> None:
        row, i = tl.program_id(0).to(tl.int64), tl.arange(0, width)
        scores = tl.load(x + row * stride + i, mask=i < n, other=-float("inf")).to(tl.float32)
        e = tl.exp(scores - tl.max(scores, 0))
        p = e / tl.sum(e, 0)
        tl.store(y + row * stride + i, p.to(y.dtype.element_ty), mask=i < n)

    def softmax(x: Any) -> Any:
        y = torch.empty_like(x)
        width = triton.next_power_of_2(x.shape[1])
        warps = 4 if width < 4096 else 8 if width < 16_384 else 16 if width < 65_536 else 32
        kernel[(x.shape[0],)](x, y, x.shape[1], x.stride(0), width, num_warps=warps)
        return y

    return softmax


# ---- measuring


def own_call(case: Case, x: Any, target: Any, keywords: dict[str, Any]) -> Call:
    """Return our call."""
    function = getattr(boltzmax.cuda, case.function)
    if case.function == "cross_entropy_with_grad":
        return lambda: function(x, target, **keywords)
    if case.function == "row_stats":
        return lambda: function(x, target)
    if case.function.endswith("_backward"):
        return lambda: function(x, x)
    if case.function == "logsumexp":
        return lambda: function(x)
    return lambda: function(x, **keywords)


def medians(arrays: OwnArrays, calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median time of each call; rounds are interleaved."""
    counts = {}
    for name, call in calls.items():
        once = arrays.seconds(call, 1)
        counts[name] = max(1, min(MOST_CALLS, math.ceil(SAMPLE / max(once, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for _ in range(rounds):
        for name in names:
            times[name].append(arrays.seconds(calls[name], counts[name]) / counts[name])
        names.reverse()  # none always runs after the same one
    return {name: statistics.median(of) for name, of in times.items()}


def runs(call: Call) -> str:
    """Return why a rival does not support a call: rows can be too long for one Triton program."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
    return ""


def recorded(call: Call) -> list[Record]:
    """Return the kernels that a call launches, with the fraction of threads that are resident."""
    device = module()
    device.take_records()
    device.record_launches(True)
    try:
        call()
    finally:
        device.record_launches(False)
    most = device.device_attributes(0)["threads_of_multiprocessor"]
    records: list[Record] = device.take_records()
    for kernel in records:
        kernel["occupancy"] = kernel["resident_blocks"] * kernel["threads"] / most
        kernel["kernel"] = short_name(kernel["kernel"])
    return records


def short_name(kernel: str) -> str:
    """Return a kernel's name without namespaces, result and parameters."""
    name = (
        kernel.replace("boltzmax::cuda::", "").replace("boltzmax::", "").replace("(Operation)", "")
    )
    return name.removeprefix("void ").partition("(")[0]


def measure(arrays: OwnArrays, case: Case, rounds: int, compiled: bool) -> Record:
    """Return a record of a case: the copy, ours, and the rivals."""
    x = arrays.scores(case.rows, case.n, case.dtype)
    y = arrays.scores(case.rows, case.n, case.dtype)
    target = arrays.targets(case.rows, case.n)
    own = own_call(case, x, target, arrays.keywords(y))
    own()
    size = case.rows * case.n * ITEM[case.dtype]
    to, source = arrays.address(y), arrays.address(x)
    calls: dict[str, Call] = {
        "copy": lambda: module().copy(to, source, size, 0, 0),
        "boltzmax": own,
    }
    rivals = arrays.rivals(case, x, target, compiled)
    failed = {name: why for name, call in rivals.items() if (why := runs(call))}
    calls |= {name: call for name, call in rivals.items() if name not in failed}
    times = medians(arrays, calls, rounds)
    copied = 2 * size / times["copy"]
    return {
        "case": str(case),
        "clock": arrays.clock,
        "copy_gb_per_s": copied / 1e9,
        "of_copy": TRAFFIC.get(case.function, 2) * size / times["boltzmax"] / copied,
        "speedup": {name: times[name] / times["boltzmax"] for name in rivals if name in times},
        "microseconds": {name: 1e6 * value for name, value in times.items()},
        "not_run": failed,
        "kernels": recorded(own),
    }


def measure_small(arrays: OwnArrays, call: SmallCall, rounds: int) -> Record:
    """Return the time from one call to the next in Python."""
    x = arrays.scores(call.rows, call.n, "float32")
    calls = {"boltzmax": lambda: boltzmax.cuda.softmax(x), **arrays.rivals(call, x, None, False)}
    tasks = {name: Task(of, arrays.wait) for name, of in calls.items() if not runs(of)}
    times = {k: float(np.median(v)) for k, v in interleave(tasks, rounds, LAUNCHES).items()}
    return {
        "case": str(call),
        "speedup": {k: t / times["boltzmax"] for k, t in times.items() if k != "boltzmax"},
        "microseconds": {name: 1e6 * value for name, value in times.items()},
    }


def plan(numbers: int, only: str) -> Iterator[tuple[Case | SmallCall, bool]]:
    """Yield what is measured, the most valuable first, and whether with torch.compile.

    torch.compile comes last, since it takes seconds per shape.
    """
    wanted = list(device_goals.cases_with_goals(numbers))
    others = list(device_goals.other_cases(numbers))
    fused = [case for case in wanted if case.function in ("softmax", "log_softmax")]
    for cases, compiled in ((wanted, False), (device_goals.SMALL, False), (others, False),
                            (fused, True)):  # fmt: skip
        for case in cases:
            if only in str(case):
                yield case, compiled


def line_of(record: Record) -> str:
    """Return a row of the table."""
    of_copy = f"{record['of_copy']:.2f}" if "of_copy" in record else ""
    speed = f"{record['copy_gb_per_s']:.0f}" if "of_copy" in record else ""
    rivals = (f"{record['speedup'][k]:.2f}" if k in record["speedup"] else ""
              for k in device_goals.RIVALS)  # fmt: skip
    own = f"{record['microseconds']['boltzmax']:.1f}"
    return f"| {' | '.join((record['case'], speed, of_copy, own, *rivals))} |"


def run(arrays: OwnArrays, options: argparse.Namespace) -> list[Record]:
    """Measure until the time is over; print and write each record as it comes."""
    end = time.monotonic() + options.seconds
    records: list[Record] = []
    for case, compiled in plan(options.numbers, options.only):
        if compiled and arrays.clock != "device":
            continue
        if time.monotonic() > end:
            print(f"(out of time before {case})")
            break
        if isinstance(case, SmallCall):
            record = measure_small(arrays, case, options.rounds)
        else:
            record = measure(arrays, case, options.rounds, compiled)
        records.append(record)
        print(line_of(record), flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
    return records


def describe(arrays: OwnArrays) -> str:
    """Return the day, and what times what."""
    torch = getattr(arrays, "torch", None)
    library = f"PyTorch {torch.__version__}" if torch else "no PyTorch that can use the device"
    return f"{datetime.date.today()}, {library}, times by the {arrays.clock}'s clock"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--numbers", type=int, default=device_goals.NUMBERS, help="per array")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name has this")
    parser.add_argument("--seconds", type=float, default=math.inf, help="no case begins later")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a line per case is added to it")
    options = parser.parse_args(arguments)
    if not boltzmax.cuda.is_available():
        parser.error(f"there is nothing to measure: {boltzmax.cuda.why_unavailable()}")
    arrays = arrays_here()
    print(f"{describe(arrays)}; {module().device_attributes(0)}\n")
    print("| case | copy, GB/s | of the copy | us | times of "
          f"{' | '.join(device_goals.RIVALS)} |")  # fmt: skip
    print("|---" * (4 + len(device_goals.RIVALS)) + "|")
    records = run(arrays, options)
    print("\n" + device_goals.kernel_table(records) + "\n")
    for verdict in device_goals.speed_verdicts(records, options.numbers):
        print(verdict)


if __name__ == "__main__":
    main()

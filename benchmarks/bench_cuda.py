"""boltzmax.cuda compared with a memory copy, PyTorch, torch.compile and a Triton kernel.

``python benchmarks/bench_cuda.py`` prints, for each operation, dtype and row length, the bandwidth
of reading the scores once and writing the result once, as a fraction of the bandwidth of a device
copy in the same run; then the time of a small call. All are interleaved, so that clock changes
affect all equally; the median of the rounds counts. Needs PyTorch with CUDA.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import boltzmax.cuda
from boltzmax.cli.timing import Task, interleave

LENGTHS = (1000, 1024, 4096, 10_000, 16_384, 32_768, 50_257, 131_072, 262_144)
DTYPES = ("float32", "bfloat16")
NUMBERS = 2**28  # per array: far more than any second-level cache holds
SAMPLE = 5e-4  # seconds of calls on little: fewer than a stream has room for
SMALL = ((1, 10), (64, 1000), (8, 50_257))

Call = Callable[[], Any]


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


def milliseconds(torch: Any, calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median time of each call on the device; calls are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times[name].append(begin.elapsed_time(end))
    return {name: statistics.median(of[rounds // 4 :]) for name, of in times.items()}


def microseconds(torch: Any, calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median time from one call to the next in Python."""
    tasks = {name: Task(call, torch.cuda.synchronize) for name, call in calls.items()}
    times = interleave(tasks, rounds, SAMPLE)
    return {name: 1e6 * statistics.median(of) for name, of in times.items()}


def peers(torch: Any, operation: str, x: Any) -> dict[str, Call]:
    """Return the implementations of the operation on x, by name."""
    own, theirs = getattr(boltzmax.cuda, operation), getattr(torch, operation)
    torch.compiler.reset()  # otherwise it gives up after a few shapes
    compiled = torch.compile(lambda a: theirs(a, -1), dynamic=False)
    calls: dict[str, Call] = {
        "boltzmax": lambda: own(x),
        "torch": lambda: theirs(x, -1),
        "compile": lambda: compiled(x),
    }
    written = triton_softmax(torch) if operation == "softmax" else None
    if written is not None:
        calls["triton"] = lambda: written(x)
    return {name: call for name, call in calls.items() if runs(call)}


def runs(call: Call) -> bool:
    """Whether a peer supports the call: rows can be too long for one Triton program."""
    try:
        call()
    except Exception as error:
        print(f"(not run: {type(error).__name__}: {str(error).splitlines()[0][:100]})")
        return False
    return True


def scores(torch: Any, rows: int, n: int, dtype: str) -> Any:
    return torch.randn(rows, n, device="cuda").mul_(3).to(getattr(torch, dtype))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="per array")
    options = parser.parse_args()
    if not boltzmax.cuda.is_available():
        parser.error(f"there is nothing to measure: {boltzmax.cuda.why_unavailable()}")
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(f"{datetime.date.today()}, {torch.cuda.get_device_name()}, ", end="")
    print(f"PyTorch {torch.__version__}, commit {commit.stdout.strip() or 'unknown'}")
    names = ("boltzmax", "torch", "compile", "triton")
    print("\n| operation | dtype | n | copy, GB/s | " + " | ".join(names) + " |")
    print("|---" * (4 + len(names)) + "|")
    for operation in ("softmax", "log_softmax"):
        for dtype in DTYPES:
            for n in LENGTHS:
                x = scores(torch, max(1, options.numbers // n), n, dtype)
                y = torch.empty_like(x)
                calls: dict[str, Call] = {"copy": partial(y.copy_, x)}
                calls |= peers(torch, operation, x)
                times = milliseconds(torch, calls, options.rounds)
                speed = 2 * x.numel() * x.element_size() / times["copy"] / 1e6
                parts = [f"{times['copy'] / times[k]:.2f}" if k in times else "" for k in names]
                print(f"| {operation} | {dtype} | {n} | {speed:.0f} | {' | '.join(parts)} |")
                del x, y, calls
                torch.cuda.empty_cache()
    print("\n| shape | " + " | ".join(f"{name}, us" for name in names) + " |")
    print("|---" * (1 + len(names)) + "|")
    for shape in SMALL:
        x = scores(torch, *shape, "float32")
        times = microseconds(torch, peers(torch, "softmax", x), options.rounds)
        parts = [f"{times[k]:.1f}" if k in times else "" for k in names]
        print(f"| {shape} | {' | '.join(parts)} |")


if __name__ == "__main__":
    main()

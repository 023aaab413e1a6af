"""Count the instructions per element in the hot loops of boltzmax.cuda's machine code.

``python benchmarks/cuda_instructions.py`` compiles cpp/cuda/rows.cu for compute capability 9.0 and
prints, for rows staged in shared memory, how many instructions a thread issues to read, sum and map
an element. Needs no device, but nvcc, and nvdisasm, which comes with CUDA and with Triton.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

ITEMS = {"float": 4, "double": 2, "boltzmax::Half": 8, "boltzmax::BFloat16": 8}  # per 16 bytes
OPERATIONS = {"0": "softmax", "1": "log_softmax", "5": "cross_entropy"}  # as in cpp/cuda/task.hpp
PHASES = ("read", "sum", "map")


def inner_loops(code: list[str]) -> list[list[str]]:
    """Return the instructions of each innermost loop."""
    labels: dict[str, int] = {}
    lines: list[str] = []
    for line in code:
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(lines)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            lines.append(instruction[1])
    jumps = [(labels.get(to[1], i + 1), i) for i, line in enumerate(lines)
             if " BRA" in f" {line}" and (to := re.search(r"`\((\.L_x_\d+)\)", line))]  # fmt: skip
    loops = [(a, b) for a, b in jumps if a <= b]
    inner = [x for x in loops if not any(x != y and x[0] <= y[0] and y[1] <= x[1] for y in loops)]
    return [lines[a : b + 1] for a, b in inner]


def phase_of(loop: list[str]) -> tuple[str, int]:
    """Return what a loop does and its 16-byte packets; an empty name for other loops."""
    of = {
        name: sum(bool(re.search(rf"\b{name}\.\S*128", line)) for line in loop)
        for name in ("LDG", "LDS", "STG", "STS")
    }
    if len(loop) > 30 * max(of.values()) * max(ITEMS.values()):
        return "", 0
    if of["LDG"] > 1 and of["STS"] == of["LDG"]:
        return "read", of["LDG"]
    if of["LDS"] and not of["LDG"]:
        return ("map", of["STG"]) if of["STG"] else ("sum", of["LDS"])
    return "", 0


def kernels(disassembly: str) -> dict[str, list[str]]:
    """Return the lines of each kernel by its demangled name."""
    parts = re.split(r"^\s*\.section\s+\.text\.(\w+)\S*,.*$", disassembly, flags=re.M)[1:]
    names = subprocess.run(
        ["c++filt", *parts[::2]], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return dict(zip(names, (part.splitlines() for part in parts[1::2]), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--nvdisasm", default="nvdisasm")
    options = parser.parse_args()
    source = Path(__file__).parents[1] / "cpp/cuda/rows.cu"
    with tempfile.TemporaryDirectory() as folder:
        cubin = f"{folder}/rows.cubin"
        flags = ["-std=c++20", "-O3", "-arch=sm_90", "--expt-relaxed-constexpr", "--fmad=false"]
        subprocess.run([options.nvcc, *flags, "-cubin", source, "-o", cubin], check=True)
        text = subprocess.run(
            [options.nvdisasm, "-c", cubin], capture_output=True, text=True, check=True
        ).stdout
    print("| operation | element | " + " | ".join(PHASES) + " | all |")
    print("|---" * (3 + len(PHASES)) + "|")
    pattern = r"StagedRows<([\w:]+), \(boltzmax::cuda::Operation\)(\d), false>"
    for name, code in sorted(kernels(text).items()):
        if not (kernel := re.search(pattern, name)):
            continue
        counts: dict[str, float] = {}
        for loop in inner_loops(code):
            phase, packets = phase_of(loop)
            if phase:
                here = len(loop) / packets / ITEMS[kernel[1]]
                counts[phase] = min(here, counts.get(phase, here))
        missing = [phase for phase in PHASES if phase not in counts]
        if missing:
            parser.error(f"found no loop like the {missing[0]} of {name}")
        cells = [f"{counts[phase]:.1f}" for phase in PHASES] + [f"{sum(counts.values()):.1f}"]
        element = kernel[1].rpartition(":")[2]
        print(f"| {OPERATIONS[kernel[2]]} | {element} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

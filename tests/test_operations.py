"""The table of operations: what is generated from it, and what a new line in it adds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import c_table
from operations import GRADIENTS, OPERATIONS, REDUCTIONS
from test_codebase import ROOT, sources

TABLE = ROOT / "cpp" / "kernels" / "operations.hpp"

pytestmark = pytest.mark.skipif(not (ROOT / "cpp").is_dir(), reason="the sources are not here")


def table_lines() -> list[list[str]]:
    """The name in both cases, kind and needs of every operation."""
    macro = re.search(r"define BOLTZMAX_FOR_EACH_OPERATION.*?\n\n", TABLE.read_text("utf-8"), re.S)
    assert macro is not None
    return [
        re.split(r",\s*", line) for line in re.findall(r"  F\((.*), __VA_ARGS__\)", macro[0], re.M)
    ]


def test_table_matches_the_compiled_module() -> None:
    lines = table_lines()
    assert tuple(name for name, *_ in lines) == OPERATIONS
    assert tuple(name for name, _, kind, _ in lines if kind == "kReduction") == REDUCTIONS
    with_gradient = [name for name, _, kind, _ in lines if kind == "kMapWithGradient"]
    assert tuple(f"{name}_backward" for name in with_gradient) == GRADIENTS


def test_header_matches_the_table() -> None:
    """Every operation under its number, with entries per type, with and without temperature."""
    enum = re.search(r"enum boltzmax_operation \{(.*?)\}", c_table.header(), re.S)
    assert enum is not None
    numbers = dict(re.findall(r"BOLTZMAX_(\w+) = (\d+)", enum[1]))
    assert numbers == {name.upper(): str(i) for i, name in enumerate(OPERATIONS)}
    forms = [*OPERATIONS, *(f"{name}_at" for name in OPERATIONS), *GRADIENTS]
    expected = {f"{form}_{suffix}" for form in forms for suffix in c_table.SUFFIX.values()}
    entries = {name for name, _ in c_table.Api._fields_ if re.search(r"_b?f\d\d$", name)}
    assert {name for name in entries if not name.startswith("cross_entropy_")} == expected


# Where code names log_softmax: its implementation, and code that needs this very operation.
# Everything else goes through the table.
NAMES_LOG_SOFTMAX = {
    "cpp/include/boltzmax/boltzmax.h",
    "cpp/kernels/operations.hpp",
    "cpp/kernels/rows/softmax.hpp",
    "cpp/kernels/columns/columns.hpp",
    "cpp/kernels/columns/strip_groups.hpp",
    "cpp/kernels/panels/panels.hpp",
    "cpp/kernels/operations/backward.hpp",
    "cpp/kernels/operations/rows_of_one.hpp",
    "cpp/kernels/variants/weights.hpp",
    # From totals of rows that come in parts, the same two maps.
    "cpp/kernels/exact_total_types.hpp",
    "cpp/kernels/weighted/exact_totals.hpp",
    "cpp/core/weighted/exact_totals.cpp",
    "cpp/core/trees/marginals.cpp",
    "cpp/core/trees/path_scorer.hpp",
    # Devices have separate operations.
    "cpp/cuda/task.hpp",
    "cpp/cuda/rows.cu",
    "cpp/cuda/rows.cuh",
    "cpp/cuda/pieces.cuh",
    "cpp/cuda/on_chip_rows.cuh",
    "python/bindings/cuda.cpp",
    "python/bindings/plain_calls.cpp",
    # XLA's table of functions.
    "python/bindings/xla.cpp",
}


def test_operations_are_named_only_where_they_are_defined() -> None:
    found = set()
    for source in sources("cpp/include", "cpp/kernels", "cpp/core", "cpp/cuda", "python/bindings"):
        code = re.sub(r"//[^\n]*|^\s*#.*$", " ", source.read_text("utf-8"), flags=re.M)
        if re.search(r"\blog_softmax|LogSoftmax(?!Grad\b)", code) and "complex" not in source.stem:
            found.add(source.relative_to(ROOT).as_posix())
    assert found == NAMES_LOG_SOFTMAX


C_TYPES = ("float", "double", "uint16_t", "uint16_t")

TOY = """
#pragma once

#include "../panels/panels.hpp"
#include "backward.hpp"

namespace boltzmax::kernels {
namespace {

template <class S>
struct ToyOp : LogSoftmaxOp<S> {};
template <class Columns, class T>
inline void ToyStrip(const Columns& x, char* y, ptrdiff_t y_stride, const T& t) {
  LogSoftmaxStrip(x, y, y_stride, t);
}
template <bool kCoarse, bool kScaled, class Rows, class T>
inline void ToyTransposed(const Rows& panel, const T& t) {
  LogSoftmaxTransposed<kCoarse, kScaled>(panel, t);
}
template <bool kCoarse, bool kScaled, class Rows, class T, class Trial>
inline void ToyAlong(const Rows& panel, const T& t, void* scratch, Trial* trial) {
  LogSoftmaxAlong<kCoarse, kScaled>(panel, t, scratch, trial);
}
template <class V>
struct ToyGradient : LogSoftmaxGradient<V> {};

}  // namespace
}  // namespace boltzmax::kernels
"""

CHECK = """
#include "core/rows/softmax.hpp"
#include "include/boltzmax/boltzmax.h"

using boltzmax::Op;
static_assert(static_cast<int>(Op::kToy) == boltzmax::kOpCount - 1);
static_assert(HasGradient(Op::kToy) && NeedsLogSum(Op::kToy) && !Reduces(Op::kToy));
"""


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, (path, old)
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def test_a_new_table_line_adds_an_operation(tmp_path: Path) -> None:
    """Change only the table, the kernels and the header, as cpp/README.md describes."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("there is no compiler")
    cpp = tmp_path / "cpp"
    shutil.copytree(ROOT / "cpp", cpp)
    last = "  F(logsumexp, LogSumExp, kReduction, kLogSum, __VA_ARGS__)"
    toy = "  F(toy, Toy, kMapWithGradient, kLogSum, __VA_ARGS__)"
    edit(cpp / "kernels/operations.hpp", (last, f"{last} \\\n{toy}"))
    (cpp / "kernels/operations/toy.hpp").write_text(TOY, encoding="utf-8")
    edit(
        cpp / "kernels/operations/make_table.hpp",
        ('#include "backward.hpp"\n', '#include "backward.hpp"\n#include "toy.hpp"\n'),
    )
    declared = []
    for suffix, c in zip(c_table.SUFFIX.values(), C_TYPES, strict=True):
        rows = f"const {c}* x, ptrdiff_t rows, ptrdiff_t n"
        declared += [
            f"  int (*toy_{suffix})({rows}, {c}* y);\n",
            f"  int (*toy_at_{suffix})({rows}, double temperature, {c}* y);\n",
            f"  int (*toy_backward_{suffix})(const {c}* dy, {rows}, {c}* dx);\n",
        ]
    end = "} boltzmax_api;\n"
    edit(cpp / "include/boltzmax/boltzmax.h", (end, "".join(declared) + end))
    (cpp / "check.cpp").write_text(CHECK, encoding="utf-8")
    flags = ["-std=c++20", "-fsyntax-only", "-DNDEBUG", "-DBOLTZMAX_ISA=scalar"]
    flags.append('-DBOLTZMAX_ISA_HEADER="isa/scalar.hpp"')
    for name in ("check", "kernels/rows", "core/rows/softmax", "core/api/api", "core/api/strided"):
        command = [compiler, *flags, str(cpp / f"{name}.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

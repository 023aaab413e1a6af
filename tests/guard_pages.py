"""Run every kernel on arrays that touch inaccessible pages: ``python guard_pages.py ISA``.

A read or write beyond an array, masked or not, dies with SIGSEGV (which is why `test_layouts` runs
this as a separate process).  The last line printed names the case.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent))

import boltzmax
import boltzmax.testing
import ulp
from boltzmax import _core
from boltzmax.variants.exact_totals import Normalizer, totals_of
from operations import GRADIENTS, MAPS

Array = npt.NDArray[Any]
LENGTHS = (*range(1, 201), 255, 256, 257, 1000, 1024, 1025, 4095, 4096, 4097, 10_000)
PAGE = mmap.PAGESIZE
PROT_NONE = 0


class Arena:
    """Accessible pages between two inaccessible ones."""

    def __init__(self, nbytes: int) -> None:
        self.size = -(-nbytes // PAGE) * PAGE
        self.map = mmap.mmap(-1, self.size + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for page in (start, start + PAGE + self.size):
            if libc.mprotect(page, PAGE, PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], at_end: bool) -> Array:
        """An array that ends with the last accessible page, or starts with the first."""
        nbytes = int(np.prod(shape)) * dtype.itemsize
        offset = PAGE + (self.size - nbytes if at_end else 0)
        raw = np.frombuffer(self.map, np.uint8, nbytes, offset)
        result: Array = raw.view(dtype).reshape(shape)
        return result


class Case:
    """Arrays of one dtype, each in a separate arena, filled with numbers."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.arenas = [Arena(80 * 10_000 * 8) for _ in range(4)]
        self.numbers = np.random.default_rng(0).uniform(-4, 0, 80 * 10_000).astype(dtype)

    def array(self, number: int, shape: tuple[int, ...], at_end: bool) -> Array:
        x = self.arenas[number].array(shape, self.dtype, at_end)
        x[...] = self.numbers[: x.size].reshape(shape)
        return x

    def mask(self, shape: tuple[int, ...], at_end: bool) -> Array:
        mask = self.arenas[3].array(shape, np.dtype(bool), at_end)
        mask[...] = self.numbers[: mask.size].reshape(shape) > -3
        return mask


def dtypes() -> Iterator[np.dtype[Any]]:
    for name in ulp.DTYPES:
        try:
            yield ulp.dtype_of(name)
        except ImportError:
            print(f"without {name}")


def exercise(case: Case, shape: tuple[int, ...], axis: int, at_end: bool) -> None:
    x, out, y = (case.array(i, shape, at_end) for i in range(3))
    where = case.mask(shape, at_end)
    reduced = x.any(axis=axis)
    sums = case.array(1, reduced.shape, at_end)
    for op in MAPS:
        function: Callable[..., Any] = getattr(boltzmax, op)
        function(x, axis)
        function(x, axis, out=out)
        function(x, axis, where=where, out=out)
        function(x[::-1], axis, out=out)
        function(y, axis, out=y)
    boltzmax.logsumexp(x, axis)
    boltzmax.logsumexp(x, axis, out=sums if sums.ndim else None)
    boltzmax.logsumexp(x, axis, where=where, temperature=np.ones(reduced.shape))
    for op in GRADIENTS:
        function = getattr(boltzmax, op)
        function(x, y, axis)
        function(x, y, axis, out=out)
        function(x, y, axis, out=y)
    if x.ndim == 2 and axis == 1 and x.dtype.itemsize >= 4:
        exercise_totals(x, out)


def exercise_short_rows(case: Case, n: int, at_end: bool) -> None:
    """Whole panels and parts of one, whose last row is not the last in memory."""
    for rows in (1, 3, 16, 35):
        x, out = case.array(0, (rows, n), at_end), case.array(1, (rows, n), at_end)
        indptr = np.arange(rows + 1) * n
        for op in MAPS:
            getattr(boltzmax, op)(x, out=out[::-1])
            getattr(boltzmax, op)(x[::-1], out=out)
            getattr(boltzmax, f"segment_{op}")(x.ravel(), indptr, out=out.ravel())


def exercise_totals(x: Array, out: Array) -> None:
    for temperature in (1.0, 0.7):
        rows = Normalizer(totals_of(x, 0, temperature), temperature)
        for wants_log in (False, True):
            _core.exact_totals_map(x, temperature, rows.max, rows.log_sum, rows.sum, wants_log, out)


def main(isa: str) -> None:
    with boltzmax.testing.use_isa(isa):
        for dtype in dtypes():
            case = Case(dtype)
            for n, at_end in itertools.product(LENGTHS, (True, False)):
                print(isa, dtype, "rows", n, "at the end" if at_end else "at the start", flush=True)
                exercise(case, (n,), 0, at_end)
                exercise(case, (3, n), 1, at_end)
                if n <= 40:
                    exercise_short_rows(case, n, at_end)
            for columns, at_end in itertools.product((*range(1, 71), 80), (True, False)):
                print(
                    isa,
                    dtype,
                    "columns",
                    columns,
                    "at the end" if at_end else "at the start",
                    flush=True,
                )
                for n in (1, 2, 9, 130):
                    exercise(case, (n, columns), 0, at_end)
                exercise(case, (2, 5, columns), 1, at_end)
    print("all within bounds")


if __name__ == "__main__":
    main(sys.argv[1])

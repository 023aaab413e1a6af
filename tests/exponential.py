"""The worst error of the vector exponential over all float32, and the input where it occurs.

    python tests/exponential.py                  # all 2**31 non-positive float32: minutes
    python tests/exponential.py --step 4099      # a sample of them
    python tests/exponential.py --dtype float64  # 2**26 numbers, random and hand-picked

It is tested as shipped: with one gradient of 1 and zeros elsewhere, log_softmax_backward returns
exactly ``-exp(y)``.  float32 is compared with exp in float64 (within 2**-28 ULP), float64 with exp
in long double.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import boltzmax
import boltzmax.testing
import oracle
import ulp

Array = npt.NDArray[Any]

# The worst errors in ULP of the result, and their inputs, by kind of arithmetic: float32 over all
# non-positive numbers, float64 over the sample below. The page on accuracy and exp.hpp quote them.
WORST = {
    name: {kind: (error, float.fromhex(at)) for kind, (error, at) in kinds.items()}
    for name, kinds in {
        "float32": {
            "table": (0.7663, "-0x1.5d9664p+6"),
            "fma": (0.8914, "-0x1.765026p+2"),
            "scalar": (1.1761, "-0x1.df6e9ep+5"),
        },
        "float64": {
            "table": (0.7759, "-0x1.624ec288cd7a5p+9"),
            "fma": (0.9083, "-0x1.46a45a1f17a25p+9"),
            "scalar": (1.2002, "-0x1.40e961ea3cce5p+7"),
        },
    }.items()
}
CHUNK = 1 << 16


def arithmetic(isa: str) -> str:
    """The kind of arithmetic: instruction sets of one kind compute the same bits."""
    return {"avx512": "table", "scalar": "scalar"}.get(isa, "fma")


def exponential(y: Array) -> Array:
    """exp(y), computed by the kernels in use."""
    row = np.zeros(y.size + 1, y.dtype)
    row[1:] = y
    dy = np.zeros_like(row)
    dy[0] = 1
    return -boltzmax.log_softmax_backward(dy, row)[1:]


@np.errstate(all="ignore")
def exact_and_unit(y: Array) -> tuple[Array, Array]:
    """exp(y) in a wider type, and the spacing of the numbers of y's type there."""
    exact = np.exp(y.astype(oracle.wide(y.dtype)))
    if y.dtype != np.float32:
        return exact, ulp.ulp(exact, y.dtype)
    # As in `ulp.ulp`, from the bits: the exponent minus 23.
    bits = np.maximum(exact, np.finfo(np.float32).tiny).view(np.int64)
    return exact, ((bits & (0x7FF << 52)) - (23 << 52)).view(np.float64)


@np.errstate(invalid="ignore")
def errors(got: Array, exact: Array, unit: Array) -> Array:
    """The errors in ULP; infinite where only one of the two is NaN."""
    error = np.abs(got - exact) / unit
    nan = np.isnan(exact)
    if nan.any() or not np.isfinite(got).all():
        error = np.where(nan, np.where(np.isnan(got), 0, np.inf), error)
        error = np.where(np.isnan(error), np.inf, error)
    return error


@dataclass
class Worst:
    """The worst error of one instruction set."""

    error: float = -1.0
    at: float = 0.0

    def see(self, y: Array, error: Array) -> None:
        at = int(np.argmax(error))
        if error[at] > self.error:
            self.error, self.at = float(error[at]), float(y[at])


def measure(numbers: Iterable[Array], isas: Iterable[str]) -> tuple[dict[str, Worst], int]:
    """The worst error of each instruction set, and how many numbers were tested."""
    worst = {isa: Worst() for isa in isas}
    count = 0
    for y in numbers:
        exact, unit = exact_and_unit(y)
        count += y.size
        for isa, w in worst.items():
            with boltzmax.testing.use_isa(isa):
                got = exponential(y)
            w.see(y, errors(got, exact, unit))
    return worst, count


def floats32(step: int = 1) -> Iterator[Array]:
    """Every `step`-th float32 with the sign bit set: -0 to -inf, and the NaNs."""
    for start in range(1 << 31, 1 << 32, step * CHUNK):
        stop = min(start + step * CHUNK, 1 << 32)
        yield np.arange(start, stop, step, dtype=np.int64).astype(np.uint32).view(np.float32)


def floats64(count: int = 1 << 26, seed: int = 5) -> Iterator[Array]:
    """Non-positive float64: special values, ends of the reduced range, and two random kinds."""
    yield np.array([-0.0, -5e-324, -1e-300, -708.4, -745.13, -745.14, -1e308, -np.inf, np.nan])
    # exp(x) = 2^(k/8) exp(r): |r| is largest at odd multiples of ln(2)/16, and 0 at even ones.
    ends = -np.arange(8 * 2160) * (np.log(2) / 16)
    yield (ends[:, None] * (1 + np.arange(-16, 17) * 2.0**-52)).ravel()
    rng = np.random.default_rng(seed)
    for _ in range(0, count, 2 * CHUNK):
        yield -rng.uniform(0, 746, CHUNK)
        yield -(2.0 ** rng.uniform(-60, 9.6, CHUNK))


def numbers(dtype: str, step: int) -> Iterator[Array]:
    return floats32(step) if dtype == "float32" else floats64((1 << 26) // step)


def main() -> None:
    parser = argparse.ArgumentParser(description="the worst error of the vector exponential")
    parser.add_argument("--step", type=int, default=1, help="test one number in STEP")
    parser.add_argument("--dtype", choices=tuple(WORST), default="float32")
    parser.add_argument("--isa", action="append", help="instead of all that this machine has")
    options = parser.parse_args()
    isas = options.isa or boltzmax.available_isas()
    worst, count = measure(numbers(options.dtype, options.step), isas)
    print(f"{count:,} numbers of {options.dtype}, from -0 to -inf, and NaN")
    for isa, w in worst.items():
        print(f"{isa}: {math.ceil(1e4 * w.error) / 1e4:.4f} ULP at {w.at.hex()}, which is {w.at!r}")


if __name__ == "__main__":
    main()

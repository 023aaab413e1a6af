"""Inputs of every kind, drawn by hypothesis, and checks of the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck
from hypothesis import strategies as st

import oracle
import rows
import ulp
from layouts import LAYOUTS, Axis, rows_of

Array = npt.NDArray[Any]

# How many inputs each test has seen in this process; pytest prints it at the end.
seen: Counter[str] = Counter()

INTEGERS = ("bool", "int8", "uint8", "int16", "int32", "int64", "uint64")
# Small sizes, 0 and 1 included, and sizes around the widths of vectors and blocks.
SIDES = st.one_of(
    st.integers(0, 5), st.sampled_from([7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 300])
)
SHAPES = st.lists(SIDES, max_size=4).map(tuple).filter(lambda s: np.prod(s) <= 20_000)
SPECIAL = (np.nan, np.inf, -np.inf, -0.0, 1.0)
SEEDS = st.integers(0, 2**32 - 1)


def register_profiles() -> None:
    """Register the profiles for ``--hypothesis-profile=``.

    `default`, the suite's, draws the same inputs every time, so that it is reproducible. `new`
    draws different inputs each time, and `long` many of them.
    """
    quiet = {
        "deadline": None,
        # The fixtures apply to all examples.
        "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    }
    register = hypothesis.settings.register_profile
    register("default", max_examples=100, derandomize=True, **quiet)
    register("new", max_examples=100, derandomize=False, **quiet)
    register("long", max_examples=5_000, derandomize=False, **quiet)
    hypothesis.settings.load_profile("default")


def attempt(call: Callable[[], Any], *errors: type[Exception]) -> tuple[Any, Exception | None]:
    """Return the result of a call, or the error that it raises; its message must not be empty."""
    try:
        return call(), None
    except errors as error:
        if not str(error):
            raise AssertionError(f"{error!r} has no message") from error
        return None, error


# ---- inputs


@st.composite
def contents(draw: st.DrawFn, shape: tuple[int, ...], name: str, special: bool = True) -> Array:
    """Numbers of one of the kinds in `rows`, with scattered NaN, infinities and zeros."""
    size = int(np.prod(shape))
    rng = np.random.default_rng(draw(SEEDS))
    if name in INTEGERS:
        top = min(
            draw(st.sampled_from([1, 100, 2**62])), np.iinfo(name).max if name != "bool" else 1
        )
        low = -top if name.startswith("int") else 0
        return rng.integers(low, top, size, np.int64, endpoint=True).astype(name).reshape(shape)
    dtype = ulp.dtype_of(name)
    kind = rows.KINDS[draw(st.sampled_from(list(rows.KINDS)))]
    x = kind(rng, size, ulp.format_of(dtype)) if size else np.zeros(0)
    if special and size:
        places = st.tuples(st.integers(0, size - 1), st.sampled_from(SPECIAL))
        for at, value in draw(st.one_of(st.just([]), st.lists(places, max_size=4))):
            x[at] = value
    with np.errstate(over="ignore"):
        return x.astype(dtype).reshape(shape)


@st.composite
def laid_out(draw: st.DrawFn, x: Array, as_out: bool = False) -> Array:
    """The same numbers in another layout: strides of any sign or zero, offsets, byte order."""
    if x.dtype.kind in "iuf" and not as_out and draw(st.integers(0, 7)) == 0:
        x = x.astype(x.dtype.newbyteorder())
    if x.ndim == 0:
        return x
    x = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](x)
    if x.size and not as_out and draw(st.integers(0, 7)) == 0:
        axis = draw(st.integers(0, x.ndim - 1))
        x = np.broadcast_to(x.take([0], axis), x.shape)
    return x


@st.composite
def transposed(draw: st.DrawFn, x: Array) -> Array:
    return x.transpose(draw(st.permutations(range(x.ndim)))) if x.ndim > 1 else x


@st.composite
def arrays(draw: st.DrawFn, names: tuple[str, ...], special: bool = True) -> Array:
    name = draw(st.sampled_from(names))
    x = draw(laid_out(draw(contents(draw(SHAPES), name, special))))
    return draw(st.one_of(st.just(x), transposed(x)))


def axes_of(ndim: int) -> st.SearchStrategy[Axis]:
    if ndim == 0:
        return st.sampled_from([None, -1, 0, ()])
    several = st.lists(st.sampled_from(range(ndim)), unique=True).map(tuple)
    return st.one_of(st.none(), st.integers(-ndim, ndim - 1), several)


def masks_of(shape: tuple[int, ...]) -> st.SearchStrategy[Array | None]:
    """None, or booleans that broadcast to the shape."""

    def mask(seed: int, density: float, flat: list[bool]) -> Array:
        sides = [1 if f else n for f, n in zip(flat, shape, strict=True)]
        return np.asarray(np.random.default_rng(seed).random(sides) < density)

    flat = st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))
    made = st.builds(mask, SEEDS, st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), flat)
    return st.one_of(st.none(), made.flatmap(laid_out))


def temperatures_of(x: Array, axis: Axis) -> st.SearchStrategy[Any]:
    """One number, or one per row with or without the reduced axes."""
    others = rows_of(x, axis)[1]
    reduced = normalized(axis, x.ndim)
    kept = tuple(1 if a in reduced else n for a, n in enumerate(x.shape))
    usual = st.one_of(st.just(1.0), st.floats(0.05, 20), st.sampled_from([1e-30, 1e-3, 1e6, 1e30]))

    def per_row(shape: tuple[int, ...], seed: int) -> Array:
        return np.asarray(2.0 ** np.random.default_rng(seed).uniform(-5, 5, shape))

    return st.one_of(usual, st.builds(per_row, st.sampled_from([others, kept]), SEEDS))


def normalized(axis: Axis, ndim: int) -> tuple[int, ...]:
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(a % max(ndim, 1) for a in axes)) if ndim else ()


# ---- checks of results


@np.errstate(all="ignore")
def excess(op: str, got: Array, x: Array, where: Array, temperature: Array) -> Array:
    """By how much the results for the rows of a matrix exceed their budgets; 0 if they do not.

    Special values must match the table in the documentation exactly. `temperature` is a column.
    """
    exists = where & np.isnan(x.astype(np.float64))
    nan = exists.any(-1, keepdims=True)
    top = np.where(where, x.astype(np.float64), -np.inf).max(-1, keepdims=True, initial=-np.inf)
    masked = ~where.any(-1, keepdims=True)
    usual = np.isfinite(top) & ~nan
    expected = degenerate(op, x, where, nan, top, masked)
    if op == "logsumexp":
        usual, top = usual[:, 0], top[:, 0]
    special = np.where(same(got, expected), 0, np.inf)
    return np.where(usual, ordinary(op, got, x, where, temperature), special)


def same(got: Array, expected: Array) -> Array:
    got = got.astype(np.float64)
    return (got == expected) | (np.isnan(got) & np.isnan(expected))


def degenerate(op: str, x: Array, where: Array, nan: Array, top: Array, masked: Array) -> Array:
    """Rows without a finite maximum."""
    if op == "logsumexp":
        return np.where(nan, np.nan, top)[:, 0]
    if op == "softmax":
        return np.where(where, np.nan, 0.0)
    below = np.where(np.isposinf(x.astype(np.float64)) | np.isneginf(top), np.nan, -np.inf)
    return np.where(where, np.where(nan, np.nan, below), -np.inf)


def ordinary(op: str, got: Array, x: Array, where: Array, temperature: Array) -> Array:
    """The excess over the budget plus the cost of rounding x / T."""
    if x.shape[-1] == 0:
        return np.zeros(got.shape)
    finite = np.where(where & np.isfinite(x.astype(np.float64)), x, 0)
    bad = ~(where & np.isfinite(x.astype(np.float64))).any(-1, keepdims=True)
    calm = np.where(bad | ~(x.astype(np.float64) < np.inf), x.dtype.type(0), x)
    exact = oracle.exact(calm, temperature=temperature, where=where | bad)
    error, budget = (f(op, got, exact, x.dtype) for f in (ulp.error, ulp.budget))
    eps = max(ulp.format_of(x.dtype).eps, 2.0**-52)
    size = 2 * eps * np.abs(finite.astype(budget.dtype)).max(-1) / temperature[:, 0]
    size = np.where(temperature[:, 0] == 1, 0, size)
    if op != "logsumexp":
        size = size[:, None] * (exact.softmax if op == "softmax" else 1)
    return np.where(error <= budget + size, 0, error / budget)

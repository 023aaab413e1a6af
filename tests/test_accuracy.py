"""Accuracy budgets: operation x dtype x instruction set x kind of row, 1 to 10**7 elements."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import boltzmax.testing
import oracle
import rows
import ulp

Array = npt.NDArray[Any]


def case(kind: str, n: int, name: str) -> tuple[Array, oracle.Exact]:
    x = rows.make(kind, n, ulp.dtype_of(name))
    return x, oracle.exact(x)


small_case, long_case = cache(case), lru_cache(maxsize=1)(case)


def check(op: str, x: Array, exact: oracle.Exact, *, step: int = 1, what: str = "") -> None:
    """Check every `step`-th result of a call against its budget."""
    got = np.asarray(getattr(boltzmax, op)(x))
    if step > 1 and op != "logsumexp":
        x, got, exact = x[::step], got[::step], exact.columns(slice(None, None, step))
    share = np.atleast_1d(ulp.of_budget(op, got, exact, x.dtype))
    at = int(np.argmax(share))
    if share[at] <= 1:
        return
    results, value = np.atleast_1d(got), np.atleast_1d(exact.result(op))
    units = np.atleast_1d(ulp.in_units(op, got, exact, x.dtype))
    pytest.fail(
        f"{op} {x.dtype} {what} n={x.size}: {share[at]:.3g} of the budget "
        f"({units[at]:.3g} {'eps' if op == 'softmax' else 'ULP'}) at [{at * step}]: "
        f"x = {float(x[at])!r}, max = {float(x.max())!r}, "
        f"got {float(results[at])!r}, exact {value[at]!r}; "
        f"{int((share > 1).sum())} of {share.size} results are outside"
    )


def check_all(op: str, kind: str, lengths: Iterable[int], dtype: np.dtype[Any]) -> None:
    for n in lengths:
        check(op, *small_case(kind, n, dtype.name), what=kind)


@pytest.mark.parametrize("kind", rows.KINDS)
@pytest.mark.parametrize("op", ulp.OPS)
def test_every_tail(isa: str, dtype: np.dtype[Any], op: str, kind: str) -> None:
    check_all(op, kind, rows.TAILS, dtype)


@pytest.mark.parametrize("kind", rows.KINDS)
@pytest.mark.parametrize("op", ulp.OPS)
def test_around_blocks(isa: str, dtype: np.dtype[Any], op: str, kind: str) -> None:
    check_all(op, kind, rows.LENGTHS, dtype)


@pytest.mark.parametrize("kind", rows.KINDS)
def test_long_rows(isa: str, dtype: np.dtype[Any], kind: str) -> None:
    for n in rows.LONG:
        if not oracle.usable(n, dtype):
            pytest.skip("long double is no wider than float64 here")
        case = long_case(kind, n, dtype.name)
        for op in ulp.OPS:
            check(op, *case, what=kind)


@pytest.mark.parametrize("n", rows.LONGEST)
@pytest.mark.parametrize("kind", ["normal", "far_constant", "vanishing"])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_longest_rows(name: str, kind: str, n: int) -> None:
    """All instruction sets in one test, to share the exact results.

    Every seventh result is checked, which covers all lanes of a vector: checking takes the time.
    """
    if not oracle.usable(n, np.dtype(name)):
        pytest.skip("long double is no wider than float64 here")
    case = long_case(kind, n, name)
    for isa in boltzmax.available_isas():
        with boltzmax.testing.use_isa(isa):
            for op in ulp.OPS:
                check(op, *case, step=7, what=f"{kind} {isa}")


def test_more_elements_than_int32() -> None:
    """2**31 + 10 elements: one broadcast number."""
    n = 2**31 + 10
    x = np.broadcast_to(np.float32(0.5), (n,))
    expected = 0.5 + math.log(n)
    assert abs(float(boltzmax.logsumexp(x)) - expected) <= 1.5 * float(ulp.ulp(expected, x.dtype))


@pytest.mark.parametrize("n", [16, 33, 50, 100, 160, 257, 500])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_few_terms(isa: str, name: str, n: int) -> None:
    """A large and a second term, whose rounding errors show in the logarithm of their sum."""
    rng = np.random.default_rng(n)
    for scale in (1, 4, 10):
        x = (scale * rng.standard_normal((2_000, n))).astype(name)
        exact = oracle.exact(x)
        for op in ("log_softmax", "logsumexp"):
            share = ulp.of_budget(op, getattr(boltzmax, op)(x), exact, x.dtype)
            assert share.max() <= 1, (op, scale, np.unravel_index(np.argmax(share), share.shape))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 17, 33])
@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_many_short_rows(isa: str, name: str, op: str, n: int) -> None:
    """20,000 rows at once, in which no error averages out."""
    x = rows.many_short(n, np.dtype(name))
    exact = oracle.exact(x)
    share = ulp.of_budget(op, getattr(boltzmax, op)(x), exact, x.dtype)
    at = np.unravel_index(np.argmax(share), share.shape)
    assert share.max() <= 1, f"{share[at]:.3g} of the budget in the row {x[at[0]].tolist()}"


def test_tiny_terms_do_not_vanish(isa: str) -> None:
    """The digits that log(1 + tiny) loses."""
    exact = math.log1p(math.exp(-40))
    for name in ("float32", "float64"):
        dtype = np.dtype(name)
        unit = float(ulp.ulp(exact, dtype))
        got = boltzmax.log_softmax(np.array([0, 40], dtype))
        assert got.dtype == dtype
        assert got[0] == -40
        assert abs(float(got[1]) + exact) <= unit
        for pair in ([0, -40], [-40, 0]):
            assert abs(float(boltzmax.logsumexp(np.array(pair, dtype))) - exact) <= unit
    # The same with the largest elsewhere in a longer row, and with more than one tiny term.
    x = np.full(1000, -40.0)
    for at in (0, 1, 500, 999):
        x[:] = -40.0
        x[at] = 0.0
        assert float(boltzmax.logsumexp(x)) == pytest.approx(
            math.log1p(999 * math.exp(-40)), rel=4e-16
        )
        assert float(boltzmax.log_softmax(x)[at]) == pytest.approx(
            -math.log1p(999 * math.exp(-40)), rel=4e-16
        )


@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 4097])
def test_equal_elements_are_exact(isa: str, name: str, n: int) -> None:
    """exp(0) = 1 and a sum of ones are exact, so softmax is 1/n, and exact for powers of two."""
    y = boltzmax.softmax(np.full(n, -3.7, name))
    assert np.unique(y).size == 1
    assert abs(float(y[0]) * n - 1) <= np.finfo(name).eps
    if n & (n - 1) == 0:
        assert y[0] == 1 / n


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [0.1, 0.7, 3.0, 25.0])
def test_temperature(isa: str, name: str, op: str, temperature: float) -> None:
    """``op(x / T)``: 1/T and the product are rounded, which moves every element by at most eps.

    That much is added to the budget, for the element and for the largest.
    """
    x = rows.make("normal", 777, np.dtype(name))
    exact = oracle.exact(x, temperature=temperature)
    got = getattr(boltzmax, op)(x, temperature=temperature)
    scaled = np.abs(x.astype(exact.difference.dtype)) / temperature
    moved = np.finfo(name).eps * (scaled + scaled.max())
    if op == "softmax":
        moved = moved * exact.softmax
    elif op == "logsumexp":
        moved = moved.max()
    excess = ulp.error(op, np.asarray(got), exact, x.dtype) - ulp.budget(
        op, np.asarray(got), exact, x.dtype
    )
    assert (excess <= moved).all()


@pytest.mark.parametrize("op", ulp.OPS)
def test_where(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """A mask does not change the accuracy."""
    rng = np.random.default_rng(3)
    for n in (1, 2, 5, 16, 33, 100, 4097):
        x = rows.make("wide", n, dtype, seed=1)
        where = rng.random(n) < 0.6
        where[rng.integers(n)] = True
        exact = oracle.exact(x, where=where)
        got = np.asarray(getattr(boltzmax, op)(x, where=where))
        assert ulp.of_budget(op, got, exact, dtype).max() <= 1, n

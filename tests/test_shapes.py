"""taylor_softmax, spherical_softmax and sigsoftmax: special values, sizes, options and peers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax

Array = npt.NDArray[Any]

pytestmark = pytest.mark.usefixtures("strict")

LENGTHS = (4, 37, 300)  # by panels, and row by row
LARGE = {"float16": 6e4, "bfloat16": 1e38, "float32": 1e38, "float64": 1e300}
SMALL = {"float16": 1e-7, "bfloat16": 1e-38, "float32": 1e-44, "float64": 1e-320}
MAPS: dict[str, Callable[..., Any]] = {
    "taylor": boltzmax.taylor_softmax,
    "spherical": boltzmax.spherical_softmax,
    "sigsoftmax": boltzmax.sigsoftmax,
}
LOGS: dict[str, Callable[..., Any]] = {
    "taylor": boltzmax.log_taylor_softmax,
    "sigsoftmax": boltzmax.log_sigsoftmax,
}
every_map = pytest.mark.parametrize("name", MAPS)


def rows(n: int, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(n).normal(size=(20, n)).astype(dtype)


# ---- special values


@every_map
@pytest.mark.parametrize("n", LENGTHS)
def test_special_values(isa: str, dtype: np.dtype[Any], name: str, n: int) -> None:
    """As softmax's: NaN, -inf only and +inf give NaN; -inf next to finite numbers gives 0."""
    function, x = MAPS[name], rows(n, dtype)
    x[2, n // 2], x[4], x[6, 1], x[8, 1] = np.nan, -np.inf, np.inf, -np.inf
    got = function(x).astype(np.float64)
    assert np.isnan(got[[2, 4, 6]]).all()
    others = np.delete(np.arange(20), [2, 4, 6])
    np.testing.assert_allclose(got[others].sum(axis=1), 1, rtol=n * 2.0**-9)
    assert got[8, 1] == 0
    assert (np.delete(got[8], 1) > 0).all()
    nothing = function(x, where=np.zeros(n, bool))
    assert not nothing.astype(np.float64).any()


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("n", LENGTHS)
def test_special_values_of_logarithms(isa: str, dtype: np.dtype[Any], name: str, n: int) -> None:
    function, x = LOGS[name], rows(n, dtype)
    x[2, n // 2], x[4], x[6, 1], x[8, 1] = np.nan, -np.inf, np.inf, -np.inf
    got = function(x).astype(np.float64)
    assert np.isnan(got[[2, 4]]).all()
    assert np.isnan(got[6, 1])
    assert (np.delete(got[6], 1) == -np.inf).all()
    assert got[8, 1] == -np.inf
    assert np.isfinite(np.delete(got[8], 1)).all()
    nothing = function(x, where=np.zeros(n, bool)).astype(np.float64)
    assert (nothing == -np.inf).all()


@pytest.mark.parametrize("n", LENGTHS)
def test_a_spherical_row_of_zeros_is_uniform(isa: str, dtype: np.dtype[Any], n: int) -> None:
    x = np.zeros((20, n), dtype)
    x[3, 0], x[5, 2:] = -np.inf, -np.inf
    got = boltzmax.spherical_softmax(x).astype(np.float64)
    np.testing.assert_allclose(got[0], 1 / n, rtol=2.0**-8)
    np.testing.assert_allclose(got[3, 1:], 1 / (n - 1), rtol=2.0**-8)
    np.testing.assert_array_equal(got[5, :2], 0.5)
    assert not got[3, 0]
    assert not got[5, 2:].any()
    kept = boltzmax.spherical_softmax(x[:1], where=np.arange(n) < 2).astype(np.float64)
    np.testing.assert_array_equal(kept[0], (np.arange(n) < 2) / 2)


# ---- large and small numbers


@pytest.mark.parametrize("n", LENGTHS)
def test_sizes_cancel(isa: str, dtype: np.dtype[Any], n: int) -> None:
    """x^2 and x^order in the limit leave the range of the dtype; their shares do not."""
    weights = np.arange(1, n + 1) / n
    signs = np.where(np.arange(n) % 2, -1.0, 1.0)
    for size, order in ((LARGE[dtype.name], 2), (LARGE[dtype.name], 12), (SMALL[dtype.name], 2)):
        with np.errstate(all="ignore"):
            x = (size * signs * weights).astype(dtype)
        exact = x.astype(np.longdouble) / np.longdouble(x.astype(np.longdouble)[-1])
        want = (exact**order / (exact**order).sum()).astype(np.float64)
        limit = 24 * want.max() * max(2.0**-24, float(2.0**-9 if dtype.itemsize == 2 else 0))
        got = boltzmax.taylor_softmax(x, order=order, temperature=0.0)
        np.testing.assert_allclose(got.astype(np.float64), want, atol=limit)
        if order == 2:
            spherical = boltzmax.spherical_softmax(x)
            np.testing.assert_array_equal(spherical, got)
        if size > 1e30:
            at_1 = boltzmax.taylor_softmax(x, order=order)
            np.testing.assert_allclose(at_1.astype(np.float64), want, atol=limit)


@pytest.mark.parametrize("order", [2, 4, 12])
def test_logarithms_of_probabilities_that_underflow(isa: str, order: int) -> None:
    for dtype, size in ((np.float32, 1e38), (np.float64, 1e300)):
        x = np.array([0.0, -1.0, size], dtype)
        wide = x.astype(np.longdouble)
        factorials = np.cumprod([1.0, *range(1, order + 1)])
        small = np.log(sum(wide[:2] ** k / factorials[k] for k in range(order + 1)))
        top = order * np.log(wide[2]) - np.log(factorials[order])
        got = boltzmax.log_taylor_softmax(x, order=order)
        want = np.array([*(small - top), 0.0], np.float64)
        np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, atol=1e-15)


@pytest.mark.parametrize("n", LENGTHS)
def test_sigsoftmax_far_from_zero(isa: str, dtype: np.dtype[Any], n: int) -> None:
    """It is softmax(x) far above zero, and softmax(2x) far below."""
    for shift in (-1000.0, -200.0, 200.0, 1000.0, 30000.0):
        x = (np.round(rows(n)) + shift).astype(dtype)
        gain = dtype.type(2 if shift < 0 else 1)
        want = boltzmax.softmax(gain * x).astype(np.float64)
        limit = 4 * float(2.0**-7 if dtype.itemsize == 2 else 2.0**-23)
        np.testing.assert_allclose(boltzmax.sigsoftmax(x).astype(np.float64), want, atol=limit)
        log_want = boltzmax.log_softmax((gain * x).astype(np.float64))
        got = boltzmax.log_sigsoftmax(x).astype(np.float64)
        np.testing.assert_allclose(got, log_want, rtol=limit, atol=limit)


def test_gradients_of_large_numbers_are_finite(isa: str) -> None:
    for n in LENGTHS:
        dy = rows(n, np.float32)
        for size in (1e-44, 1e-20, 1e20, 3e38):
            with np.errstate(under="ignore"):
                x = np.float32(size) * np.sign(dy) * np.float32(0.5)
            for name in ("taylor_softmax", "log_taylor_softmax", "sigsoftmax", "log_sigsoftmax"):
                assert np.isfinite(getattr(boltzmax, f"{name}_backward")(dy, x)).all(), name


# ---- temperature, order


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", ["taylor", "sigsoftmax"])
def test_temperature_divides(isa: str, name: str, n: int) -> None:
    x, each = rows(n), np.linspace(0.25, 4, 20)
    for functions in (MAPS, LOGS):
        got = functions[name](x, temperature=each)
        want = functions[name](x / each[:, None])
        np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize("n", LENGTHS)
def test_temperature_0_is_the_limit(isa: str, n: int) -> None:
    x = rows(n)
    x[3, 1] = x[3].max() + 1
    x[3, 2] = x[3, 1]
    hot = boltzmax.sigsoftmax(x, temperature=0.0)
    largest = x == x.max(axis=1, keepdims=True)
    np.testing.assert_array_equal(hot, largest / largest.sum(axis=1, keepdims=True))
    logs = boltzmax.log_sigsoftmax(x, temperature=0.0)
    np.testing.assert_array_equal(np.isfinite(logs), largest)
    for order in (2, 6):
        limit = boltzmax.taylor_softmax(x, order=order, temperature=0.0)
        near = boltzmax.taylor_softmax(x, order=order, temperature=1e-12)
        np.testing.assert_allclose(limit, near, atol=1e-9)
        log_limit = boltzmax.log_taylor_softmax(x, order=order, temperature=0.0)
        np.testing.assert_allclose(np.exp(log_limit), limit, atol=1e-14)
    zeros = boltzmax.log_taylor_softmax([0.0, 1.0], temperature=0.0)
    np.testing.assert_array_equal(zeros, [-np.inf, 0.0])


def test_higher_orders_approach_softmax(isa: str) -> None:
    x, want = rows(10), boltzmax.softmax(rows(10))
    errors = [
        np.abs(boltzmax.taylor_softmax(x, order=order) - want).max() for order in range(2, 13, 2)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("order", [1, 3, 0, -2, 14])
def test_bad_orders(order: int) -> None:
    out = np.full(3, 7.0)
    message = f"order must be an even number from 2 to 12, got {order}"
    for function in (boltzmax.taylor_softmax, boltzmax.log_taylor_softmax):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            function([1.0, 2.0, 3.0], order=order, out=out)
    for function in (boltzmax.taylor_softmax_backward, boltzmax.log_taylor_softmax_backward):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            function(np.ones(3), [1.0, 2.0, 3.0], order=order, out=out)
    assert (out == 7).all()


def test_bad_temperatures() -> None:
    for function in (boltzmax.taylor_softmax, boltzmax.sigsoftmax):
        with pytest.raises(ValueError, match="temperature must be >= 0"):
            function([1.0, 2.0], temperature=-1.0)
    for backward in (boltzmax.sigsoftmax_backward, boltzmax.log_sigsoftmax_backward):
        with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
            backward([1.0, 2.0], [1.0, 2.0], temperature=0.0)
    with pytest.raises(ValueError, match=r"dy has shape \(2,\), but x has shape \(3,\)"):
        boltzmax.sigsoftmax_backward([1.0, 2.0], [1.0, 2.0, 3.0])


# ---- peers


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    x, dy = rows(9), rows(9)[::-1].copy()
    formulas = {
        "taylor_softmax": lambda t: 1 + t + t**2 / 2,
        "spherical_softmax": lambda t: t**2,
        "sigsoftmax": lambda t: torch.exp(t) * torch.sigmoid(t),
    }
    for name, weights in formulas.items():
        t = torch.tensor(x, requires_grad=True)
        w = weights(t)
        p = w / w.sum(dim=1, keepdim=True)
        p.backward(torch.tensor(dy))
        np.testing.assert_allclose(getattr(boltzmax, name)(x), p.detach().numpy(), rtol=1e-13)
        got = getattr(boltzmax, f"{name}_backward")(dy, x)
        np.testing.assert_allclose(got, t.grad.numpy(), rtol=1e-9, atol=1e-14)

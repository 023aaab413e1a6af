"""What holds for every function in `boltzmax.variants`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax.variants
from boltzmax.testing import use_isa
from layouts import LAYOUTS
from variant_samples import VARIANTS, Array, Variant

pytestmark = pytest.mark.usefixtures("strict")

LENGTHS = (*range(1, 41), 63, 64, 65, 100, 255, 256, 257, 1000, 4097)
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    return VARIANTS[request.param]


def scores(shape: Any, dtype: Any, variant: Variant, seed: int = 0) -> Array:
    with np.errstate(under="ignore"):
        return (variant.scale * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def exact(variant: Variant, x: Array) -> Array:
    """The results of the rows of a matrix in long double."""
    return np.array([variant.exact(row) for row in x.astype(np.longdouble)])


def largest_error(got: Array, want: Array, eps: float) -> float:
    """In units in the last place of the largest element of each row."""
    wide, want = got.astype(np.longdouble), np.asarray(want)
    assert (np.isfinite(wide) == np.isfinite(want)).all()
    finite = np.isfinite(want)
    error = np.abs(np.where(finite, wide - np.where(finite, want, 0), 0))
    size = np.abs(np.where(finite, want, 0)).reshape(len(want), -1).max(axis=1)
    unit = eps * 2.0 ** np.floor(np.log2(np.maximum(size, 1e-30)))
    return float((error.reshape(len(want), -1).max(axis=1) / unit).max())


def same(a: Array, b: Array) -> bool:
    """Whether the bits are the same; NaN has many."""
    a, b = np.asarray(a), np.asarray(b)
    equal = (a == b) | ((a != a) & (b != b))
    return a.dtype == b.dtype and a.shape == b.shape and bool(equal.all())


def test_values(dtype: np.dtype[Any], variant: Variant) -> None:
    for n in LENGTHS:
        # A whole panel of short rows, and part of one.
        x = scores((17 if n <= 40 else 3, n), dtype, variant, n)
        want = exact(variant, x)
        limit = variant.ulps if dtype.itemsize > 2 else 1.0
        for isa in boltzmax.available_isas():
            with use_isa(isa):
                got = variant.function(x)
            assert got.dtype == dtype
            assert largest_error(got, want, EPS[dtype.name]) <= limit, (n, isa)


def test_contract(isa: str, variant: Variant) -> None:
    """A few values, for emulated and sanitized builds."""
    for dtype, n in ((np.float32, 1), (np.float64, 5), (np.float32, 33), (np.float16, 100)):
        x = scores((5, n), dtype, variant, n)
        error = largest_error(variant.function(x), exact(variant, x), EPS[np.dtype(dtype).name])
        assert error <= max(variant.ulps, 1.0)
        keep = np.arange(n) % 3 != 1
        masked = np.where(keep, x, np.array(-np.inf, dtype))
        assert same(variant.function(x, where=keep), variant.function(masked))


def test_rows_are_the_same_in_every_layout(
    isa: str, dtype: np.dtype[Any], variant: Variant
) -> None:
    for n in (3, 37, 300):
        x = scores((4, 5, n), dtype, variant)
        want = variant.function(x)
        for name, layout in LAYOUTS.items():
            assert same(variant.function(layout(x)), want), name
            along_0 = variant.function(np.moveaxis(layout(x), -1, 0), axis=0)
            assert same(along_0 if variant.reduces else np.moveaxis(along_0, 0, -1), want), name
        whole = variant.function(x, axis=(1, 2))
        assert same(whole, variant.function(x.reshape(4, -1)).reshape(whole.shape))


@pytest.mark.parametrize("n", [2, 10, 70, 1000])
def test_bits_do_not_depend_on_the_batch_or_on_threads(
    isa: str, variant: Variant, n: int, threads: Callable[[int], None]
) -> None:
    x = scores((200_000 // n, n), np.float32, variant)
    threads(1)
    want = variant.function(x)
    threads(4)
    assert same(variant.function(x), want)
    for begin, end in ((0, 1), (1, 2), (3, 50), (17, 90)):
        assert same(variant.function(x[begin:end]), want[begin:end])


def test_where_is_the_same_as_minus_infinity(
    isa: str, dtype: np.dtype[Any], variant: Variant
) -> None:
    for n in (1, 5, 33, 300):
        x, keep = scores((30, n), dtype, variant), np.random.default_rng(n).random((30, n)) < 0.7
        keep[:, 0] = True
        got = variant.function(x, where=keep)
        infinite = np.where(keep, x, np.array(-np.inf, dtype))
        assert same(got, variant.function(infinite))
        if not variant.reduces and variant.masked is not None:
            assert (got[~keep] == variant.masked).all()
        if variant.positional:
            continue
        for row, counts, result in zip(x, keep, got, strict=True):
            want = exact(variant, row[counts][np.newaxis])
            of_row = result if variant.reduces else result[counts]
            error = largest_error(of_row[np.newaxis], want, EPS[dtype.name])
            assert error <= max(variant.ulps, 1.0)


def test_out_and_dtype(isa: str, variant: Variant) -> None:
    x = scores((6, 7), np.float32, variant)
    want = variant.function(x)
    out = np.empty_like(want)
    assert variant.function(x, out=out) is out
    assert same(out, want)
    if not variant.reduces:
        in_place = x.copy()
        assert same(variant.function(in_place, out=in_place), want)
    assert same(variant.function(x, dtype=np.float64), variant.function(x.astype(np.float64)))
    assert same(variant.function(x.tolist()), variant.function(x.astype(np.float64)))
    long = variant.function(x.astype(np.longdouble))
    assert long.dtype == np.longdouble
    assert same(long.astype(np.float64), variant.function(x.astype(np.float64)))
    assert variant.function(np.arange(5)).dtype == np.float64
    assert np.ndim(variant.function(0.5)) == 0


def test_nothing(isa: str, variant: Variant) -> None:
    for shape in ((0,), (0, 3), (3, 0)):
        got = variant.function(np.empty(shape, np.float32))
        assert got.shape == (shape[:-1] if variant.reduces else shape)


def test_nan_stays_in_its_row(isa: str, dtype: np.dtype[Any], variant: Variant) -> None:
    for n in (1, 4, 20, 80, 300):
        x = scores((40, n), dtype, variant)
        want = variant.function(x)
        spoiled = x.copy()
        spoiled[13, n // 2] = np.nan
        got = variant.function(spoiled)
        others = np.arange(40) != 13
        assert same(got[others], want[others])
        assert np.isnan(got[13].astype(float)).any()


def test_bad_arguments_are_refused_and_nothing_is_written(variant: Variant) -> None:
    x = scores((2, 3), np.float32, variant)
    out = np.full(variant.function(x).shape, 7, np.float32)
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (np.exceptions.AxisError, {"axis": 2}),
        (TypeError, {"where": np.ones(3)}),
        (ValueError, {"where": np.ones(4, bool)}),
        (TypeError, {"dtype": np.int32}),
    ]
    for error, options in refused:
        with pytest.raises(error):
            variant.function(x, out=out, **options)
    with pytest.raises(ValueError, match="out has shape"):
        variant.function(x, out=np.full((9,), 7, np.float32))
    with pytest.raises(TypeError, match="out has dtype"):
        variant.function(x, out=out.astype(np.float64))
    with pytest.raises(TypeError, match="complex"):
        variant.function(x + 1j, out=out)
    assert (out == 7).all()


GRADIENTS = {name: v for name, v in VARIANTS.items() if v.backward is not None}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_is_the_derivative(isa: str, name: str) -> None:
    variant = GRADIENTS[name]
    assert variant.backward is not None
    rng = np.random.default_rng(5)
    for n in (1, 2, 7, 20, 65, 130):
        for keep in (None, rng.random((3, n)) < 0.8):
            x = scores((3, n), np.float64, variant, n)
            if keep is not None:
                keep[:, 0] = True
            y = variant.function(x, where=keep)
            dy = rng.normal(size=y.shape)
            step = 1e-6
            want = np.empty_like(x)
            for i in range(n):
                up, down = x.copy(), x.copy()
                up[:, i] += step
                down[:, i] -= step
                with np.errstate(invalid="ignore"):  # of -inf at masked elements
                    difference = variant.function(up, where=keep) - variant.function(
                        down, where=keep
                    )
                product = np.where(dy * difference != 0, dy * difference, 0)
                product = np.nan_to_num(product)
                want[:, i] = (product if variant.reduces else product.sum(axis=-1)) / (2 * step)
            got = variant.backward(dy, x, y, where=keep)
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6 * np.abs(want).max() + 1e-9)
            if keep is not None:
                assert (got[~keep] == 0).all()


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_in_every_dtype(isa: str, dtype: np.dtype[Any], name: str) -> None:
    variant = GRADIENTS[name]
    assert variant.backward is not None
    for n in (1, 3, 17, 100, 700):
        x = scores((9, n), dtype, variant, n)
        y = variant.function(x)
        dy = np.random.default_rng(n).normal(size=y.shape).astype(dtype)
        got = variant.backward(dy, x, y)
        assert got.dtype == dtype
        wide = x.astype(np.float64)
        want = variant.backward(dy.astype(np.float64), wide, variant.function(wide))
        size = np.abs(want).max(axis=-1, keepdims=True) + np.abs(dy.astype(float)).max() * 1e-2
        units = np.abs(got.astype(np.float64) - want) / (EPS[dtype.name] * size)
        assert units.max() <= 16 * max(1.0, variant.scale), n


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_in_every_layout(isa: str, name: str) -> None:
    variant = GRADIENTS[name]
    assert variant.backward is not None
    x = scores((4, 5, 37), np.float32, variant)
    y = variant.function(x)
    dy = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    want = variant.backward(dy, x, y)
    for layout in LAYOUTS.values():
        assert same(variant.backward(layout(dy), layout(x), layout(y)), want)


def test_every_map_is_listed() -> None:
    listed = {name.partition(":")[0] for name in VARIANTS}
    for info in pkgutil.iter_modules(boltzmax.variants.__path__):
        module = importlib.import_module(f"boltzmax.variants.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_") or name.endswith("_backward") or info.name == "calls":
                continue
            arguments = list(inspect.signature(function).parameters)
            is_of_rows = arguments[0] == "x" and "out" in arguments and "indptr" not in arguments
            if is_of_rows and name in boltzmax.__all__:
                assert name in listed, name


def test_documented_bounds() -> None:
    """The table of bounds in the documentation has the limits of the tests."""
    page = Path(__file__).parent.parent / "docs" / "concepts" / "accuracy.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    rows = re.findall(r"(?m)^\| (`\w+`[^|]*) \| (.*) \|$", page.read_text("utf-8"))
    bounds = {name: text for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    for sample, variant in VARIANTS.items():
        name, _, option = sample.partition(":")
        numbers = [float(number) for number in re.findall(r"(?<!to )\b\d+\b", bounds[name])]
        if name == "taylor_softmax":
            numbers = [numbers[0] * {"": 2, "4": 4, "12": 12, "warm": 4}[option]]
        assert variant.ulps in numbers, sample

"""sparsemax, entmax15 and alpha-entmax: what goes beyond `test_variants.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import boltzmax
from boltzmax.testing import use_isa
from variant_samples import VARIANTS, Array, exact_entmax

pytestmark = pytest.mark.usefixtures("strict")

MAPS: dict[str, Callable[..., Any]] = {
    "sparsemax": boltzmax.sparsemax,
    "entmax15": boltzmax.entmax15,
    **{f"entmax:{a:g}": partial(boltzmax.entmax, alpha=a) for a in (1.0001, 1.2, 1.7, 3.0, 50.0)},
}
LENGTHS = (1, 2, 5, 17, 33, 100, 1000)
EPS = {2: 2.0**-8, 4: 2.0**-23, 8: 2.0**-52}


@pytest.fixture(params=MAPS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def distributions(n: int, dtype: Any) -> dict[str, Array]:
    """Rows of n scores, from all in the support to one; each has a finite score."""
    rng = np.random.default_rng(n)
    normal = rng.normal(size=(6, n))
    kinds = {
        "normal": normal,
        "close": 1e-5 * normal,
        "far apart": 100 * normal,
        "large": 1e4 + normal,
        "ties": np.round(normal),
        "equal": np.full((6, n), 0.3),
        "heavy tails": rng.standard_cauchy(size=(6, n)),
        "one outlier": np.where(np.arange(n) == n // 2, 3.0, 0.1 * normal),
        "ascending": np.sort(normal),
        "mostly -inf": np.where((rng.random((6, n)) < 0.9) & (np.arange(n) > 0), -np.inf, normal),
    }
    with np.errstate(all="ignore"):
        return {kind: rows.astype(dtype) for kind, rows in kinds.items()}


# ---- values ----


def test_probabilities_sum_to_one(isa: str, dtype: np.dtype[Any], name: str) -> None:
    for n in LENGTHS:
        for kind, x in distributions(n, dtype).items():
            y = MAPS[name](x).astype(np.float64)
            assert (y >= 0).all()
            # Each probability is rounded; of 16 bits, tiny ones may be lost.
            allowed = 2 * EPS[dtype.itemsize] * (1 + np.sqrt(n) * y.max(axis=-1))
            assert (np.abs(y.sum(axis=-1) - 1) <= allowed).all(), (n, kind)


@pytest.mark.parametrize("alpha", [1.0001, 1.2, 1.5, 2.0, 3.0, 50.0])
def test_values_of_many_distributions(alpha: float) -> None:
    for n in (3, 20, 300):
        for dtype in (np.float32, np.float64):
            for kind, x in distributions(n, dtype).items():
                want = np.array([exact_entmax(row, alpha) for row in x.astype(np.longdouble)])
                # Differences of doubles are rounded, and a steep power magnifies that.
                steep = max(1.0, 2.0 ** (52 - 52 / (alpha - 1))) if dtype == np.float64 else 1.0
                for isa in boltzmax.available_isas():
                    with use_isa(isa):
                        got = boltzmax.entmax(x, alpha)
                    error = np.abs(got - want).max(axis=-1) / want.max(axis=-1)
                    limit = 8 * steep * np.finfo(dtype).eps
                    assert (error <= limit).all(), (n, kind, dtype, isa)


def test_all_equal_elements_share_the_probability(isa: str, name: str) -> None:
    for n in (1, 2, 3, 10, 64, 1000, 100_003):
        y = MAPS[name](np.full(n, -7.25, np.float32))
        np.testing.assert_allclose(y, 1 / n, rtol=3e-7)


def test_the_order_of_probabilities_is_that_of_scores(isa: str, name: str) -> None:
    for n in LENGTHS:
        x = np.sort(np.random.default_rng(n).normal(size=(5, n)).astype(np.float32))
        assert (np.diff(MAPS[name](x)) >= 0).all()


def test_the_support_shrinks_with_alpha() -> None:
    x = np.random.default_rng(0).normal(size=(20, 1000))
    sizes = [(boltzmax.entmax(x, alpha) > 0).sum() for alpha in (1.1, 1.3, 1.5, 1.7, 2, 3, 10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 10 * sizes[-1]


def test_alpha_1_is_softmax_and_named_maps_are_special_cases(isa: str) -> None:
    x = np.random.default_rng(0).normal(size=(7, 50)).astype(np.float32)
    for alpha, function in (
        (1, boltzmax.softmax), (1.5, boltzmax.entmax15), (2, boltzmax.sparsemax),
    ):  # fmt: skip
        np.testing.assert_array_equal(boltzmax.entmax(x, alpha), function(x))
        for temperature in (0.3, 0.0):
            np.testing.assert_array_equal(
                boltzmax.entmax(x, alpha, temperature=temperature),
                function(x, temperature=temperature),
            )
    near = boltzmax.entmax(x.astype(np.float64), 1 + 1e-12)
    np.testing.assert_allclose(near, boltzmax.softmax(x.astype(np.float64)), rtol=1e-9)


@pytest.mark.parametrize("n", [9, 300])
def test_an_alpha_for_each_row(isa: str, n: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 5, n)).astype(np.float32)
    alpha = rng.choice([1.0, 1.2, 1.5, 2.0, 4.0], size=(4, 5))
    temperature = rng.uniform(0.5, 2, size=(4, 5))
    plain, warm, both = (np.empty_like(x) for _ in range(3))
    for i in np.ndindex(4, 5):
        plain[i] = boltzmax.entmax(x[i], alpha[i])
        warm[i] = boltzmax.entmax(x[i], alpha[i], temperature=0.7)
        both[i] = boltzmax.entmax(x[i], alpha[i], temperature=temperature[i])
    np.testing.assert_allclose(boltzmax.entmax(x, alpha), plain, atol=1e-6)
    np.testing.assert_allclose(boltzmax.entmax(x, alpha[..., None]), plain, atol=1e-6)
    np.testing.assert_allclose(boltzmax.entmax(x, alpha, temperature=0.7), warm, atol=1e-6)
    got = boltzmax.entmax(x, alpha, temperature=temperature)
    np.testing.assert_allclose(got, both, atol=2e-6)
    moved = boltzmax.entmax(np.moveaxis(x, -1, 0), alpha, axis=0)
    np.testing.assert_array_equal(np.moveaxis(moved, 0, -1), boltzmax.entmax(x, alpha))
    in_place = x.copy()
    assert boltzmax.entmax(in_place, alpha, out=in_place) is in_place
    np.testing.assert_array_equal(in_place, boltzmax.entmax(x, alpha))


def test_temperature_divides_the_scores(isa: str, name: str) -> None:
    for n in (4, 30, 300):
        x = np.random.default_rng(n).normal(size=(6, n))
        t = np.array([0.1, 0.5, 1.0, 2.0, 30.0, 1e-25])
        got = MAPS[name](x, temperature=t)
        np.testing.assert_allclose(got, MAPS[name](x / t[:, None]), atol=1e-7)
        cold = MAPS[name](np.round(x), temperature=0)
        largest = np.round(x) == np.round(x).max(axis=-1, keepdims=True)
        np.testing.assert_allclose(cold, largest / largest.sum(axis=-1, keepdims=True))


def test_special_values_are_those_of_softmax(isa: str, dtype: np.dtype[Any], name: str) -> None:
    inf, nan = np.inf, np.nan
    for n in (3, 20, 50, 300):
        rows = np.array([
            np.r_[nan, np.zeros(n - 1)], np.r_[np.zeros(n - 1), inf], np.full(n, -inf),
            np.r_[-inf, np.zeros(n - 1)], np.r_[nan, inf, np.zeros(n - 2)], np.full(n, nan),
            np.r_[np.full(n - 1, -1e3), nan], np.r_[-inf, nan, np.full(n - 2, -inf)],
        ]).astype(dtype)  # fmt: skip
        got, want = MAPS[name](rows), boltzmax.softmax(rows)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_array_equal(got == 0, want == 0)
        keep = np.ones((len(rows), n), bool)
        keep[:, n // 2] = False
        keep[2] = False
        got, want = MAPS[name](rows, where=keep), boltzmax.softmax(rows, where=keep)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_array_equal(got == 0, want == 0)


@settings(max_examples=60, deadline=None)
@given(
    x=arrays(np.float64, st.integers(1, 80), elements=st.floats(-50, 50, width=32)),
    shift=st.floats(-100, 100, width=32),
    alpha=st.sampled_from([1.1, 1.5, 2.0]),
)
def test_properties(x: Array, shift: float, alpha: float) -> None:
    y = boltzmax.entmax(x, alpha)
    assert abs(y.sum() - 1) < 1e-13
    # The support holds the largest elements, and probabilities follow the scores.
    order = np.argsort(x, kind="stable")
    assert (np.diff(y[order]) >= 0).all()
    np.testing.assert_allclose(boltzmax.entmax(x + shift, alpha), y, atol=1e-11)
    # A larger score never gets less.
    larger = x.copy()
    larger[0] += 0.25
    assert boltzmax.entmax(larger, alpha)[0] >= y[0] - 1e-14


def test_masks_of_rows_that_are_all_in_the_support(isa: str, dtype: np.dtype[Any]) -> None:
    """Such rows are not compressed, but copied without their masked elements."""
    x = (np.random.default_rng(0).integers(-4, 5, size=(3, 1000)) * 2.0**-14).astype(dtype)
    keep = np.random.default_rng(1).random(x.shape) < 0.6
    for function in (boltzmax.sparsemax, boltzmax.entmax15, partial(boltzmax.entmax, alpha=1.3)):
        got = function(x, where=keep).astype(np.float64)
        assert (got[~keep] == 0).all()
        for row, counts, y in zip(x, keep, got, strict=True):
            want = function(row[counts]).astype(np.float64)
            assert want.min() > 0
            error = np.abs(y[counts] - want).max()
            assert error <= 4 * EPS[dtype.itemsize] * want.max()


def test_a_long_row(isa: str) -> None:
    x = np.random.default_rng(3).normal(size=1_000_003).astype(np.float32)
    got = boltzmax.sparsemax(x)
    want = VARIANTS["sparsemax"].exact(x.astype(np.longdouble))
    np.testing.assert_allclose(got, want.astype(np.float64), atol=1e-7)


# ---- gradients ----


@pytest.mark.parametrize("alpha", [1.0, 1.0001, 1.3, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("n", [6, 90])
def test_gradients_by_alpha_are_derivatives(isa: str, alpha: float, n: int) -> None:
    rng = np.random.default_rng(n)
    x, dy = rng.normal(size=(4, n)), rng.normal(size=(4, n))
    step = 1e-5 if alpha > 1.01 else 1e-3  # at 1 from one side, by a formula of the second order
    y = boltzmax.entmax(x, alpha)
    got = boltzmax.entmax_alpha_grad(dy, y, alpha)
    assert got.shape == (4,)
    if alpha > 1.01:
        change = boltzmax.entmax(x, alpha + step) - boltzmax.entmax(x, alpha - step)
    else:
        one, two = (boltzmax.entmax(x, alpha + k * step) for k in (1, 2))
        change = -3 * y + 4 * one - two
    want = (dy * change).sum(axis=-1) / (2 * step)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 if alpha < 1.01 else 1e-5)


def test_the_gradient_by_alpha_is_continuous_at_1(isa: str) -> None:
    rng = np.random.default_rng(0)
    y, dy = boltzmax.softmax(rng.normal(size=(5, 40))), rng.normal(size=(5, 40))
    limit = boltzmax.entmax_alpha_grad(dy, y, 1.0)
    log_p = np.log(y)
    square = (y * log_p**2).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(limit, (dy * y * (square - log_p**2)).sum(axis=-1) / 2, rtol=1e-11)
    for b in (1e-12, 1e-8, 1e-5):
        np.testing.assert_allclose(
            boltzmax.entmax_alpha_grad(dy, y, 1 + b), limit, rtol=20 * b + 1e-11
        )


def test_gradients_take_an_alpha_for_each_row(isa: str, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(2)
    alpha = rng.choice([1.0, 1.2, 1.5, 2.0, 2.5], size=21)
    for n in (7, 90):
        x, dy = rng.normal(size=(21, n)).astype(dtype), rng.normal(size=(21, n)).astype(dtype)
        y = boltzmax.entmax(x, alpha)
        for function in (boltzmax.entmax_backward, boltzmax.entmax_alpha_grad):
            got = function(dy, y, alpha)
            assert got.dtype == dtype
            for row in range(21):
                np.testing.assert_array_equal(got[row], function(dy[row], y[row], alpha[row]))
            turned = function(dy.T, y.T, alpha, axis=0)
            np.testing.assert_array_equal(turned.T, got)


def test_steep_gradients(isa: str) -> None:
    """By the formula, above the alphas for which differences are accurate."""
    rng = np.random.default_rng(4)
    for alpha in (2.5, 4.0, 20.0):
        for n in (5, 70):
            y = boltzmax.entmax(0.1 * rng.normal(size=(6, n)), alpha)
            dy = rng.normal(size=y.shape)
            s = np.where(y > 0, np.where(y > 0, y, 1) ** (2 - alpha), 0)
            want = s * (dy - (s * dy).sum(-1, keepdims=True) / s.sum(-1, keepdims=True))
            got = boltzmax.entmax_backward(dy, y, alpha)
            size = np.abs(want).max() + s.max(axis=-1, keepdims=True) * 1e-3
            np.testing.assert_array_less(np.abs(got - want) / size, 1e-11)


def test_gradients_of_masked_rows_are_zero(isa: str) -> None:
    for n in (5, 90):
        y, dy = np.zeros((3, n)), np.ones((3, n))
        assert not boltzmax.sparsemax_backward(dy, y).any()
        assert not boltzmax.entmax15_backward(dy, y).any()
        assert not boltzmax.entmax_backward(dy, y, 1.3).any()
        assert not boltzmax.entmax_alpha_grad(dy, y, 1.3).any()


@pytest.mark.parametrize("n", [5, 200])
def test_gradients_write_over_their_inputs(n: int) -> None:
    rng = np.random.default_rng(0)
    dy, y = rng.normal(size=(9, n)), boltzmax.entmax15(rng.normal(size=(9, n)))
    for function in (
        boltzmax.sparsemax_backward,
        boltzmax.entmax15_backward,
        lambda dy, y, **o: boltzmax.entmax_backward(dy, y, 1.5, **o),
    ):
        want = function(dy, y)
        for out in (dy.copy(), y.copy()):
            inputs = (out, y) if (out == dy).all() else (dy, out)
            assert function(*inputs, out=out) is out
            np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("alpha", [3.0, 10.0, 30.0])
def test_gradients_where_slopes_leave_single_precision(isa: str, alpha: float) -> None:
    """One slope beyond exp(60) changes nothing; the gradient by others is that of double."""
    y = np.array([0.75, 0.25 - 1e-30, 1e-30, 0.0])
    dy = np.array([1.0, -2.0, 3.0, 5.0])
    s = y[:3].astype(np.longdouble) ** (2 - np.longdouble(alpha))
    # s (dy - mean), with dy from that of the steepest element, where the mean is nearly dy
    distance = dy[:3] - dy[2]
    want = s * (distance - (s * distance).sum() / s.sum())
    for dtype, bound in ((np.float64, 1e-10), (np.float32, 1e-4)):
        got = boltzmax.entmax_backward(dy.astype(dtype), y.astype(dtype), alpha)
        np.testing.assert_allclose(got[:3], want.astype(float), rtol=bound)
        assert got[3] == 0


# ---- refusals ----


@pytest.mark.parametrize(
    ("alpha", "error", "message"),
    [
        (0.9, ValueError, "alpha must be from 1 to 50, got 0.9"),
        (51, ValueError, "alpha must be from 1 to 50, got 51"),
        (np.nan, ValueError, "alpha must be from 1 to 50, got nan"),
        ([1.5, 1.2, 3], ValueError, r"alpha of shape \(3,\) does not broadcast to one per row"),
        ("much", TypeError, "alpha must be a real number"),
        (1.5j, TypeError, "alpha must be a real number"),
    ],
)
def test_bad_alphas_are_refused(alpha: Any, error: type[Exception], message: str) -> None:
    x, out = np.ones((2, 3)), np.full((2, 3), 7.0)
    rows = np.full(2, 7.0)
    with pytest.raises(error, match=message):
        boltzmax.entmax(x, alpha, out=out)
    with pytest.raises(error, match=message):
        boltzmax.entmax_backward(x, x, alpha, out=out)
    with pytest.raises(error, match=message):
        boltzmax.entmax_alpha_grad(x, x, alpha, out=rows)
    assert (out == 7).all()
    assert (rows == 7).all()


def test_other_refusals_of_gradients() -> None:
    for function in (
        boltzmax.sparsemax_backward,
        boltzmax.entmax15_backward,
        lambda dy, y, **o: boltzmax.entmax_backward(dy, y, 1.5, **o),
        lambda dy, y, **o: boltzmax.entmax_alpha_grad(dy, y, 1.5, **o),
    ):
        with pytest.raises(ValueError, match="dy has shape"):
            function(np.ones((2, 3)), np.ones((2, 4)))
        with pytest.raises(np.exceptions.AxisError):
            function(np.ones((2, 3)), np.ones((2, 3)), axis=2)
        with pytest.raises(ValueError, match="out has shape"):
            function(np.ones((2, 3)), np.ones((2, 3)), out=np.ones(7))
        with pytest.raises(TypeError, match="complex"):
            function(np.ones(3), np.ones(3) * 1j)

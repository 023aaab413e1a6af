"""logcumsumexp and windows: options, special values, scores far from the row's maximum, peers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boltzmax
from boltzmax.testing import use_isa
from variant_samples import Array, window_sums

pytestmark = pytest.mark.usefixtures("strict")

INF, NAN = np.inf, np.nan
ULPS = {2: 1, 4: 1, 8: 4}  # the documented errors, by the size of a dtype
WINDOWS = (1, 2, 3, 4, 9, 16, 17, 33, 34, 35, 66, 100, 257, 1000, 2**70)


@np.errstate(under="ignore")
def exact_running(x: Array) -> Array:
    """Running logsumexp of finite numbers by merging, in long double."""
    result, total = [], np.longdouble(-INF)
    for score in x.astype(np.longdouble):
        total = np.logaddexp(total, score)
        result.append(total)
    return np.array(result)


@np.errstate(under="ignore")
def exact_windows(x: Array, window: int) -> Array:
    """logsumexp of each window of a row of finite numbers, relative to its own maximum."""
    half = min(window // 2, len(x))
    wide = x.astype(np.longdouble)
    parts = (wide[max(i - half, 0) : i + half + 1] for i in range(len(x)))
    return np.array([part.max() + np.log(np.exp(part - part.max()).sum()) for part in parts])


@np.errstate(under="ignore")
def exact_shares(x: Array, window: int) -> Array:
    """Windowed softmax of a row of finite numbers, relative to the maximum of each window."""
    half = min(window // 2, len(x))
    wide = x.astype(np.longdouble)
    parts = ((i, wide[max(i - half, 0) : i + half + 1]) for i in range(len(x)))
    return np.array(
        [np.exp(wide[i] - part.max()) / np.exp(part - part.max()).sum() for i, part in parts]
    )


def far_rows(n: int, dtype: Any) -> dict[str, Array]:
    """Rows in which some elements are far from the maximum."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    peak, step, fall = x.copy(), x.copy(), x.copy()
    peak[n // 3] = 9000.0
    step[n // 2 :] += 300.0
    fall[: n // 2] += 5000.0
    large = 30000.0 if dtype == np.float16 else 1e6
    rows = {
        "peak": peak,
        "step": step,
        "fall": fall,
        "ramp": np.linspace(-200.0, 800.0, n),
        "descent": np.linspace(800.0, -200.0, n),
        "wild": rng.normal(size=n) * 2000.0,
        "large": x + large,
    }
    return {name: row.astype(dtype) for name, row in rows.items()}


def assert_close(got: Array, want: Array, scale: Array, ulps: float) -> None:
    """Within so many units in the last place of the larger of `scale` and 1."""
    eps = {2: 2.0**-7, 4: 2.0**-23, 8: 2.0**-52}[got.dtype.itemsize]
    eps = 2.0**-10 if got.dtype == np.float16 else eps
    error = np.abs(got.astype(np.longdouble) - want) / (eps * np.maximum(np.abs(scale), 1))
    assert error.max() <= ulps


def test_running_sums_far_from_the_maximum(isa: str, dtype: np.dtype[Any]) -> None:
    for n in (1, 2, 7, 33, 300, 2000):
        for row in far_rows(n, dtype).values():
            largest = np.maximum.accumulate(row).astype(np.longdouble)
            want = exact_running(row)
            scale = np.maximum(largest, np.abs(want))
            assert_close(boltzmax.logcumsumexp(row), want, scale, ULPS[dtype.itemsize])


def test_first_element_is_exact(isa: str, dtype: np.dtype[Any]) -> None:
    for first in (1e-3, -7.25, 0.0, 3e4, -3e4):
        x = np.array([first, 0.0, 1.0], dtype)
        assert boltzmax.logcumsumexp(x)[0] == x[0]
        assert (boltzmax.windowed_logsumexp(x, 1) == x).all()


def test_reverse_is_the_running_sum_from_the_end(isa: str, dtype: np.dtype[Any]) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 37)).astype(dtype)
    keep = np.random.default_rng(1).random(x.shape) < 0.7
    for axis in (-1, 0, (0, 2), None):
        axes = tuple(range(3)) if axis is None else axis
        want = boltzmax.logcumsumexp(np.flip(x, axes), axis, where=np.flip(keep, axes))
        got = boltzmax.logcumsumexp(x, axis, reverse=True, where=keep)
        assert (got == np.flip(want, axes)).all()
        out = np.empty_like(x)
        assert boltzmax.logcumsumexp(x, axis, reverse=True, where=keep, out=out) is out
        assert (out == got).all()
    in_place = x.copy()
    want = boltzmax.logcumsumexp(x, reverse=True)
    boltzmax.logcumsumexp(in_place, reverse=True, out=in_place)
    assert (in_place == want).all()
    assert boltzmax.logcumsumexp(0.5, reverse=True) == 0.5


def test_special_values_of_running_sums(isa: str, dtype: np.dtype[Any]) -> None:
    nothing = np.full(40, -INF, dtype)
    assert (boltzmax.logcumsumexp(nothing) == -INF).all()
    x = np.concatenate([nothing, [0.0], nothing, [INF, 1.0, NAN, 2.0, INF]]).astype(dtype)
    y = boltzmax.logcumsumexp(x).astype(float)
    assert (y[:40] == -INF).all()
    assert (y[40:81] == 0).all()
    assert (y[81:83] == INF).all()
    assert np.isnan(y[83:]).all()


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_far_from_the_maximum(dtype: np.dtype[Any], window: int) -> None:
    for n in (1, 2, 17, 40, 300):
        for row in far_rows(n, dtype).values():
            want, shares = exact_windows(row, window), exact_shares(row, window)
            scale = np.maximum(np.abs(want), np.abs(want - np.log(n)))
            for isa in boltzmax.available_isas():
                with use_isa(isa):
                    got = boltzmax.windowed_logsumexp(row, window)
                    p = boltzmax.windowed_softmax(row, window)
                assert_close(got, want, scale, ULPS[dtype.itemsize])
                assert_close(p, shares, np.ones(n), 6)


def test_a_window_over_the_whole_row_is_softmax(isa: str, dtype: np.dtype[Any]) -> None:
    for n in (1, 5, 30, 300):
        x = np.random.default_rng(n).normal(size=(3, n)).astype(dtype)
        for window in (2 * n - 1, 2 * n + 50):
            assert_close(
                boltzmax.windowed_softmax(x, window),
                boltzmax.softmax(x.astype(np.longdouble)),
                np.ones(n),
                2,
            )


def test_special_values_of_windows(isa: str, dtype: np.dtype[Any]) -> None:
    for window in (3, 81):
        half = window // 2
        for special in (NAN, INF):
            x = np.zeros(400, dtype)
            x[200] = special
            near = np.abs(np.arange(400) - 200) <= half
            p = boltzmax.windowed_softmax(x, window).astype(float)
            y = boltzmax.windowed_logsumexp(x, window).astype(float)
            assert (np.isnan(p) == near).all()
            assert (np.isnan(y) if special != special else y == INF)[near].all()
            assert np.isfinite(y[~near]).all()
        x = np.zeros(400, dtype)
        x[100:300] = -INF
        p = boltzmax.windowed_softmax(x, window).astype(float)
        y = boltzmax.windowed_logsumexp(x, window).astype(float)
        assert (p[100:300] == 0).all()
        assert (p[:100] > 0).all()
        assert (y[100 + half : 300 - half] == -INF).all()
        assert np.isnan(boltzmax.windowed_softmax(np.full(50, -INF, dtype), window)).all()
        masked = boltzmax.windowed_softmax(x, window, where=np.zeros(400, bool))
        assert (masked == 0).all()


def test_an_even_window_is_the_next_odd_one(isa: str) -> None:
    x = np.random.default_rng(0).normal(size=(3, 90)).astype(np.float32)
    for window in (2, 16, 40):
        assert (
            boltzmax.windowed_softmax(x, window) == boltzmax.windowed_softmax(x, window + 1)
        ).all()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_windows_of_any_shape(data: st.DataObject) -> None:
    rows, n = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 150))
    window = data.draw(st.integers(1, 2 * n + 3))
    x = np.random.default_rng(n).normal(size=(rows, n)).astype(np.float32)
    x *= data.draw(st.sampled_from([1.0, 50.0, 1e4]))
    for row, p in zip(x, boltzmax.windowed_softmax(x, window), strict=True):
        assert_close(p, exact_shares(row, window), np.ones(n), 6)


def test_small_probabilities_keep_their_digits(isa: str) -> None:
    x = np.random.default_rng(0).normal(size=500) * 10
    for dtype, bound in ((np.float32, 8 * 2.0**-24), (np.float64, 8 * 2.0**-53)):
        row = x.astype(dtype)
        e = np.exp(row.astype(np.longdouble) - row.max())
        for window in (5, 21, 101):
            want = e / window_sums(e, window)
            got = boltzmax.windowed_softmax(row, window)
            assert (np.abs(got - want) <= bound * want).all()


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(5, 700))
    want = torch.logcumsumexp(torch.from_numpy(x), 1).numpy()
    np.testing.assert_allclose(boltzmax.logcumsumexp(x), want, rtol=1e-13, atol=1e-13)
    along = torch.logcumsumexp(torch.from_numpy(x), 0).numpy()
    np.testing.assert_allclose(boltzmax.logcumsumexp(x, 0), along, rtol=1e-13, atol=1e-13)
    t = torch.from_numpy(x).requires_grad_()
    dy = np.random.default_rng(1).normal(size=x.shape)
    torch.logcumsumexp(t, 1).backward(torch.from_numpy(dy))
    got = boltzmax.logcumsumexp_backward(dy, x)
    np.testing.assert_allclose(got, t.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("window", [1, 2, 5, 30])
def test_gradients_of_windows(isa: str, window: int) -> None:
    rng = np.random.default_rng(window)
    n = 40
    x, dy, eye = rng.normal(size=n), rng.normal(size=n), np.eye(n)
    step = 1e-6
    for function, backward in (
        (boltzmax.windowed_softmax, boltzmax.windowed_softmax_backward),
        (boltzmax.windowed_logsumexp, boltzmax.windowed_logsumexp_backward),
    ):
        difference = function(x + step * eye, window) - function(x - step * eye, window)
        np.testing.assert_allclose(backward(dy, x, window), difference @ dy / (2 * step), atol=1e-8)


Sets = tuple[slice, ...]


def running_sets(n: int) -> Sets:
    return tuple(slice(0, i + 1) for i in range(n))


def window_sets(n: int, window: int) -> Sets:
    half = min(window // 2, n)
    return tuple(slice(max(i - half, 0), i + half + 1) for i in range(n))


@np.errstate(under="ignore")
def exact_gradient(dy: Array, x: Array, sets: Sets, is_softmax: bool) -> tuple[Array, Array]:
    """The gradient in long double by its definition, and a bound on the error in units of eps.

    A term exp(d) has a relative error of d.
    """
    wide, dx = x.astype(np.longdouble), np.zeros(len(x), np.longdouble)
    bound = np.zeros_like(dx)
    for i, members in enumerate(sets):
        d = wide[members] - wide[members].max()
        shares = np.exp(d) / np.exp(d).sum()
        weight, slack = dy[i].astype(np.longdouble), 8 - d
        if is_softmax:
            own = i - members.start
            weight, slack = -weight * shares[own], slack - d[own]
            dx[i] -= weight
            bound[i] += abs(weight) * slack[own]
        dx[members] += weight * shares
        bound[members] += np.abs(weight * shares) * slack
    return dx, bound


SCANS = {
    "logcumsumexp": (boltzmax.logcumsumexp_backward, ()),
    **{f"windowed_logsumexp:{w}": (boltzmax.windowed_logsumexp_backward, (w,)) for w in (1, 4, 33)},
    **{f"windowed_softmax:{w}": (boltzmax.windowed_softmax_backward, (w,)) for w in (1, 4, 33)},
    "windowed_softmax:1000": (boltzmax.windowed_softmax_backward, (1000,)),
}


@pytest.mark.parametrize("name", SCANS)
def test_gradients_far_from_the_maximum(name: str) -> None:
    """Rows with a range of 1e4, in which digits must not depend on where the maximum is."""
    backward, window = SCANS[name]
    for n in (1, 2, 40, 300):
        sets = window_sets(n, *window) if window else running_sets(n)
        dy = np.random.default_rng(n + 1).normal(size=n)
        for row in far_rows(n, np.float64).values():
            want, bound = exact_gradient(dy, row, sets, "softmax" in name)
            error = np.abs(backward(dy, row, *window) - want)
            assert (error <= 2.0**-52 * bound + 1e-300).all()


def test_gradient_of_the_reversed_running_sum(isa: str) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(3, 50)), rng.normal(size=(3, 50))
    got = boltzmax.logcumsumexp_backward(dy, x, reverse=True)
    want = np.flip(boltzmax.logcumsumexp_backward(np.flip(dy, 1), np.flip(x, 1)), 1)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    out = np.empty_like(x)
    assert boltzmax.logcumsumexp_backward(dy, x, reverse=True, out=out) is out
    assert (out == got).all()


def test_gradients_where_nothing_is_finite(isa: str) -> None:
    x, dy = np.array([-INF, -INF, 0.0, 1.0]), np.ones(4)
    got = boltzmax.logcumsumexp_backward(dy, x)
    assert (got[:2] == 0).all()
    assert np.isfinite(got).all()
    assert (boltzmax.windowed_softmax_backward(dy, x, 3)[:2] == 0).all()


@pytest.mark.parametrize(
    ("window", "error", "words"),
    [
        (0, ValueError, "window must be at least 1, got 0"),
        (-3, ValueError, "window must be at least 1, got -3"),
        (2.0, TypeError, "window must be an integer"),
    ],
)
def test_bad_windows_are_refused(window: Any, error: type[Exception], words: str) -> None:
    x, out = np.zeros(4), np.full(4, 7.0)
    for function in (boltzmax.windowed_softmax, boltzmax.windowed_logsumexp):
        with pytest.raises(error, match=words):
            function(x, window, out=out)
    for backward in (boltzmax.windowed_softmax_backward, boltzmax.windowed_logsumexp_backward):
        with pytest.raises(error, match=words):
            backward(x, x, window, out=out)
    assert (out == 7).all()


def test_gradients_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"dy has shape \(3,\), but x has shape \(4,\)"):
        boltzmax.logcumsumexp_backward(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="out has shape"):
        boltzmax.logcumsumexp_backward(np.zeros(4), np.zeros(4), out=np.zeros(3))

"""softmax_backward and log_softmax_backward: against the oracle, finite differences and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import oracle
import ulp
from operations import GRADIENTS

Array = npt.NDArray[Any]
pytestmark = pytest.mark.usefixtures("strict")
LENGTHS = (*range(1, 131), 255, 256, 257, 1000, 4095, 4096, 4097)


def forward(op: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(boltzmax, op.removesuffix("_backward"))
    return function


def inputs(
    op: str, shape: Any, dtype: np.dtype[Any], axis: Any = -1, seed: int = 0
) -> tuple[Array, Array]:
    """A gradient, and the forward result that it belongs to."""
    rng = np.random.default_rng(seed)
    with np.errstate(under="ignore"):
        dy, x = (scale * rng.standard_normal(shape).astype(dtype) for scale in (1, 3))
    return dy, forward(op)(x.astype(dtype), axis)


def worst(op: str, dy: Array, y: Array, got: Array) -> float:
    """The worst error over the last axis, in eps of the magnitudes that are summed to the result.

    Rounded results are within 1 eps of the magnitudes; the exponential and the sums may each add as
    much, at any length: a sum that lost digits as rows grow would be detected.
    """
    with np.errstate(all="ignore"):
        exact, size = getattr(oracle, op)(dy, y)
        unit = ulp.format_of(dy.dtype).eps * size + ulp.format_of(dy.dtype).smallest
        return float((np.abs(got.astype(exact.dtype) - exact) / unit).max(initial=0))


@pytest.mark.parametrize("op", GRADIENTS)
def test_accuracy(isa: str, dtype: np.dtype[Any], op: str) -> None:
    function = getattr(boltzmax, op)
    for n in LENGTHS:
        dy, y = inputs(op, (3, n), dtype, seed=n)
        got = function(dy, y)
        assert (got.dtype, got.shape) == (dtype, dy.shape)
        assert worst(op, dy, y, got) <= 2, n


@pytest.mark.parametrize("op", GRADIENTS)
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_long_rows(isa: str, op: str, name: str) -> None:
    if name == "float64" and not oracle.LONGDOUBLE_IS_WIDER:
        pytest.skip("long double is no wider than float64 here")
    for n in (100_000, 1_000_003):
        dtype = np.dtype(name)
        dy, y = inputs(op, n, dtype)
        assert worst(op, dy, y, getattr(boltzmax, op)(dy, y)) <= 2
        # Equal gradients: a running sum in the working precision would stall.
        dy[...] = 0.3
        got = getattr(boltzmax, op)(dy, y)
        assert worst(op, dy, y, got) <= 2


@pytest.mark.parametrize("op", GRADIENTS)
def test_axes(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Each row as if alone."""
    function = getattr(boltzmax, op)
    for axis in (0, 1, 2, -1, (0, 2), None):
        dy, y = inputs(op, (3, 4, 5), dtype, axis)
        got = function(dy, y, axis)
        axes = (0, 1, 2) if axis is None else (axis,) if isinstance(axis, int) else axis
        length = int(np.prod([dy.shape[a] for a in axes]))
        for u, v, w in zip(*(rows_of(a, axes, length) for a in (dy, y, got)), strict=True):
            assert w.tobytes() == function(u.copy(), v.copy()).tobytes()


@pytest.mark.parametrize("op", GRADIENTS)
def test_bits_depend_on_the_row_alone(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Whatever stands beside a row, and wherever rows begin; nothing else is written."""
    function = getattr(boltzmax, op)
    rows = 37
    for n in (*range(1, 10), 15, 16, 17, 31, 33, 47, 48, 63, 64, 65, 97, 129, 257, 1030):
        dy, y = inputs(op, (rows, n), dtype, seed=n)
        alone = np.stack([function(dy[r].copy(), y[r].copy()) for r in range(rows)]).tobytes()
        assert function(dy, y).tobytes() == alone, n
        for shift in (1, 4, 11):
            u, v, out = (at_offset(a, k * shift) for k, a in enumerate((dy, y, np.ones_like(y)), 1))
            around = out.base
            assert isinstance(around, np.ndarray)
            before = around.copy()
            assert function(u, v, out=out).tobytes() == alone, (n, shift)
            out[...] = 1
            assert around.tobytes() == before.tobytes(), (n, shift)
            assert function(u, v, out=u).tobytes() == alone, (n, shift)
        wide = np.concatenate([dy, dy, y], axis=1)
        assert function(wide[:, :n], wide[:, 2 * n :], out=wide[:, n : 2 * n]).tobytes() == alone, n


def at_offset(x: Array, offset: int) -> Array:
    """A copy that begins so many elements after the beginning of its memory."""
    around = np.full(x.size + offset + 32, 2, x.dtype)
    inside = around[offset : offset + x.size].reshape(x.shape)
    inside[...] = x
    return inside


@pytest.mark.parametrize("op", GRADIENTS)
def test_many_short_rows(isa: str, dtype: np.dtype[Any], op: str) -> None:
    """Short rows have few terms, whose rounding errors do not cancel."""
    for n in (1, 2, 3, 5, 8, 13, 16, 17, 30, 40, 64, 65):
        dy, y = inputs(op, (1000, n), dtype, seed=n)
        assert worst(op, dy, y, getattr(boltzmax, op)(dy, y)) <= 2, n


def rows_of(x: Array, axes: tuple[int, ...], length: int) -> Array:
    return np.moveaxis(x, axes, range(-len(axes), 0)).reshape(-1, length)


@pytest.mark.parametrize("op", GRADIENTS)
def test_finite_differences(isa: str, op: str) -> None:
    """The gradient of ``sum(dy * f(x))``, by central differences in float64."""
    rng = np.random.default_rng(7)
    step = 1e-5
    for n in (2, 5, 17):
        x, dy = rng.standard_normal(n), rng.standard_normal(n)
        f = forward(op)
        got = getattr(boltzmax, op)(dy, f(x))
        moves = step * np.eye(n)
        expected = ((dy * f(x + moves)).sum(-1) - (dy * f(x - moves)).sum(-1)) / (2 * step)
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("op", GRADIENTS)
def test_agrees_with_torch(isa: str, dtype: np.dtype[Any], op: str) -> None:
    torch = pytest.importorskip("torch")
    peer = getattr(torch, op.removesuffix("_backward"), None)
    if peer is None:
        pytest.skip(f"PyTorch has no {op}")
    rng = np.random.default_rng(8)
    for shape, axis in (((6, 35), 1), ((6, 35), 0), ((2, 3, 40), 1)):
        x, dy = (rng.standard_normal(shape) for _ in range(2))
        tensor, gradient = (torch.from_numpy(v).to(getattr(torch, dtype.name)) for v in (x, dy))
        tensor.requires_grad_()
        y = peer(tensor, axis)
        y.backward(gradient)
        ours = [v.detach().to(torch.float64).numpy().astype(dtype) for v in (gradient, y)]
        got = getattr(boltzmax, op)(*ours, axis).astype(np.float64)
        scale = 8 * ulp.format_of(dtype).eps
        np.testing.assert_allclose(
            got, tensor.grad.to(torch.float64).numpy(), rtol=scale, atol=scale
        )


def test_gradients_of_cross_entropy(isa: str) -> None:
    """The usual case: ``dy = -onehot`` through log_softmax is ``softmax - onehot``."""
    x = np.random.default_rng(9).standard_normal((40, 10))
    target = np.eye(10)[np.arange(40) % 10]
    got = boltzmax.log_softmax_backward(-target, boltzmax.log_softmax(x))
    np.testing.assert_allclose(got, boltzmax.softmax(x) - target, rtol=0, atol=4e-16)
    # A gradient that is equal for all classes gives 0 through softmax.
    assert np.abs(boltzmax.softmax_backward(np.ones_like(x), boltzmax.softmax(x))).max() < 4e-16


def test_masked_and_saturated_entries(isa: str, dtype: np.dtype[Any]) -> None:
    """A probability of 0 gets no gradient through softmax, and dy through log_softmax."""
    for n in (2, 16, 33, 5000):
        x = np.linspace(-1, 1, n).astype(dtype)
        x[::2] = -np.inf
        dy = np.linspace(1, 2, n).astype(dtype)
        assert (boltzmax.softmax_backward(dy, boltzmax.softmax(x))[::2] == 0).all()
        assert np.array_equal(
            boltzmax.log_softmax_backward(dy, boltzmax.log_softmax(x))[::2], dy[::2]
        )


@pytest.mark.parametrize("op", GRADIENTS)
def test_nan_stays_in_its_row(isa: str, dtype: np.dtype[Any], op: str) -> None:
    dy, y = inputs(op, (5, 33), dtype)
    clean = getattr(boltzmax, op)(dy, y)
    for which in (0, 1):
        arrays = [dy.copy(), y.copy()]
        arrays[which][2, 7] = np.nan
        got = getattr(boltzmax, op)(*arrays)
        assert np.isnan(got[2, 7])
        if which == 0 or op == "softmax_backward":
            assert np.isnan(got[2].astype(np.float64)).all()
        keep = [0, 1, 3, 4]
        assert got[keep].tobytes() == clean[keep].tobytes()


def check_an_infinite_gradient(dtype: np.dtype[Any], op: str, n: int) -> None:
    """The other entries are infinite, that entry is inf - inf, in rows and in columns."""
    y, dy = np.full((3, n), 0.5 if op == "softmax_backward" else -1.0), np.zeros((3, n))
    dy[:2, n // 2] = np.inf, -np.inf
    expected = np.stack([np.full(n, -np.inf), np.full(n, np.inf)])
    expected[:, n // 2] = np.nan
    function = getattr(boltzmax, op)
    with np.errstate(all="ignore"):
        dy, y = dy.astype(dtype), y.astype(dtype)
        rows, columns = function(dy, y), function(dy.T.copy(), y.T.copy(), axis=0)
    for got in (rows, columns.T):
        np.testing.assert_array_equal(got[:2].astype(np.float64), expected)
        assert (got[2] == 0).all()


@pytest.mark.parametrize("op", GRADIENTS)
@pytest.mark.parametrize("n", [4, 300])
def test_an_infinite_gradient(isa: str, dtype: np.dtype[Any], op: str, n: int) -> None:
    check_an_infinite_gradient(dtype, op, n)


@pytest.mark.parametrize("op", GRADIENTS)
def test_an_infinite_gradient_in_long_rows(isa: str, dtype: np.dtype[Any], op: str) -> None:
    check_an_infinite_gradient(dtype, op, 300_000)


@pytest.mark.parametrize("op", GRADIENTS)
def test_errors(op: str) -> None:
    function = getattr(boltzmax, op)
    a = np.ones((3, 4), np.float32)
    for shape in ((4, 3), (4,), (3, 1), (3, 4, 1)):
        with pytest.raises(ValueError, match="shape") as error:
            function(a, np.ones(shape, np.float32))
        assert str(shape) in str(error.value)
        assert "(3, 4)" in str(error.value)
    with pytest.raises(TypeError):
        function(a)
    with pytest.raises(TypeError):
        function(a, a, -1, a)
    with pytest.raises(TypeError):
        function(a, a, where=True)


@pytest.mark.parametrize("op", GRADIENTS)
def test_different_dtypes_are_never_reinterpreted(op: str) -> None:
    """They are promoted as in NumPy."""
    function = getattr(boltzmax, op)
    dy, y = inputs(op, (3, 40), np.dtype(np.float64))
    narrow = y.astype(np.float32)
    got = function(dy, narrow)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, function(dy, narrow.astype(np.float64)))


@pytest.mark.parametrize("op", GRADIENTS)
def test_scalars_empty_and_integers(op: str) -> None:
    function = getattr(boltzmax, op)
    assert function(np.float32(2), np.float32(1 if op.startswith("soft") else 0)) == 0
    assert function(np.empty((0, 3)), np.empty((0, 3))).shape == (0, 3)
    got = function([[1, 2]], [[0, 1]])
    assert got.dtype == np.float64
    assert np.array_equal(got, function(np.array([[1.0, 2.0]]), np.array([[0.0, 1.0]])))

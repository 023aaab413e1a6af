"""boltzmax.cuda on a real device, or on the emulated one that BOLTZMAX_CUDA=EMULATED builds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.cuda as cuda
import oracle
import ulp
from boltzmax.cuda.arrays import DeviceArray
from device import REASON, OnDevice, dtype_of, needs_device, numbers

NAMES = ("softmax", "log_softmax", "logsumexp")
# Around the sizes of a packet, a warp, a block of registers and a piece of a long row.
LENGTHS = (1, 2, 3, 4, 5, 31, 32, 33, 100, 127, 128, 129, 256, 1000, 1024, 1025, 4096, 5001, 16384)
LONG = (16385, 16400, 32768, 50_001)


# ---- without a device


@pytest.mark.skipif(not REASON, reason="there is a device")
def test_without_a_device() -> None:
    assert not cuda.is_available()
    for call in (
        lambda: cuda.softmax(np.zeros(3)),
        lambda: cuda.logsumexp(np.zeros(3)),
        lambda: cuda.softmax_backward(np.zeros(3), np.zeros(3)),
        lambda: cuda.cross_entropy(np.zeros((1, 3)), np.zeros(1, np.int64)),
    ):
        with pytest.raises(RuntimeError, match=r"cannot be used: \w+"):
            call()


# ---- results


@needs_device
@pytest.mark.parametrize("name", ulp.DTYPES)
@pytest.mark.parametrize("op", NAMES)
@pytest.mark.parametrize("n", LENGTHS + LONG)
def test_rows_of_any_length(op: str, name: str, n: int) -> None:
    """Within the error budget of the CPU."""
    dtype = dtype_of(name)
    x = numbers((3, n), dtype, n)
    got = getattr(cuda, op)(x)
    assert ulp.of_budget(op, got, oracle.exact(x), dtype).max() <= 1


@needs_device
@pytest.mark.parametrize("clusters", ["0", "1"])
@pytest.mark.parametrize(
    ("name", "n"),
    [("float32", 262_144), ("float32", 20_001), ("float64", 70_000), ("float16", 90_000)],
)
def test_rows_split_over_blocks(
    name: str, n: int, clusters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In shared memory of blocks and clusters, or without clusters read twice."""
    monkeypatch.setenv("BOLTZMAX_EMULATED_CLUSTERS", clusters)
    x = numbers((1, n), name, n)
    for op in NAMES:
        got = getattr(cuda, op)(x)
        assert ulp.of_budget(op, got, oracle.exact(x), np.dtype(name)).max() <= 1
    x[0, 5], x[0, n - 1] = -np.inf, 50
    where = np.random.default_rng(0).random((1, n)) < 0.7
    for mask in (None, where):
        got = cuda.softmax(x, where=mask)
        np.testing.assert_allclose(got, boltzmax.softmax(x, where=mask), rtol=2e-3, atol=1e-7)
    target = np.array([n - 1])
    device = OnDevice(x)
    loss, _ = cuda.cross_entropy_with_grad(device, OnDevice(target), out=device)
    expected, gradient = boltzmax.cross_entropy_with_grad(x, target)
    np.testing.assert_allclose(loss.to_numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(device.to_numpy(), gradient, rtol=2e-3, atol=1e-7)


@needs_device
@pytest.mark.parametrize(
    ("name", "n"), [("float32", 150_001), ("float64", 60_000), ("bfloat16", 300_001)]
)
def test_rows_too_long_for_shared_memory(
    name: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several rows, at any offset from a packet, in pieces; masked, and in place."""
    monkeypatch.setenv("BOLTZMAX_EMULATED_CLUSTERS", "0")
    dtype = dtype_of(name)
    x = numbers((3, n), dtype)
    x[0, 7], x[1, 8], x[2, n - 1] = 30, np.inf, np.nan
    where = np.random.default_rng(0).random((3, n)) < 0.5
    tolerance = {"rtol": 3e-3 if name == "float32" else 2e-2 if name == "bfloat16" else 1e-11}
    for op in NAMES:
        for mask in (None, where):
            got = getattr(cuda, op)(x, where=mask).astype(np.float64)
            expected = getattr(boltzmax, op)(x, where=mask).astype(np.float64)
            np.testing.assert_allclose(got, expected, **tolerance, atol=1e-30)
    x = numbers((3, n), dtype)
    assert ulp.of_budget("softmax", cuda.softmax(x), oracle.exact(x), dtype).max() <= 1
    if name != "bfloat16":
        device = OnDevice(x)
        cuda.log_softmax(device, out=device)
        got = device.to_numpy()
        assert ulp.of_budget("log_softmax", got, oracle.exact(x), dtype).max() <= 1
    eps = ulp.format_of(dtype).eps
    for op in ("softmax", "log_softmax"):
        y, dy = getattr(boltzmax, op)(x), numbers((3, n), dtype, 1)
        got = getattr(cuda, f"{op}_backward")(dy, y).astype(np.float64)
        expected = getattr(boltzmax, f"{op}_backward")(dy, y).astype(np.float64)
        np.testing.assert_allclose(got, expected, rtol=4 * eps, atol=4 * eps)


@needs_device
@pytest.mark.parametrize("op", NAMES)
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_hard_rows(op: str, name: str) -> None:
    """Tiny terms next to a large one, large numbers, wide ranges, ties, subnormal results."""
    dtype = dtype_of(name)
    wide = 100 if name == "float32" else 740
    rows = [
        [0, 40],
        [0, -40],
        [-40, 0, -39],
        [1e4, 1e4 - 3, 1e4 - 30],
        [0] * 7,
        np.linspace(-wide, 0, 333),
        np.linspace(0, -wide, 2000),
        [0.0, *[-17.0] * 999],
    ]
    for row in rows:
        x = np.array([row], dtype)
        got = getattr(cuda, op)(x)
        assert ulp.of_budget(op, got, oracle.exact(x), dtype).max() <= 1, row[:3]


@needs_device
@pytest.mark.parametrize("op", NAMES)
@pytest.mark.parametrize("n", [3, 128, 20_000])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_special_values(op: str, n: int, name: str) -> None:
    """As on the CPU, masked or not."""
    inf, nan = np.inf, np.nan
    x = numbers((8, n), name)
    x[0], x[1, 0], x[2, 1], x[3, 2], x[5, 1], x[5, 2] = -inf, -inf, inf, nan, inf, nan
    x[6], x[7, :2] = inf, inf
    where = np.ones((8, n), bool)
    where[4] = False
    where[3, 2] = where[2, 1] = False
    for mask in (None, where):
        got = getattr(cuda, op)(x, where=mask)
        expected = getattr(boltzmax, op)(x, where=mask)
        assert got.dtype == expected.dtype
        rtol = 4 * np.finfo(name).eps
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol, err_msg=str(mask is None))


@needs_device
@pytest.mark.parametrize("name", ulp.DTYPES)
def test_certain_class_is_exactly_one(name: str) -> None:
    """If all other terms are 0, the largest is exactly 1, whatever computes its exponential."""
    for n in (2, 40, 600, 3000):
        x = np.full((2, n), -np.inf, dtype_of(name))
        x[:, 1] = [3, -1000]
        expected = (x > -np.inf).astype(np.float64)
        np.testing.assert_array_equal(cuda.softmax(x).astype(np.float64), expected)
        loss, gradient = cuda.cross_entropy_with_grad(x, np.array([1, 1]), reduction="sum")
        assert loss == 0
        assert (gradient.astype(np.float64) == 0).all()


@needs_device
@pytest.mark.parametrize("temperature", [0.1, 3.0, 1e-30, 1e30])
@pytest.mark.parametrize("op", NAMES)
def test_temperature(op: str, temperature: float) -> None:
    for n in (5, 300, 20_000):
        x = numbers((2, n), np.float32)
        x[0, 0] = -np.inf
        got = getattr(cuda, op)(x, temperature=temperature)
        expected = getattr(boltzmax, op)(x, temperature=temperature)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@needs_device
@pytest.mark.parametrize("op", NAMES)
def test_axes_and_strides(op: str) -> None:
    """Any axes of arrays of any strides on the device, aligned only to their elements."""
    function, expected = getattr(cuda, op), getattr(boltzmax, op)
    base = numbers((4, 3, 8), np.float32)
    views = (base, base[::2, :, 1:], base[:, ::-1], base.transpose(2, 0, 1), base[1:, 2:3, ::3])
    for x in views:
        for axis in (0, 1, -1, (0, 2), (1, 2), None):
            got = function(OnDevice(x), axis)
            assert isinstance(got, DeviceArray)
            np.testing.assert_allclose(got.to_numpy(), expected(x, axis), rtol=2e-6, atol=1e-7)
    x = np.broadcast_to(base[:, :, :1], base.shape)
    np.testing.assert_allclose(function(OnDevice(x)).to_numpy(), expected(x), rtol=1e-6)


@needs_device
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_out(op: str) -> None:
    """In place, and into strides without touching anything between them."""
    function, expected = getattr(cuda, op), getattr(boltzmax, op)
    for n in (5, 128, 20_000):
        x = OnDevice(numbers((3, n), np.float32))
        assert function(x, out=x) is x
        np.testing.assert_allclose(x.to_numpy(), expected(x.host), rtol=2e-6, atol=1e-7)
        source = numbers((3, 2 * n), np.float32)
        out = OnDevice(np.full((3, 2 * n), 7, np.float32)[:, ::2])
        function(OnDevice(source[:, 1::2]), out=out)
        np.testing.assert_allclose(out.to_numpy(), expected(source[:, 1::2]), rtol=2e-6, atol=1e-7)
        assert (out.memory.to_numpy().view(np.float32).reshape(3, -1)[:, 1::2] == 7).all()


@needs_device
@pytest.mark.parametrize("name", ulp.DTYPES)
@pytest.mark.parametrize("n", [1, 5, 200, 1025, 5000])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_gradients(op: str, n: int, name: str) -> None:
    dtype = dtype_of(name)
    y = getattr(boltzmax, op)(numbers((4, n), dtype))
    dy = numbers((4, n), dtype, 1)
    got = getattr(cuda, f"{op}_backward")(dy, y)
    expected = getattr(boltzmax, f"{op}_backward")(dy, y)
    assert got.dtype == dtype
    eps = ulp.format_of(dtype).eps
    np.testing.assert_allclose(
        got.astype(np.float64), expected.astype(np.float64), rtol=4 * eps, atol=4 * eps
    )


@needs_device
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_targets_of_other_integers(dtype: Any) -> None:
    logits, target = numbers((3, 4), np.float32), np.array([0, 3, 2], dtype)
    expected = boltzmax.cross_entropy(logits, target, reduction="none")
    got = cuda.cross_entropy(logits, target, reduction="none")
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    if dtype != np.uint8:
        there = cuda.cross_entropy(OnDevice(logits), OnDevice(target), reduction="none")
        np.testing.assert_array_equal(there.to_numpy(), got)
    beyond = np.array([0, 2**64 - 1, 1], np.uint64)  # neither classes nor -1
    assert np.isnan(cuda.cross_entropy(logits, beyond, reduction="none")[1])
    with pytest.raises(TypeError, match="target must be an array of int64 or int32, got"):
        cuda.cross_entropy(OnDevice(logits), OnDevice(target.astype(np.float32)))


@needs_device
@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("n", [3, 40, 700, 6001])
def test_rows_at_any_offset(n: int, shift: int) -> None:
    """Packets that the row fills partly; the rest of them is neither read nor written."""
    base = np.full((3 * n + 8), np.nan, np.float32)
    x = base[shift : shift + 3 * n].reshape(3, n)
    x[...] = numbers((3, n), np.float32)
    expected = boltzmax.softmax(x)
    device = OnDevice(x)
    cuda.softmax(device, out=device)
    np.testing.assert_allclose(device.to_numpy(), expected, rtol=2e-6, atol=1e-7)
    beside = device.memory.to_numpy().view(np.float32)
    assert np.isnan(beside[:shift]).all()
    assert np.isnan(beside[shift + 3 * n :]).all()
    # Input and output at different offsets from a packet.
    out = OnDevice(np.zeros(3 * n + 5, np.float32)[1 : 3 * n + 1].reshape(3, n))
    cuda.softmax(OnDevice(x), out=out)
    np.testing.assert_allclose(out.to_numpy(), expected, rtol=2e-6, atol=1e-7)
    dx = cuda.softmax_backward(OnDevice(x), device)
    np.testing.assert_allclose(
        dx.to_numpy(), boltzmax.softmax_backward(x, expected), rtol=1e-4, atol=1e-6
    )


@needs_device
@pytest.mark.parametrize("n", [12_280, 12_288, 12_289, 24_576])
def test_shared_memory_at_its_usual_limit(n: int) -> None:
    x = numbers((9, n), np.float32)
    np.testing.assert_allclose(cuda.softmax(x), boltzmax.softmax(x), rtol=2e-6, atol=1e-7)


@needs_device
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2, 0, 3)])
def test_empty(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    assert cuda.softmax(x).shape == shape
    np.testing.assert_array_equal(cuda.logsumexp(x), boltzmax.logsumexp(x))
    assert cuda.softmax(np.array(3, np.float32)).shape == ()


@needs_device
def test_more_axes_than_a_task_holds() -> None:
    x = numbers((2,) * 18, np.float32)
    with pytest.raises(ValueError, match="too many axes"):
        cuda.softmax(x, tuple(range(0, 18, 2)))
    few = tuple(range(12))  # are merged into one
    np.testing.assert_allclose(cuda.logsumexp(x, few), boltzmax.logsumexp(x, few), rtol=1e-6)


@needs_device
def test_keepdims() -> None:
    x = numbers((3, 4, 5), np.float32)
    for axis in (0, -1, (0, 2), None):
        got = cuda.logsumexp(x, axis, keepdims=True)
        assert isinstance(cuda.logsumexp(x, None), np.float32)
        np.testing.assert_allclose(got, boltzmax.logsumexp(x, axis, keepdims=True), rtol=1e-6)


@needs_device
def test_results_that_overflow() -> None:
    """Infinite losses and sums are infinite, not NaN."""
    logits = np.array([[-np.inf, 0, 1], [3e38, -3e38, 0]], np.float32)
    target = np.array([0, 1])
    for reduction in ("none", "sum", "mean"):
        got = cuda.cross_entropy(logits, target, reduction=reduction)
        expected = boltzmax.cross_entropy(logits, target, reduction=reduction)
        np.testing.assert_array_equal(got, expected)
    dy, y = np.array([1, 2, np.inf], np.float32), np.array([0.5, 0.5, 0], np.float32)
    np.testing.assert_array_equal(
        cuda.log_softmax_backward(dy, -y), boltzmax.log_softmax_backward(dy, -y)
    )
    for dtype, low, temperature in (
        (np.float32, -1e20, 1e-30),
        (np.float32, -1e20, 3e-30),
        (np.float64, -1e300, 7e-30),
    ):
        x = np.array([[0, low, -1]], dtype)
        got = cuda.log_softmax(x, temperature=temperature)
        np.testing.assert_allclose(got, boltzmax.log_softmax(x, temperature=temperature), rtol=1e-6)
    sure = cuda.cross_entropy(np.zeros((1, 1)), np.array([0]), reduction="none")
    assert not np.signbit(sure[0])

"""Inputs and outputs of boltzmax.cuda: other libraries' arrays, memory, streams, errors."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.cuda as cuda
import oracle
import ulp
from boltzmax.cuda import arrays as device_arrays
from boltzmax.cuda import libraries as device_libraries
from boltzmax.cuda.arrays import DeviceArray
from device import IS_EMULATED, OnDevice, dtype_of, needs_device, needs_emulation, numbers

# ---- other libraries


@needs_device
def test_dlpack_and_array_interface_share_memory() -> None:
    x = OnDevice(numbers((3, 5), np.float32))
    first = cuda.softmax(x)
    second = cuda.log_softmax(first)  # a DeviceArray as input

    class ByDLPack:
        def __dlpack__(self, **options: Any) -> Any:
            return first.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return first.__dlpack_device__()

    third = cuda.log_softmax(ByDLPack())
    np.testing.assert_array_equal(second.to_numpy(), third.to_numpy())
    assert first.__dlpack_device__() == (2, 0)


@needs_device
def test_bfloat16_through_dlpack() -> None:
    bfloat16 = dtype_of("bfloat16")
    x = numbers((3, 40), bfloat16)
    device = DeviceArray(x.shape, "bfloat16", 0, 0)
    device.copy_in(x)
    got = cuda.softmax(device).to_numpy().view(bfloat16)
    assert ulp.of_budget("softmax", got, oracle.exact(x), bfloat16).max() <= 1
    assert not hasattr(device, "__cuda_array_interface__")


@needs_emulation
def test_memory_is_freed() -> None:
    _cuda = device_arrays.module()
    array = DeviceArray((4,), "float32", 0, 0)
    address = array.view.address
    assert _cuda.device_of(address) == 0
    capsule = array.__dlpack__()
    del array
    gc.collect()
    assert _cuda.device_of(address) == 0  # the capsule owns it
    del capsule
    gc.collect()
    assert _cuda.device_of(address) == -1


# ---- errors


@needs_device
def test_errors_leave_the_device_usable() -> None:
    x = OnDevice(numbers((3, 5), np.float32))
    other = OnDevice(numbers((3, 5), np.float32), device=0)
    wrong: list[tuple[type[Exception], str | None, Any]] = [
        (TypeError, "dtype int64", lambda: cuda.softmax(np.zeros(3, np.int64))),
        (TypeError, "complex", lambda: cuda.softmax(np.zeros(3, complex))),
        (TypeError, r"builtins\.list", lambda: cuda.softmax([1.0])),
        (TypeError, "both be NumPy", lambda: cuda.softmax(x, where=np.ones((3, 5), bool))),
        (TypeError, "bool", lambda: cuda.softmax(x, where=other)),
        (ValueError, "does not broadcast", lambda: cuda.softmax(
            x, where=OnDevice(np.ones((2, 5), bool)))),
        (ValueError, "temperature must be > 0", lambda: cuda.softmax(x, temperature=0)),
        (TypeError, "temperature must be a real", lambda: cuda.softmax(x, temperature="hot")),
        (np.exceptions.AxisError, "out of bounds", lambda: cuda.softmax(x, 2)),
        (ValueError, "out has shape", lambda: cuda.softmax(
            x, out=OnDevice(np.zeros((5, 3), np.float32)))),
        (TypeError, "out has dtype", lambda: cuda.softmax(
            x, out=OnDevice(np.zeros((3, 5))))),
        (ValueError, "must agree", lambda: cuda.softmax_backward(
            x, OnDevice(np.zeros((3, 4), np.float32)))),
        (ValueError, "reduction", lambda: cuda.cross_entropy(
            x, OnDevice(np.zeros(3, np.int64)), reduction="max")),
        (TypeError, "int64", lambda: cuda.cross_entropy(x, OnDevice(np.zeros(3, np.float32)))),
        (ValueError, "target must have one class for each row", lambda: cuda.cross_entropy(
            x, OnDevice(np.zeros(4, np.int64)))),
        (MemoryError, None, lambda: DeviceArray((1 << 60,), "float32", 0, 0)),
    ]  # fmt: skip
    for kind, text, call in wrong:
        with pytest.raises(kind, match=text):
            call()
        np.testing.assert_allclose(cuda.softmax(x).to_numpy(), boltzmax.softmax(x.host), rtol=1e-6)


@needs_device
def test_host_memory_is_refused() -> None:
    class Pretends:
        host = np.zeros(3, np.float32)
        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": (3,),
            "typestr": "<f4",
            "data": (host.__array_interface__["data"][0], False),
            "version": 3,
        }

    with pytest.raises(TypeError, match="is in host memory"):
        cuda.softmax(Pretends())

    class Elsewhere:
        __dlpack__ = np.zeros(3).__dlpack__

        def __dlpack_device__(self) -> tuple[int, int]:
            return 3, 0

    with pytest.raises(TypeError, match="device type 3"):
        cuda.softmax(Elsewhere())


@needs_device
def test_invalid_overlaps() -> None:
    """Overlaps that would give wrong results or races are refused."""
    square = OnDevice(numbers((4, 4), np.float32))
    before = square.to_numpy()

    def seen(strides: tuple[int, ...], offset: int = 0, readonly: bool = False) -> Any:
        class View:
            __cuda_array_interface__ = {  # noqa: RUF012
                **square.__cuda_array_interface__,
                "strides": strides,
                "data": (square.memory.view.address + offset, readonly),
            }

        return View()

    for out, text in (
        (seen((4, 16)), "overlaps"),
        (seen((16, 4), offset=4), "overlaps"),
        (seen((0, 4)), "share an address"),
        (seen((16, 4), readonly=True), "read-only"),
    ):
        with pytest.raises(ValueError, match=text):
            cuda.softmax(square, out=out)
    with pytest.raises(ValueError, match="not aligned"):
        cuda.softmax(seen((16, 4), offset=2))
    mask = OnDevice(np.ones((4, 4), bool))
    with pytest.raises(TypeError, match="masked"):
        cuda.softmax(np.ma.masked_equal(np.zeros(3), 1))
    np.testing.assert_array_equal(square.to_numpy(), before)
    cuda.softmax(square, where=mask, out=square)


@needs_device
def test_target_layouts() -> None:
    """Targets are contiguous, with any stride along axes of length 1; there must be classes."""
    logits = OnDevice(numbers((1, 3, 4), np.float32))
    labels = np.arange(8, dtype=np.int64).reshape(1, 8)[:, :3]
    loss = cuda.cross_entropy(logits, OnDevice(labels))
    expected = boltzmax.cross_entropy(logits.host, labels)
    np.testing.assert_allclose(loss.to_numpy(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="contiguous"):
        cuda.cross_entropy(logits, OnDevice(np.zeros((1, 6), np.int64)[:, ::2]))
    with pytest.raises(ValueError, match="classes"):
        cuda.cross_entropy(np.zeros((3, 0)), np.zeros(3, np.int64))


@needs_emulation
def test_dlpack_streams_and_options() -> None:
    x = DeviceArray((3,), "float32", 0, 77)
    x.copy_in(np.zeros(3, np.float32))
    result = cuda.softmax(x)
    assert result.stream == 77
    assert cuda.softmax(x, stream=5).stream == 5
    assert cuda.softmax(DeviceArray((3,), "bfloat16", 0, 77)).stream == 77
    x.__dlpack__(stream=5)
    x.__dlpack__(stream=-1, dl_device=(2, 0), max_version=(1, 0))
    with pytest.raises(BufferError, match="without a copy"):
        x.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="without a copy"):
        x.__dlpack__(dl_device=(1, 0))


@needs_device
def test_other_devices() -> None:
    try:
        second = OnDevice(numbers((3, 5), np.float32), device=1)
    except RuntimeError:
        pytest.skip("only one device")
    result = cuda.softmax(second)
    assert result.view.device == 1
    address = result.view.address
    del result
    gc.collect()
    if IS_EMULATED:
        assert device_arrays.module().device_of(address) == -1  # freed, on its own device
    first = OnDevice(second.host)
    with pytest.raises(ValueError, match="on device 1, and x on device 0"):
        cuda.softmax(first, out=second)
    with pytest.raises(RuntimeError, match="device"):
        DeviceArray((1,), "float32", 99, 0)


# ---- other libraries


class Stream:
    """A stream object like those of PyTorch, CuPy, Numba and others."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Protocol:
    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, 8)


def test_streams_of_other_libraries() -> None:
    number = device_libraries.stream_number
    assert number(3) == 3
    assert number(Stream(cuda_stream=5)) == 5
    assert number(Stream(ptr=6)) == 6
    assert number(Stream(handle=ctypes.c_void_p(7))) == 7
    assert number(Stream(handle=ctypes.c_void_p(None))) == 0
    assert number(Protocol()) == 8
    with pytest.raises(TypeError, match="stream must be a stream or its address, got str"):
        number("0")


# ---- facts for benchmarks


@needs_device
def test_launches_are_recorded_on_request() -> None:
    _cuda = device_arrays.module()
    x = OnDevice(numbers((3, 20_000), np.float32))
    _cuda.take_records()
    cuda.softmax(x)
    assert _cuda.take_records() == []
    _cuda.record_launches(True)
    try:
        cuda.softmax(x)
    finally:
        _cuda.record_launches(False)
    (record,) = _cuda.take_records()
    assert record["kernel"]
    assert record["blocks"] == 3 * record["cluster"]
    assert record["threads"] % 32 == 0
    assert record["shared_bytes"] * record["cluster"] >= x.host[0].nbytes  # the row stays there
    most = _cuda.device_attributes(0)["threads_of_multiprocessor"]
    assert 0 < record["resident_blocks"] * record["threads"] <= most
    cuda.softmax(x)
    assert _cuda.take_records() == []


@needs_device
def test_copies_on_the_device() -> None:
    source, to = numbers((5, 7), np.float32), np.zeros((5, 7), np.float32)
    x, y = OnDevice(source), OnDevice(to)
    _cuda = device_arrays.module()
    _cuda.copy(y.memory.view.address, x.memory.view.address, source.nbytes, 0, 0)
    _cuda.wait_for(0, 0)
    np.testing.assert_array_equal(y.to_numpy(), source)

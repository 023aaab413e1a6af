"""The strided entries of the C interface: layouts, conversions, masks, temperatures, refusals."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import c_table
from c_table import same
from operations import OPERATIONS

Array = npt.NDArray[Any]

API = c_table.table()
CONSTANTS = c_table.constants()


def dtype_code(array: Array) -> int:
    return CONSTANTS[f"BOLTZMAX_{array.dtype.name.upper()}"]


def pointer(numbers: tuple[int, ...]) -> Any:
    return ctypes.cast((ctypes.c_ssize_t * len(numbers))(*numbers), ctypes.c_void_p)


def call_of(op: str, x: Array, y: Array, axes: tuple[int, ...], **others: Array | None) -> Any:
    """The struct for op(x) along some axes, with a mask and temperatures of x's dimensions."""
    fields: dict[str, Any] = {
        "size": ctypes.sizeof(c_table.StridedCall),
        "operation": OPERATIONS.index(op),
        "x_dtype": dtype_code(x),
        "y_dtype": dtype_code(y),
        "ndim": x.ndim,
        "axes": sum(1 << axis for axis in axes),
        "shape": pointer(x.shape),
    }
    for name, array in {"x": x, "y": y, **others}.items():
        if array is not None:
            fields |= {name: array.ctypes.data, f"{name}_strides": pointer(array.strides)}
    return c_table.StridedCall(**fields)


def numbers(shape: tuple[int, ...], dtype: Any) -> Array:
    values = np.random.default_rng(len(shape)).normal(scale=3, size=shape)
    if np.dtype(dtype) == bool:
        return values > 0
    return (np.abs(values) if np.dtype(dtype).kind == "u" else values).astype(dtype)


LAYOUTS = {
    "columns": lambda a: a.swapaxes(0, -1),
    "backwards": lambda a: a[::-1, :, ::-1],
    "every other": lambda a: a[:, ::2],
    "broadcast": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "misaligned": lambda a: np.ndarray(
        a.shape, a.dtype, bytearray(a.nbytes + 1), 1, a.strides
    ).__iadd__(a),
}


@pytest.mark.parametrize("axes", [(2,), (0,), (1,), (0, 2), (0, 1, 2), ()], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPERATIONS)
def test_layouts(op: str, layout: str, axes: tuple[int, ...], isa: str) -> None:
    x = LAYOUTS[layout](numbers((5, 6, 7), np.float32))
    if layout != "broadcast":
        assert not x.flags.c_contiguous or not x.flags.aligned
    y = np.full(x.shape[::-1], 9, np.float32).T
    kept = np.full([1 if d in axes else n for d, n in enumerate(x.shape)], 9, np.float32)
    target = kept if op == "logsumexp" else y
    assert API.run_strided(ctypes.byref(call_of(op, x, target, axes))) == 0
    if axes:
        options = {"keepdims": True} if op == "logsumexp" else {}
        expected = getattr(boltzmax, op)(x, axis=axes, **options)
    else:  # every element is one row
        expected = {"softmax": np.ones_like(x), "log_softmax": np.zeros_like(x), "logsumexp": x}[op]
    assert same(target, np.asarray(expected, np.float32))


@pytest.mark.parametrize("n", [40, 70_000])
@pytest.mark.parametrize("op", OPERATIONS)
def test_masks_and_temperatures(op: str, n: int, isa: str) -> None:
    x, mask = numbers((3, n), np.float64), numbers((n, 3), bool).T
    temperature = np.array([[0.5], [2.0], [1.0]])
    y = np.empty((3, 1) if op == "logsumexp" else x.shape)
    call = call_of(op, x, y, (1,), mask=mask, temperature=temperature)
    assert API.run_strided(ctypes.byref(call)) == 0
    options = {"keepdims": True} if op == "logsumexp" else {}
    expected = getattr(boltzmax, op)(x, where=mask, temperature=temperature, **options)
    assert same(y, expected)
    call.temperature_strides = None  # the first temperature for all rows
    assert API.run_strided(ctypes.byref(call)) == 0
    assert same(y, getattr(boltzmax, op)(x, where=mask, temperature=0.5, **options))


@pytest.mark.parametrize("kind", ["?", "b", "B", "h", "H", "i", "I", "l", "L", "e", "f", "d"])
@pytest.mark.parametrize("result", [np.float32, np.float64, np.float16])
def test_conversions(kind: str, result: Any) -> None:
    x = numbers((4, 9), kind)
    y = np.empty(x.shape, result)
    assert API.run_strided(ctypes.byref(call_of("softmax", x, y, (1,)))) == 0
    assert same(y, boltzmax.softmax(x.astype(result)))


@pytest.mark.parametrize("n", [9, 70_000])
@pytest.mark.parametrize("op", OPERATIONS)
def test_misaligned_results(op: str, n: int, dtype: Any, isa: str) -> None:
    x = numbers((3, n), np.float32).astype(dtype)
    shape = (3, 1) if op == "logsumexp" else x.shape
    y = np.ndarray(shape, x.dtype, bytearray(8 + x.nbytes), 1)
    assert not y.flags.aligned
    assert API.run_strided(ctypes.byref(call_of(op, x, y, (1,)))) == 0
    options = {"keepdims": True} if op == "logsumexp" else {}
    assert same(y.copy(), getattr(boltzmax, op)(x, **options))


def test_in_place_and_zero_dimensions() -> None:
    x = numbers((6, 5, 4), np.float32).transpose(1, 0, 2)
    expected = boltzmax.softmax(x, axis=1)
    assert API.run_strided(ctypes.byref(call_of("softmax", x, x, (1,)))) == 0
    assert same(x, expected)
    x, y = np.array(3.0), np.array(0.0)
    assert API.run_strided(ctypes.byref(call_of("logsumexp", x, y, ()))) == 0
    assert y == 3.0


def backward_call(op: str, dy: Array, y: Array, dx: Array, axes: tuple[int, ...]) -> Any:
    fields: dict[str, Any] = {
        "size": ctypes.sizeof(c_table.StridedBackwardCall),
        "operation": OPERATIONS.index(op),
        "dtype": dtype_code(dx),
        "ndim": dx.ndim,
        "axes": sum(1 << axis for axis in axes),
        "shape": pointer(dx.shape),
    }
    for name, array in {"dy": dy, "y": y, "dx": dx}.items():
        fields |= {name: array.ctypes.data, f"{name}_strides": pointer(array.strides)}
    return c_table.StridedBackwardCall(**fields)


@pytest.mark.parametrize("axes", [(2,), (0,), (0, 2)], ids=str)
@pytest.mark.parametrize("op", OPERATIONS[:2])
def test_gradients(op: str, axes: tuple[int, ...], isa: str) -> None:
    dy, x = numbers((5, 6, 7), np.float64), numbers((7, 6, 5), np.float64).T
    y = getattr(boltzmax, op)(x, axis=axes)
    dx = np.empty((6, 7, 5)).transpose(2, 0, 1)
    assert API.run_strided_backward(ctypes.byref(backward_call(op, dy, y, dx, axes))) == 0
    assert same(dx, getattr(boltzmax, f"{op}_backward")(dy, y, axis=axes))


# ---- errors

REFUSED = {
    "an older struct": ({"size": 8}, "BAD_OPTION"),
    "no such operation": ({"operation": 3}, "BAD_OPTION"),
    "a negative operation": ({"operation": -1}, "BAD_OPTION"),
    "no such type": ({"x_dtype": 13}, "BAD_OPTION"),
    "an integer result": ({"y_dtype": 9}, "BAD_OPTION"),
    "no such axis": ({"axes": 1 << 2}, "BAD_OPTION"),
    "the last bit": ({"axes": 1 << 63}, "BAD_OPTION"),
    "no dimension": ({"ndim": -1}, "BAD_SIZE"),
    "many dimensions": ({"ndim": 65}, "BAD_SIZE"),
    "a negative size": ({"shape": pointer((3, -4))}, "BAD_SIZE"),
    "too many elements": ({"shape": pointer((2**40, 2**40))}, "BAD_SIZE"),
    "too many behind none": ({"shape": pointer((0, 2**62))}, "BAD_SIZE"),
    "too wide a stride": ({"x_strides": pointer((2**62, 8))}, "BAD_SIZE"),
    "the lowest stride": ({"y_strides": pointer((-(2**63), 8))}, "BAD_SIZE"),
    "no shape": ({"shape": None}, "NULL_POINTER"),
    "no x": ({"x": None}, "NULL_POINTER"),
    "no y": ({"y": None}, "NULL_POINTER"),
    "no strides": ({"x_strides": None}, "NULL_POINTER"),
    "strides for no mask": ({"mask_strides": None}, "NULL_POINTER"),
    "crooked temperatures": ({"temperature_strides": pointer((12, 0))}, "MISALIGNED"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    changes, status = REFUSED[name]
    x, y, mask = np.ones((3, 4)), np.full((3, 4), 7.0), np.ones((3, 4), bool)
    call = call_of("softmax", x, y, (1,), mask=mask, temperature=np.ones((3, 1)))
    for field, value in changes.items():
        setattr(call, field, value)
    assert API.run_strided(ctypes.byref(call)) == CONSTANTS[f"BOLTZMAX_{status}"]
    assert (y == 7.0).all()


def test_unused_strides() -> None:
    """Along an axis of one element, and in an empty array, any stride is valid."""
    x, temperature = numbers((1, 4), np.float64), np.full((1, 1), 2.0)
    y = np.empty((1, 4))
    call = call_of("softmax", x, y, (1,), temperature=temperature)
    call.x_strides = call.y_strides = pointer((2**62 + 1, 8))
    call.temperature_strides = pointer((3, 0))
    assert API.run_strided(ctypes.byref(call)) == 0
    assert same(y, boltzmax.softmax(x, temperature=2.0))
    call.shape, call.x_strides = pointer((0, 4)), pointer((2**62, 8))
    assert API.run_strided(ctypes.byref(call)) == 0


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, 1e31])
def test_invalid_temperatures(bad: float) -> None:
    x, y, temperature = np.ones((3, 4)), np.full((3, 4), 7.0), np.array([[1.0], [1.0], [bad]])
    call = call_of("softmax", x, y, (1,), temperature=temperature)
    refused = CONSTANTS["BOLTZMAX_BAD_TEMPERATURE"]
    assert API.run_strided(ctypes.byref(call)) == refused
    assert (y == 7.0).all()
    assert API.run_strided(None) == CONSTANTS["BOLTZMAX_NULL_POINTER"]


def test_invalid_gradients() -> None:
    dy, y, dx = np.ones((3, 4)), np.ones((3, 4)), np.full((3, 4), 7.0)
    cases: list[tuple[str, Any, str]] = [
        ("size", 8, "BAD_OPTION"),
        ("operation", 2, "BAD_OPTION"),
        ("dtype", 4, "BAD_OPTION"),
        ("reserved", 1, "BAD_OPTION"),
        ("axes", 4, "BAD_OPTION"),
        ("ndim", 65, "BAD_SIZE"),
        ("shape", pointer((3, -1)), "BAD_SIZE"),
        ("dy_strides", pointer((2**62, 8)), "BAD_SIZE"),
        ("y", None, "NULL_POINTER"),
        ("dx", None, "NULL_POINTER"),
    ]
    for field, value, status in cases:
        call = backward_call("softmax", dy, y, dx, (1,))
        setattr(call, field, value)
        expected = CONSTANTS[f"BOLTZMAX_{status}"]
        assert API.run_strided_backward(ctypes.byref(call)) == expected, field
    assert API.run_strided_backward(None) == CONSTANTS["BOLTZMAX_NULL_POINTER"]
    assert (dx == 7.0).all()

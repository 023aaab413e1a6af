"""Arrays on CUDA devices, whoever owns them: what is read of them, and new ones of the same kind.

An array offers ``__dlpack__`` (PyTorch, CuPy, JAX) or ``__cuda_array_interface__`` (Numba and the
rest). No library is imported here: where one is needed to make its own kind of array, the caller's
array came from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from boltzmax import _core

try:
    from boltzmax import _cuda  # type: ignore[attr-defined, unused-ignore]
except ImportError:
    _cuda = None

Shape = tuple[int, ...]

# DLPack's codes of types.
_INT, _UINT, _FLOAT, _BFLOAT, _BOOL = 0, 1, 2, 4, 6
_NAMES = {
    (_FLOAT, 16): "float16",
    (_FLOAT, 32): "float32",
    (_FLOAT, 64): "float64",
    (_BFLOAT, 16): "bfloat16",
    (_BOOL, 8): "bool",
    (_INT, 64): "int64",
}
_CODES = {name: code for code, name in _NAMES.items()}
_CUDA, _CUDA_MANAGED = 2, 13  # of DLPack's types of devices
FLOATS = ("float16", "bfloat16", "float32", "float64")
ITEM = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "bool": 1, "int64": 8}


def why_unavailable() -> str:
    """Return why there is no device to use; an empty string if there is one."""
    if _cuda is None:
        return (
            "this boltzmax was built without CUDA; pip install boltzmax -C "
            "cmake.define.BOLTZMAX_CUDA=ON builds it where nvcc is"
        )
    reason: str = _cuda.why_unavailable()
    return reason


def module() -> Any:
    """Return the compiled module, or raise a RuntimeError that says why there is none."""
    reason = why_unavailable()
    if reason:
        raise RuntimeError(f"boltzmax.cuda cannot be used: {reason}")
    return _cuda


@dataclass(frozen=True)
class View:
    """What the device needs to know of an array, and what keeps its memory alive."""

    address: int
    shape: Shape
    strides: Shape  # bytes
    dtype: str
    device: int
    owner: Any

    @property
    def place(self) -> tuple[int, Shape]:
        """Address and strides."""
        return self.address, self.strides

    def broadcast_to(self, shape: Shape, name: str) -> View:
        """Return the same elements under another shape, as NumPy broadcasts."""
        missing = len(shape) - len(self.shape)
        own = (1,) * missing + self.shape
        if missing < 0 or any(a not in (1, b) for a, b in zip(own, shape, strict=True)):
            raise ValueError(f"{name} of shape {self.shape} does not broadcast to {shape}")
        steps = (0,) * missing + self.strides
        strides = tuple(s if a == b else 0 for s, a, b in zip(steps, own, shape, strict=True))
        return View(self.address, shape, strides, self.dtype, self.device, self.owner)


def contiguous_strides(shape: Sequence[int], item: int) -> Shape:
    """Return strides in C order."""
    strides = [item] * len(shape)
    for d in range(len(shape) - 2, -1, -1):
        strides[d] = strides[d + 1] * shape[d + 1]
    return tuple(strides)


def _bytes_of(host: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return host.reshape(-1).view(np.uint8)


class DeviceArray:
    """A contiguous array in memory of boltzmax's own: what any other library can take over.

    Attributes
    ----------
    shape : tuple of int
        As NumPy's.
    dtype : str
        Such as "float32" or "bfloat16".
    """

    def __init__(self, shape: Shape, dtype: str, device: int, stream: int) -> None:
        self.shape, self.dtype = shape, dtype
        size = int(np.prod(shape, dtype=np.int64)) * ITEM[dtype]
        self._memory = module().DeviceMemory(size, device, stream)
        self._stream = stream

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no name for bfloat16: use DLPack")
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self._memory.address, False),
            "version": 3,
            "strides": None,
            "stream": self._stream or 1,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self._memory.device

    def __dlpack__(self, **options: Any) -> Any:
        return module().write_dlpack(self._memory, self.shape, *_CODES[self.dtype])

    def copy_out(self, host: np.ndarray[Any, Any]) -> None:
        """Write the numbers into a contiguous array of the same size in bytes."""
        self._memory.copy_out(_bytes_of(host))

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Return a copy on the host (of bfloat16 its bits, as uint16)."""
        host = np.empty(self.shape, "uint16" if self.dtype == "bfloat16" else self.dtype)
        self.copy_out(host)
        return host

    @property
    def view(self) -> View:
        """As `view_of` reads it."""
        strides = contiguous_strides(self.shape, ITEM[self.dtype])
        memory = self._memory
        return View(memory.address, self.shape, strides, self.dtype, memory.device, self)

    def copy_in(self, host: np.ndarray[Any, Any]) -> None:
        """Take the numbers of a contiguous array of the same size in bytes."""
        self._memory.copy_in(_bytes_of(host))


def _library(x: Any) -> str:
    return type(x).__module__.partition(".")[0]


def stream_of(x: Any, stream: int | None) -> int:
    """Return the stream to run on: the caller's, or the one that is current in x's library."""
    if stream is not None:
        return int(stream)
    library = sys.modules.get(_library(x))
    if _library(x) == "torch" and library is not None:
        return int(library.cuda.current_stream(x.device).cuda_stream)
    if _library(x) == "cupy" and library is not None:
        return int(library.cuda.get_current_stream().ptr)
    try:
        interface = x.__cuda_array_interface__
    except (AttributeError, TypeError, RuntimeError):
        return 0
    return int(interface.get("stream") or 0)


def is_on_device(x: Any) -> bool:
    """Whether x is an array, and not on the host."""
    if hasattr(x, "__dlpack_device__"):
        return int(x.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
    return hasattr(x, "__cuda_array_interface__")


def view_of(x: Any, name: str, stream: int) -> View:
    """Read where an array's elements lie. TypeError if it is not on a device."""
    if isinstance(x, DeviceArray):
        return x.view
    if hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        return _of_dlpack(x, name, stream)
    if hasattr(x, "__cuda_array_interface__"):
        return _of_interface(x, name)
    raise TypeError(
        f"{name} must be an array on a CUDA device (with __dlpack__ or __cuda_array_interface__), "
        f"got {type(x).__module__}.{type(x).__qualname__}"
    )


def _of_dlpack(x: Any, name: str, stream: int) -> View:
    kind = int(x.__dlpack_device__()[0])
    if kind not in (_CUDA, _CUDA_MANAGED):
        raise TypeError(f"{name} must be on a CUDA device, not on DLPack's device type {kind}")
    # -1: the producer need not wait. Where its stream is not known here, it waits for ours.
    knows_stream = _library(x) in ("torch", "cupy")
    source = x.detach() if _library(x) == "torch" else x
    capsule = source.__dlpack__(stream=-1 if knows_stream else stream or 1)
    address, shape, strides, code, bits, _, device = module().read_dlpack(capsule)
    dtype = _NAMES.get((code, bits))
    if dtype is None:
        raise TypeError(f"{name} has a dtype that is not supported (DLPack's {code}, {bits} bits)")
    return View(address, shape, strides, dtype, device, capsule)


def _of_interface(x: Any, name: str) -> View:
    interface = x.__cuda_array_interface__
    address, shape = int(interface["data"][0]), tuple(interface["shape"])
    if interface.get("mask") is not None:
        raise TypeError(f"{name} is a masked array; pass its data, and where=~mask")
    try:
        dtype = np.dtype(interface["typestr"])
    except TypeError:
        dtype = np.dtype(object)
    if dtype.name not in ITEM or not dtype.isnative:
        raise TypeError(f"{name} has dtype {interface['typestr']}, which is not supported")
    strides = interface.get("strides") or contiguous_strides(shape, dtype.itemsize)
    device = 0 if 0 in shape else module().device_of(address)
    if device < 0:
        raise TypeError(f"{name} must be in the memory of a CUDA device, and is in the host's")
    return View(address, shape, tuple(strides), dtype.name, device, x)


def empty_like(x: Any, view: View, shape: Shape, dtype: str, stream: int) -> Any:
    """Return an array of x's kind, on its device, of any numbers."""
    library = sys.modules.get(_library(x))
    if _library(x) == "torch" and library is not None:
        return library.empty(shape, dtype=getattr(library, dtype), device=x.device)
    if _library(x) == "cupy" and library is not None:
        with library.cuda.Device(view.device):
            return library.empty(shape, _dtype_of(dtype))
    if _library(x) == "numba" and "numba.cuda" in sys.modules:
        return sys.modules["numba.cuda"].device_array(shape, _dtype_of(dtype))
    return DeviceArray(shape, dtype, view.device, stream)


def _dtype_of(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(dtype)


def finished(result: Any, x: Any) -> Any:
    """Return a result as the kind of array that x is, where `empty_like` could not make one."""
    if isinstance(result, DeviceArray) and _library(x) in ("jax", "jaxlib"):
        return sys.modules["jax"].dlpack.from_dlpack(result)
    return result


def host_dtype(x: np.ndarray[Any, Any], name: str) -> str:
    """Return the name of a NumPy array's dtype, as views have it."""
    if x.dtype.name == "bfloat16":
        _core.register_bfloat16(x.dtype)
    dtype: str = x.dtype.name
    if dtype not in ITEM or not x.dtype.isnative:
        raise TypeError(f"{name} has dtype {x.dtype}; {', '.join(FLOATS)} are supported")
    return dtype

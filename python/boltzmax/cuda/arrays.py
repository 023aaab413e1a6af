"""Memory on CUDA devices: views of other libraries' arrays, and boltzmax's own arrays."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from boltzmax import _core

try:
    from boltzmax import _cuda  # type: ignore[attr-defined, unused-ignore]
except ImportError:
    _cuda = None

Shape = tuple[int, ...]

# DLPack's type codes.
_INT, _FLOAT, _BFLOAT, _BOOL = 0, 2, 4, 6
_NAMES = {
    (_FLOAT, 16): "float16",
    (_FLOAT, 32): "float32",
    (_FLOAT, 64): "float64",
    (_BFLOAT, 16): "bfloat16",
    (_BOOL, 8): "bool",
    (_INT, 32): "int32",
    (_INT, 64): "int64",
}
_CODES = {name: code for code, name in _NAMES.items()}
_CUDA = 2  # DLPack's device type
FLOATS = ("float16", "bfloat16", "float32", "float64")
ITEM = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "bool": 1, "int32": 4, "int64": 8}


def why_unavailable() -> str:
    """Return the reason why no device can be used; an empty string if one can.

    Examples
    --------
    >>> import boltzmax.cuda
    >>> bool(boltzmax.cuda.why_unavailable()) == (not boltzmax.cuda.is_available())
    True
    """
    if _cuda is None:
        return (
            "this boltzmax was built without CUDA; where nvcc is installed, pip install boltzmax "
            "-C cmake.define.BOLTZMAX_CUDA=ON builds it"
        )
    reason: str = _cuda.why_unavailable()
    return reason


_found: list[Any] = []  # the module, once a device has been found


def module() -> Any:
    """Return the compiled module, or raise a RuntimeError with the reason why there is none."""
    if not _found:
        reason = why_unavailable()
        if reason:
            raise RuntimeError(f"boltzmax.cuda cannot be used: {reason}")
        _found.append(_cuda)
    return _found[0]


def load_products() -> None:
    """Load cuBLAS for matrix products, or raise a RuntimeError with the reason why not."""
    if not module().load_products([]):
        return  # already loaded
    own = module().cuda_version // 1000
    names = [f"libcublas.so.{version}" for version in sorted((13, 12), key=lambda v: v != own)]
    folders = importlib.util.find_spec("nvidia")  # the folders of NVIDIA's packages
    found: list[str] = []
    for folder in (folders.submodule_search_locations or ()) if folders else ():
        found += [str(path) for name in names for path in Path(folder).glob(f"*/lib/{name}")]
    reason = module().load_products(names + found)
    if reason:
        raise RuntimeError(
            f"boltzmax.cuda cannot multiply matrices without cuBLAS: {reason}; it comes with CUDA, "
            "with PyTorch, and from PyPI as nvidia-cublas"
        )


class View(NamedTuple):
    """An array's address, layout and device, and the object that keeps its memory alive."""

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

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements are contiguous in C order."""
        dense = contiguous_strides(self.shape, ITEM[self.dtype])
        own = zip(self.strides, dense, self.shape, strict=True)
        return 0 in self.shape or all(n == 1 or a == b for a, b, n in own)

    @property
    def is_aligned(self) -> bool:
        """Whether the address of every element is a multiple of its size."""
        return all(at % ITEM[self.dtype] == 0 for at in (self.address, *self.strides))

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def overlaps(self, other: View) -> bool:
        """Whether the address ranges of two arrays on one device overlap."""
        (a, b), (c, d) = self._bounds(), other._bounds()
        return self.device == other.device and a < d and c < b

    def _bounds(self) -> tuple[int, int]:
        if 0 in self.shape:
            return self.address, self.address
        steps = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        first = self.address + sum(step for step in steps if step < 0)
        return first, self.address + sum(step for step in steps if step > 0) + ITEM[self.dtype]

    def broadcast_to(self, shape: Shape, name: str, other: str) -> View:
        """Return the same elements in another shape, broadcast by NumPy's rules."""
        missing = len(shape) - len(self.shape)
        own = (1,) * missing + self.shape
        if missing < 0 or any(a not in (1, b) for a, b in zip(own, shape, strict=True)):
            raise ValueError(
                f"{name} of shape {self.shape} does not broadcast to {other} of shape {shape}"
            )
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
    """A contiguous array in memory that boltzmax owns, which any other library can adopt.

    Attributes
    ----------
    shape : tuple of int
        As NumPy's.
    dtype : str
        Such as "float32" or "bfloat16".

    Examples
    --------
    >>> import boltzmax.cuda
    >>> numbers = boltzmax.cuda.DeviceArray((2, 3), "float32", device=0, stream=0)
    >>> numbers.shape, numbers.dtype
    ((2, 3), 'float32')
    """

    def __init__(
        self, shape: Shape, dtype: str, device: int, stream: int, *, is_lasting: bool = False
    ) -> None:
        self.shape, self.dtype = shape, dtype
        size = math.prod(shape) * ITEM[dtype]
        self._memory = module().DeviceMemory(size, device, stream, is_lasting)
        self.stream = stream

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
            "stream": self.stream or 1,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self._memory.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("boltzmax exports its device memory as it is, without a copy")
        if stream != -1:  # None and 1 are the default stream
            self._memory.share_with(0 if stream in (None, 1) else stream)
        return module().write_dlpack(self._memory, self.shape, *_CODES[self.dtype])

    def copy_out(self, host: np.ndarray[Any, Any]) -> None:
        """Write the numbers into a contiguous array of the same size in bytes."""
        self._memory.copy_out(_bytes_of(host))

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Return a copy on the host (bfloat16 as its bits, in uint16)."""
        host = np.empty(self.shape, "uint16" if self.dtype == "bfloat16" else self.dtype)
        self.copy_out(host)
        return host

    @property
    def view(self) -> View:
        """The view that `view_of` would read."""
        strides = contiguous_strides(self.shape, ITEM[self.dtype])
        memory = self._memory
        return View(memory.address, self.shape, strides, self.dtype, memory.device, self)

    def copy_in(self, host: np.ndarray[Any, Any]) -> None:
        """Copy the numbers of a contiguous array of the same size in bytes."""
        self._memory.copy_in(_bytes_of(host))


def host_dtype(x: np.ndarray[Any, Any], name: str) -> str:
    """Return the name of a NumPy array's dtype, as in views."""
    if x.dtype.name == "bfloat16":
        _core.register_bfloat16(x.dtype)
    dtype: str = x.dtype.name
    if dtype not in ITEM or not x.dtype.isnative:
        raise TypeError(f"{name} has dtype {x.dtype}; {', '.join(FLOATS)} are supported")
    return dtype

"""Arrays on the device for the tests of boltzmax.cuda."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax.cuda as cuda
import ulp
from boltzmax.cuda import arrays as device_arrays
from boltzmax.cuda.arrays import DeviceArray

Array = npt.NDArray[Any]
REASON = cuda.why_unavailable()

IS_EMULATED = not REASON and device_arrays.module().is_emulated
needs_device = pytest.mark.skipif(bool(REASON), reason=REASON)


needs_emulation = pytest.mark.skipif(
    not IS_EMULATED, reason=REASON or "streams of any number, and memory that is gone at once"
)


def comparisons(call: Callable[[], object]) -> int:
    """How many candidates a call has compared on the emulated device."""
    count = device_arrays.module().count_comparisons
    before: int = count()
    call()
    return int(count() - before)


class OnDevice:
    """A strided array on the device, as a library without DLPack would expose it."""

    def __init__(self, host: Array, device: int = 0) -> None:
        # All of the memory that the array is a view of.
        self.base = host if host.base is None else host.base
        self.memory = DeviceArray((self.base.nbytes,), "bool", device, 0)
        self.memory.copy_in(np.ascontiguousarray(self.base).reshape(-1).view(np.uint8))
        self.host = host
        offset = host.__array_interface__["data"][0] - self.base.__array_interface__["data"][0]
        self.__cuda_array_interface__ = {
            "shape": host.shape,
            "typestr": host.dtype.str,
            "strides": host.strides,
            "data": (self.memory.view.address + offset, False),
            "version": 3,
        }

    def to_numpy(self) -> Array:
        """The current numbers."""
        base = np.empty_like(self.base)
        base.reshape(-1).view(np.uint8)[...] = self.memory.to_numpy().view(np.uint8)
        result: Array = np.ndarray(
            self.host.shape,
            self.host.dtype,
            base.data,
            self.host.__array_interface__["data"][0] - self.base.__array_interface__["data"][0],
            self.host.strides,
        )
        return result


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(dtype)


def dtype_of(name: str) -> np.dtype[Any]:
    try:
        return ulp.dtype_of(name)
    except ImportError:
        pytest.skip(f"without {name}")

"""Read other libraries' arrays on CUDA devices, and create new ones of the same kind.

An array offers ``__dlpack__`` (PyTorch, CuPy, JAX) or ``__cuda_array_interface__`` (Numba and
others). Nothing is imported here that is not already loaded: the caller's array came from it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

import numpy as np

from boltzmax.cuda.arrays import (
    _NAMES,
    ITEM,
    DeviceArray,
    Shape,
    View,
    contiguous_strides,
    module,
)

_names: dict[type[Any], str] = {}  # library names by array type
_KNOWN = {"torch": "torch", "cupy": "cupy", "jax": "jax", "jaxlib": "jax", "numba": "numba"}


def _library(x: Any) -> tuple[str, Any]:
    """Return the name and the module of the library that defines the type of x or a base of it."""
    kind = type(x)
    if kind not in _names:
        names = (_KNOWN.get(c.__module__.partition(".")[0], "") for c in kind.__mro__)
        _names[kind] = next((name for name in names if name in sys.modules), "")
    return _names[kind], sys.modules.get(_names[kind])


def stream_number(stream: Any) -> int:
    """Return the address of a stream, given as a number or an object of PyTorch, CuPy or others."""
    for attribute in ("cuda_stream", "ptr", "handle"):
        if hasattr(stream, attribute):
            address = getattr(stream, attribute)
            return int(getattr(address, "value", address) or 0)
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    if not isinstance(stream, int):
        raise TypeError(f"stream must be a stream or its address, got {type(stream).__name__}")
    return stream


def check_on_device(x: Any, name: str) -> None:
    """Raise a TypeError unless x is an array on a CUDA device."""
    name_of_library, library = _library(x)
    if name_of_library == "torch" and isinstance(x, library.Tensor) and x.is_cuda:
        return  # faster than the general check below
    if hasattr(x, "__dlpack_device__"):
        kind = int(x.__dlpack_device__()[0])
        if not module().takes_device(kind):
            raise TypeError(f"{name} must be on a CUDA device, not on DLPack's device type {kind}")
    elif not hasattr(x, "__cuda_array_interface__"):
        raise TypeError(
            f"{name} must be an array on a CUDA device (with __dlpack__ or "
            f"__cuda_array_interface__), got {type(x).__module__}.{type(x).__qualname__}"
        )


def stream_of(x: Any) -> int | None:
    """Return the stream on which x is computed and used; None if its library does not expose it."""
    if isinstance(x, DeviceArray):
        return x.stream
    name, library = _library(x)
    if name == "torch":
        stream: int | None = module().stream_of(x)
        if stream is None:
            stream = int(library.cuda.current_stream(x.device).cuda_stream) if x.is_cuda else 0
        return stream
    if name == "cupy":
        with library.cuda.Device(x.device.id):
            return int(library.cuda.get_current_stream().ptr)
    if hasattr(x, "__dlpack__"):
        return None
    stream = x.__cuda_array_interface__.get("stream")
    return 0 if stream in (None, 1) else int(stream)


def view_of(x: Any, name: str, stream: int) -> View:
    """Read an array's layout, and let `stream` wait for the work that produces it."""
    check_on_device(x, name)
    if isinstance(x, DeviceArray):
        view = x.view
    elif hasattr(x, "__dlpack__"):
        view = _of_dlpack(x, name, stream)
    else:
        view = _of_interface(x, name)
    own = stream_of(x)
    if own not in (None, stream):
        module().order(view.device, own, stream)
    return view


def release(x: Any, device: int, stream: int) -> None:
    """Let x's own stream reuse x once a call on another stream is done with it."""
    name, _ = _library(x)
    own = stream_of(x)
    if own not in (None, stream):
        module().order(device, stream, own)
    elif name == "jax":  # hides its streams, and reuses memory that has no references
        module().wait_for(device, stream)


def _is_recorded(torch: Any, x: Any) -> bool:
    """Whether PyTorch may be recording operations on x; `check_not_recorded` looks closely."""
    inside = torch._C  # private: another version may lack something
    return bool(
        x.requires_grad
        or getattr(inside, "_get_tracing_state", _none)() is not None
        or getattr(inside, "_len_torch_dispatch_stack", _none)()
        or getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0
    )


def _none() -> None:
    return None


def check_not_recorded(x: Any, name: str) -> None:
    """Raise a TypeError where PyTorch would expect to differentiate or trace the result."""
    which, torch = _library(x)
    if which != "torch" or not isinstance(x, torch.Tensor) or not _is_recorded(torch, x):
        return
    what = ""
    if x.requires_grad and torch.is_grad_enabled():
        what = "requires a gradient"
    elif torch.autograd.forward_ad.unpack_dual(x).tangent is not None:
        what = "has a tangent"
    if what:
        raise TypeError(
            f"{name} {what}, which boltzmax does not follow: pass {name}.detach(), or call in "
            "torch.no_grad()"
        )
    dispatch = torch.utils._python_dispatch
    modes: list[Any] = getattr(dispatch, "_get_current_dispatch_mode_stack", list)()
    if torch.jit.is_tracing() or any(type(m).__name__ == "ProxyTorchDispatchMode" for m in modes):
        raise TypeError(f"{name} is being traced, and the trace would miss boltzmax's work")


def mark_written(out: Any) -> None:
    """Tell PyTorch that a tensor has changed, in case it was saved for a gradient."""
    name, library = _library(out)
    if name == "torch":
        library.autograd.graph.increment_version(out)


def _of_dlpack(x: Any, name: str, stream: int) -> View:
    which, library = _library(x)
    owner, told = x, None
    if which == "torch":
        if not x.is_neg():  # DLPack does not convey lazy negation
            told = module().read_exchange(x)
        if told is None:
            # PyTorch exports only from the current device.
            with library.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
                owner = x.detach().resolve_neg().__dlpack__(stream=-1)
    else:  # -1: the producer need not synchronize, since both streams are known here
        owner = x.__dlpack__(stream=stream or 1 if stream_of(x) is None else -1)
    address, shape, strides, code, bits, _, device = told or module().read_dlpack(owner)
    if address == 0 and 0 not in shape:
        raise TypeError(f"{name} has no memory of its own")
    dtype = _NAMES.get((code, bits))
    if dtype is None:
        raise TypeError(f"{name} has a dtype that is not supported (DLPack's {code}, {bits} bits)")
    return View(address, shape, strides, dtype, device, owner)


def check_writable(out: Any, view: View) -> None:
    """Raise unless a result can be written to `out`, each element to a separate address."""
    name, _ = _library(out)
    if name == "torch" and out.is_neg():
        raise ValueError("out is a view of negated numbers")
    if name == "jax":
        raise TypeError("out cannot be a JAX array, which is immutable")
    interface = None if hasattr(out, "__dlpack__") else out.__cuda_array_interface__
    if interface is not None and interface["data"][1]:
        raise ValueError("out is read-only")
    if any(s == 0 and n > 1 for s, n in zip(view.strides, view.shape, strict=True)):
        raise ValueError("out has elements that share an address, as in a broadcast view")


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
        raise TypeError(f"{name} must be in the memory of a CUDA device, but is in host memory")
    return View(address, shape, tuple(strides), dtype.name, device, x)


def plain_result(operation: str, x: Any, axis: Any, temperature: Any) -> Any:
    """Return the result of a call with only these arguments on a PyTorch tensor.

    None if the call is less simple, or if it is invalid: then `Call` raises the error.
    """
    torch: Any = sys.modules.get("torch")
    if type(x) is not getattr(torch, "Tensor", None) or _is_recorded(torch, x) or x.is_neg():
        return None
    cuda = module()
    function = cuda.plain_softmax if operation == "SOFTMAX" else cuda.plain_log_softmax
    return function(x, axis, temperature, torch.empty_like)


def empty_like(x: Any, view: View, shape: Shape, dtype: str, stream: int) -> Any:
    """Return an uninitialized array of x's kind on its device."""
    name, library = _library(x)
    if name == "torch":
        return library.empty(shape, dtype=getattr(library, dtype), device=x.device)
    if name == "cupy":
        with library.cuda.Device(view.device):
            return library.empty(shape, _dtype_of(dtype))
    if name == "numba":
        numba_cuda = importlib.import_module("numba.cuda")
        with numba_cuda.gpus[view.device]:
            return numba_cuda.device_array(shape, _dtype_of(dtype))
    return DeviceArray(shape, dtype, view.device, stream)


def _dtype_of(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(dtype)


def finished(result: Any, x: Any) -> Any:
    """Convert a result to x's kind of array, if `empty_like` could not create one."""
    if isinstance(result, DeviceArray) and _library(x)[0] == "jax":
        return importlib.import_module("jax.dlpack").from_dlpack(result)
    return result

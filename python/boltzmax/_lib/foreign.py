"""Arrays of other libraries: how they become NumPy's, without a copy, and results become theirs.

No library is imported: whoever made an array has loaded its library. Each library is described by a
`Library`, which the package and the name of the array's type lead to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CPU, _CUDA, _PINNED, _MANAGED = 1, 2, 3, 13  # DLPack's types of devices


# ---- devices ----


class OnCudaError(TypeError):
    """An array is on a CUDA device."""


def refuse_device(x: Any, name: str) -> None:
    """Raise if `x` is not in memory that the CPU reads."""
    if not hasattr(x, "__dlpack_device__"):
        return
    kind = int(x.__dlpack_device__()[0])
    if kind in (_CUDA, _MANAGED):
        raise on_cuda(x, name)
    if kind not in (_CPU, _PINNED):
        raise TypeError(
            f"{name} is on a device that boltzmax does not know ({_type_name(x)}, device type "
            f"{kind} of DLPack): pass a copy of it in the memory of the CPU"
        )


def on_cuda(x: Any, name: str) -> OnCudaError:
    """Return the error for an array on a CUDA device."""
    root = type(x).__module__.partition(".")[0]
    copies = {"torch": f"{name}.cpu()", "cupy": f"{name}.get()"}
    return OnCudaError(
        f"{name} is on a CUDA device ({_type_name(x)}), and boltzmax reads the memory of the CPU: "
        f"call the function of boltzmax.cuda, or pass {copies.get(root, f'numpy.asarray({name})')}"
    )


def _type_name(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}"


# ---- PyTorch ----


def _read_tensor(x: Any, name: str) -> Array:
    torch = sys.modules["torch"]
    if not x.is_cpu:
        if x.is_cuda:
            raise on_cuda(x, name)
        if x.is_meta:
            raise TypeError(f"{name} is a tensor on the device 'meta', which has no numbers")
        raise TypeError(
            f"{name} is a tensor on the device {str(x.device)!r}, and boltzmax reads the memory of "
            f"the CPU: pass {name}.cpu()"
        )
    if x.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"{name} requires a gradient, which this function does not follow: call the one in "
            f"boltzmax.torch, or pass {name}.detach()"
        )
    if x.is_nested:
        raise TypeError(f"{name} is a nested tensor; pass a padded one, or values with offsets")
    if x.layout is not torch.strided:
        raise TypeError(f"{name} is a tensor of layout {x.layout}; pass {name}.to_dense()")
    if x.is_quantized:
        raise TypeError(f"{name} is a quantized tensor; pass {name}.dequantize()")
    if x.dtype is torch.complex32:
        raise TypeError(f"{name} is a tensor of {x.dtype}; pass {name}.to(torch.complex64)")
    try:
        return tensor_as_ndarray(x, name)
    except RuntimeError as error:
        raise TypeError(
            f"{name} has no numbers in memory, but is being traced or transformed by PyTorch (by "
            "torch.compile, torch.func or forward_ad): call the function of boltzmax.torch"
        ) from error


def tensor_as_ndarray(x: Any, name: str = "x") -> Array:
    """Return a dense CPU tensor as an ndarray on the same memory, whether it requires grad or not.

    Lazy conjugates and negations are resolved, which copies.
    """
    dtype = x.dtype
    if dtype.is_floating_point and (dtype.itemsize == 1 or dtype is sys.modules["torch"].bfloat16):
        return _bits_of_tensor(x, name)
    return x.numpy(force=True)  # type: ignore[no-any-return]


def _bits_of_tensor(x: Any, name: str) -> Array:
    """Return a tensor of a dtype that NumPy itself does not have."""
    torch, dtype = sys.modules["torch"], str(x.dtype)
    try:
        import ml_dtypes

        wanted = getattr(ml_dtypes, dtype.removeprefix("torch."))
    except (AttributeError, ImportError):
        raise TypeError(
            f"{name} is a tensor of {dtype}, which NumPy does not have: install ml_dtypes, or pass "
            f"{name}.float()"
        ) from None
    bits = torch.uint8 if x.element_size() == 1 else torch.int16
    return x.detach().view(bits).numpy(force=True).view(wanted)  # type: ignore[no-any-return]


def as_tensor(result: Any, x: Any = None) -> Any:
    """Return an ndarray or NumPy scalar as a CPU tensor, an ndarray's on the same memory."""
    torch = sys.modules["torch"]
    array = np.asarray(result)
    if array.dtype.kind == "V":  # bfloat16
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


# ---- the array API ----


def _read_standard(x: Any, name: str) -> Array:
    refuse_device(x, name)
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError):  # a dtype that DLPack does not convey
        return np.asarray(x)


def _wrap_standard(result: Any, x: Any) -> Any:
    return x.__array_namespace__().asarray(np.asarray(result), device=x.device)


def _read_jax(x: Any, name: str) -> Array:
    refuse_device(x, name)
    return np.asarray(x)


def _wrap_jax(result: Any, x: Any) -> Any:
    return sys.modules["jax"].numpy.asarray(result)


def _refuse_tracer(x: Any, name: str) -> Array:
    raise TypeError(
        f"{name} is being traced by JAX (in jit, grad or vmap) and has no numbers yet: call the "
        "function of boltzmax.jax"
    )


# ---- data frames and labelled arrays ----

Labels = list[Any]  # one entry per axis; None for an axis without labels


def _read_labelled(x: Any, name: str) -> Array:
    return np.asarray(x)


def _read_pandas(x: Any, name: str) -> Array:
    array = np.asarray(x)
    if array.dtype != object:
        return array
    is_numeric = sys.modules["pandas"].api.types.is_numeric_dtype
    if not all(map(is_numeric, [x.dtype] if x.ndim == 1 else x.dtypes)):
        return array
    # Nullable columns, which NumPy reads as objects: a missing number is NaN.
    return x.to_numpy(dtype=np.float64, na_value=np.nan)  # type: ignore[no-any-return]


def _pandas_labels(x: Any) -> Labels:
    return [x.index] if x.ndim == 1 else [x.index, x.columns]


def _to_pandas(result: Any, x: Any, labels: Labels) -> Any:
    pandas = sys.modules["pandas"]
    if len(labels) == 1:
        return pandas.Series(result, index=labels[0], name=getattr(x, "name", None), copy=False)
    return pandas.DataFrame(result, index=labels[0], columns=labels[1], copy=False)


def _polars_labels(x: Any) -> Labels:
    return [None, x.columns] if hasattr(x, "columns") else [None]


def _to_polars(result: Any, x: Any, labels: Labels) -> Any:
    polars = sys.modules["polars"]
    if len(labels) == 1:
        return polars.Series(getattr(x, "name", ""), result)
    return polars.DataFrame(result, schema=labels[1], orient="row")


def _xarray_labels(x: Any) -> Labels:
    return list(x.dims)


def _to_xarray(result: Any, x: Any, labels: Labels) -> Any:
    dims = [_dim(i, result, x) if dim is None else dim for i, dim in enumerate(labels)]
    coords = {name: c for name, c in x.coords.items() if set(c.dims) <= set(labels)}
    return sys.modules["xarray"].DataArray(result, coords, dims, name=x.name, attrs=x.attrs)


def _dim(i: int, result: Any, x: Any) -> Any:
    """Return the name of a dimension without labels: the old one if it is kept with length 1."""
    if result.shape[i] == 1:
        return x.dims[i]
    name = f"dim_{i}"
    while name in x.dims:
        name += "_"
    return name


# ---- which library ----


class Library(NamedTuple):
    """How a library's arrays become NumPy's, and results arrays of the library.

    `read` takes an array and the name of the argument, and raises if the array cannot be read.
    A library without labels has `wrap`, of a result and the array among the arguments that it is
    to be like. One with labels has `labels` of an array, and `relabel`, of a result, the array, and
    what is left of its labels.
    """

    name: str
    read: Callable[[Any, str], Array]
    wrap: Callable[[Any, Any], Any] | None = None
    labels: Callable[[Any], Labels] | None = None
    relabel: Callable[[Any, Any, Labels], Any] | None = None
    most_axes: int = 64


_PANDAS = Library("pandas", _read_pandas, None, _pandas_labels, _to_pandas, 2)
_POLARS = Library("polars", _read_labelled, None, _polars_labels, _to_polars, 2)
# By the package that defines a type, and the name of the type.
_LIBRARIES = {
    ("torch", "Tensor"): Library("PyTorch", _read_tensor, as_tensor),
    ("jaxlib", "ArrayImpl"): Library("JAX", _read_jax, _wrap_jax),
    ("jax", "Tracer"): Library("JAX", _refuse_tracer),
    ("pandas", "DataFrame"): _PANDAS,
    ("pandas", "Series"): _PANDAS,
    ("polars", "DataFrame"): _POLARS,
    ("polars", "Series"): _POLARS,
    ("xarray", "DataArray"): Library("xarray", _read_labelled, None, _xarray_labels, _to_xarray),
}


@lru_cache(maxsize=256)
def _library_of_type(kind: type) -> Library | None:
    for base in kind.__mro__:
        library = _LIBRARIES.get((base.__module__.partition(".")[0], base.__name__))
        if library is not None:
            return library
    if issubclass(kind, (np.ndarray, np.generic)) or not hasattr(kind, "__array_namespace__"):
        return None
    return Library(kind.__module__.partition(".")[0], _read_standard, _wrap_standard)


def library_of(x: Any) -> Library | None:
    """Return the library of an array that is not NumPy's; None for anything else."""
    return _library_of_type(type(x))  # type: ignore[arg-type]

"""Calls with arrays of other libraries: the result is an array of the same kind.

`same_kind` is the decorator of the general paths of public functions. Compiled fast paths take
NumPy's arrays alone, so that ordinary calls never come here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from boltzmax._lib.arguments import repeats_elements
from boltzmax._lib.foreign import Library, OnCudaError, library_of

F = TypeVar("F", bound=Callable[..., Any])

# Arguments of these types say nothing about another library: calls with no others go straight on.
_PLAIN = {np.ndarray, list, tuple, float, int, bool, str, type(None)}
_DTYPES = {("torch", "dtype"), ("array_api_strict", "DType")}
_PLAIN |= {np.float64, np.float32, np.int64, np.bool_}


def _are_plain(values: Iterable[Any]) -> bool:
    """Return whether no argument, and no field of a named tuple, may be of another library."""
    for value in values:
        if type(value) not in _PLAIN and not (
            isinstance(value, tuple) and _PLAIN.issuperset(map(type, value))
        ):
            return False
    return True


class _Call:
    """The arrays of other libraries among the arguments of a call."""

    first: Any = None  # the first array, and its library; None for NumPy
    first_name = ""
    library: Library | None = None
    is_foreign = False
    out: Any = None  # as given
    view: Any = None  # as an ndarray

    def __init__(self, axis: Any, labelled: bool) -> None:
        self.axis, self.labelled = axis, labelled

    def read(self, value: Any, name: str) -> Any:
        """Return an argument with NumPy's arrays in place of others."""
        library = library_of(value)
        if library is None:
            if name == "axis":
                self.axis, self.labelled = value, True
            if isinstance(value, tuple) and (fields_of := getattr(value, "_fields", None)):
                return type(value)(*map(self.read, value, fields_of))
            if name == "out":
                self.out = self.view = value
            elif self.first is None and isinstance(value, np.ndarray):
                self.first, self.first_name = value, name
            return _numpy_dtype(value) if name == "dtype" else value
        if self.first is None:
            self.first, self.first_name, self.library = value, name, library
        elif self.library is not None and self.library.name != library.name:
            raise TypeError(
                f"{self.first_name} is an array of {self.library.name}, but {name} is one of "
                f"{library.name}: convert one of them"
            )
        self.is_foreign = True
        if name != "out":
            return library.read(value, name)
        if library.relabel is not None:
            raise TypeError(f"out must be an ndarray, got {type(value).__name__}")
        self.out, self.view = value, library.read(value, name)
        if library.name == "PyTorch" and (value.is_neg() or value.is_conj()):
            raise ValueError("out is a view that negates or conjugates: pass out.resolve_neg()")
        if repeats_elements(self.view):
            raise ValueError("out has elements that share memory, as expand() makes them: clone it")
        return self.view

    def answer(self, result: Any, ranked: bool) -> Any:
        """Return a result, or each part of it, as an array of the library of the first array."""
        if result is self.view and result is not None:
            return self.out
        if self.library is None:
            return result
        if isinstance(result, (np.ndarray, np.generic)):
            if self.library.wrap is not None:
                return self.library.wrap(result, self.first)
            return self._labelled(result, ranked)
        if isinstance(result, tuple):
            parts = [self.answer(part, ranked) for part in result]
            return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
        if is_dataclass(result) and not isinstance(result, type):
            named = {f.name: self.answer(getattr(result, f.name), ranked) for f in fields(result)}
            return replace(result, **named)
        return result

    def _labelled(self, result: Any, ranked: bool) -> Any:
        """Return a result with the labels of the axes that it has in common with the first array.

        `ranked`: whether results of a function have ranks on their last axis, not classes.
        """
        library, x = self.library, self.first
        assert library is not None
        assert library.labels is not None
        assert library.relabel is not None
        if not self.labelled or result.ndim == 0:
            return result
        labels, shape, axes = library.labels(x), x.shape, _axes(self.axis, len(x.shape))
        kept = [d for d in range(len(shape)) if d not in axes]
        kept_labels, kept_shape = [labels[d] for d in kept], tuple(shape[d] for d in kept)
        if result.shape == shape and not ranked:
            left = labels
        elif result.shape == kept_shape:
            left = kept_labels
        elif ranked and result.shape[:-1] == kept_shape:
            left = [*kept_labels, None]
        elif result.shape == tuple(1 if d in axes else n for d, n in enumerate(shape)):
            left = [None if d in axes else label for d, label in enumerate(labels)]
        else:
            return result
        return library.relabel(result, x, left) if len(left) <= library.most_axes else result


def _axes(axis: Any, ndim: int) -> set[int]:
    """Return the axes that a valid argument names."""
    if axis is None:
        return set(range(ndim))
    return {a % ndim for a in (axis if isinstance(axis, (tuple, list)) else (axis,))}


def _numpy_dtype(dtype: Any) -> Any:
    """Return a dtype of another library as NumPy's, other arguments as they are."""
    kind = type(dtype)
    if (kind.__module__.partition(".")[0], kind.__name__) not in _DTYPES:
        return dtype
    name = str(dtype).rpartition(".")[2]
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def same_kind(
    function: F,
    again: Callable[..., Any] | None = None,
    *,
    cuda: str = "",
    axis: int = -1,
    ranked: bool = False,
    labelled: bool | None = None,
) -> F:
    """Let a function take arrays of other libraries, and return arrays of the first one's kind.

    Parameters
    ----------
    function : callable
        The general path of a public function, with the public names of its arguments. A named
        tuple among them stands for its fields.
    again : callable, optional
        What to call with NumPy's arrays instead, if that is faster.
    cuda : str
        The function of `boltzmax.cuda` that takes a call whose array is on a CUDA device. (The only
        dependency on a higher floor, besides those of the compiled code: by name, in such a call.)
    axis : int
        The default of the function's `axis`, if it has that argument.
    ranked : bool
        Whether results have ranks on their last axis, where the argument has classes.
    labelled : bool, optional
        Whether results have the labels of the axes that they share with the argument: by default,
        if the function has an `axis`.
    """
    code: Any = getattr(function, "__wrapped__", function).__code__
    names = code.co_varnames[: code.co_argcount]
    if labelled is None:
        labelled = "axis" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    run = function if again is None else again

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        plain = _PLAIN.issuperset(map(type, args)) or _are_plain(args)
        if plain and (not kwargs or _are_plain(kwargs.values())):
            return function(*args, **kwargs)
        if len(args) > len(names):
            return function(*args, **kwargs)
        found = _Call(axis, labelled)
        try:
            read_args = list(map(found.read, args, names))
            read_kwargs = {name: found.read(value, name) for name, value in kwargs.items()}
        except OnCudaError:
            if not cuda:
                raise
            return getattr(importlib.import_module("boltzmax.cuda"), cuda)(*args, **kwargs)
        if not found.is_foreign:
            return function(*read_args, **read_kwargs)
        return found.answer(run(*read_args, **read_kwargs), ranked)

    return cast(F, call)

"""The C interface, called through ctypes: the structs are parsed from the header."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import boltzmax

Array = npt.NDArray[Any]

SUFFIX = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
TYPES = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "ptrdiff_t": ctypes.c_ssize_t,
    "double": ctypes.c_double,
    "const char*": ctypes.c_char_p,
}


def header() -> str:
    """The installed header without its comments."""
    text = (Path(boltzmax.get_include()) / "boltzmax" / "boltzmax.h").read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def constants() -> dict[str, int]:
    """BOLTZMAX_OK and the other constants."""
    return {name: int(value) for name, value in re.findall(r"(BOLTZMAX_\w+) = (\d+)", header())}


def ctype(text: str) -> Any:
    """The ctypes equivalent of a C type; pointers to elements are plain addresses."""
    return TYPES.get(text) or {"*": ctypes.c_void_p}[text[-1]]


def structure(name: str) -> type[ctypes.Structure]:
    """A struct of the header, member by member."""
    found = re.search(rf"typedef struct {name} {{(.*?)}} {name};", header(), re.S)
    assert found, name
    fields: list[tuple[str, Any]] = []
    for member in " ".join(found[1].split()).split(";")[:-1]:
        function = re.fullmatch(r" ?(const char\*|int) \(\*(\w+)\)\((.*)\)", member)
        if function:
            arguments = [] if function[3] == "void" else function[3].split(", ")
            types = [ctype(argument.rpartition(" ")[0]) for argument in arguments]
            fields.append((function[2], ctypes.CFUNCTYPE(ctype(function[1]), *types)))
        else:
            type_name, _, member_name = member.strip().rpartition(" ")
            fields.append((member_name, ctype(type_name)))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


Api = structure("boltzmax_api")
StridedCall = structure("boltzmax_strided")
StridedBackwardCall = structure("boltzmax_strided_backward")


def table() -> Any:
    """The table that the Python package publishes."""
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found = address(boltzmax._core._C_API, b"boltzmax._core._C_API")
    return Api.from_address(found)


def bits(array: Array) -> Array:
    """The bytes of an array, with all NaN equal."""
    kept = np.array(array, copy=True)
    kept[kept != kept] = np.nan
    return kept


def same(a: Array, b: Array) -> bool:
    """Whether the bits are the same; all NaN are equal."""
    return a.shape == b.shape and a.dtype == b.dtype and bits(a).tobytes() == bits(b).tobytes()

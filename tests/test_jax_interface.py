"""What boltzmax.jax needs of JAX: the layout of XLA's structs, and the version of its interface."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import RunPython

jax: Any = pytest.importorskip("jax")
pytest.importorskip("boltzmax.jax")

BINDINGS = Path(__file__).parent.parent / "python" / "bindings"
FIELDS = {
    "Extension": ("Extension_Base", "size=struct_size kind=type next"),
    "Version": ("Api_Version", "size=struct_size major=major_version minor=minor_version"),
    "ErrorArguments": ("Error_Create_Args", "size=struct_size message code=errc"),
    "Buffer": ("Buffer", "size=struct_size type=dtype data rank shape=dims"),
    "Buffers": ("Args", "size=struct_size count=size kinds=types items=args"),
    "Buffers ": ("Rets", "size=struct_size count=size kinds=types items=rets"),
    "Name": ("ByteSpan", "begin=ptr size=len"),
    "Scalar": ("Scalar", "type=dtype value"),
    "Attributes": ("Attrs", "count=size kinds=types names items=attrs"),
    "Metadata": ("Metadata", "size=struct_size version=api_version traits "
                 "state_type=state_type_id"),
    "MetadataExtension": ("Metadata_Extension", "base=extension_base metadata"),
    "Frame": ("CallFrame", "size=struct_size extensions=extension_start api stage arguments=args "
              "results=rets attributes=attrs"),
    "Api": ("Api", "size=struct_size version=api_version create_error=XLA_FFI_Error_Create"),
}  # fmt: skip
WHOLE = set(FIELDS) - {"Frame", "Api"}  # of these, we declare the beginning
CONSTANTS = {
    "xla::kMajor": "XLA_FFI_API_MAJOR",
    "xla::kMetadataExtension": "XLA_FFI_Extension_Metadata",
    "xla::kBuffer": "XLA_FFI_ArgType_BUFFER",
    "xla::kBuffer ": "XLA_FFI_RetType_BUFFER",
    "xla::kScalar": "XLA_FFI_AttrType_SCALAR",
    "xla::Type::kInt32": "XLA_FFI_DataType_S32",
    "xla::Type::kUInt32": "XLA_FFI_DataType_U32",
    "xla::Type::kInt64": "XLA_FFI_DataType_S64",
    "xla::Type::kFloat16": "XLA_FFI_DataType_F16",
    "xla::Type::kFloat32": "XLA_FFI_DataType_F32",
    "xla::Type::kFloat64": "XLA_FFI_DataType_F64",
    "xla::Type::kBFloat16": "XLA_FFI_DataType_BF16",
    "xla::ErrorCode::kInvalidArgument": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "xla::ErrorCode::kResourceExhausted": "XLA_FFI_Error_Code_RESOURCE_EXHAUSTED",
    "xla::ErrorCode::kOutOfRange": "XLA_FFI_Error_Code_OUT_OF_RANGE",
    "xla::ErrorCode::kInternal": "XLA_FFI_Error_Code_INTERNAL",
}


@pytest.mark.skipif(not BINDINGS.is_dir(), reason="the sources are not here")
def test_our_declarations_are_those_of_the_installed_header(tmp_path: Path) -> None:
    compiler = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    checks = [f"static_assert(int({ours}) == int({theirs}));" for ours, theirs in CONSTANTS.items()]
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text("utf-8")
    for ours, (theirs, fields) in FIELDS.items():
        pairs = [f.partition("=")[::2] for f in fields.split()]
        names = [(a, b) for a, b in pairs if (b or a) in header]  # older ones have fewer
        checks += [
            f"static_assert(offsetof(xla::{ours}, {a}) == offsetof(XLA_FFI_{theirs}, {b or a}));"
            for a, b in names
        ]
        if ours in WHOLE and names == pairs:
            checks.append(f"static_assert(sizeof(xla::{ours}) == sizeof(XLA_FFI_{theirs}));")
    program = tmp_path / "layout.cpp"
    includes = '#include "xla/ffi/api/c_api.h"\n#include "xla_abi.hpp"\nusing namespace boltzmax;\n'
    program.write_text(includes + "\n".join(checks) + "\n", encoding="utf-8")
    command = [compiler, "-std=c++20", "-fsyntax-only", f"-I{BINDINGS}",
               f"-I{jax.ffi.include_dir()}", str(program)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_another_version_of_the_interface_is_an_import_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from boltzmax.jax import handlers

    monkeypatch.setattr(handlers, "_version_of_jax", lambda: (1, 0))
    with pytest.raises(ImportError, match=r"by version 0\.3 of its interface; JAX .* version 1\.0"):
        handlers.register()
    monkeypatch.undo()

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such target")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    with pytest.raises(ImportError, match=r"version 0\.\d+ \(no such target\)"):
        handlers.register()


def test_without_jax_the_import_says_what_to_install(run_python: RunPython) -> None:
    done = run_python("import sys; sys.modules['jax'] = None\nimport boltzmax.jax")
    assert 'ImportError: boltzmax.jax needs JAX, 0.5 or later: pip install "boltz' in done.stderr

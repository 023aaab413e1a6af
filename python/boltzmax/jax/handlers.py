"""Foreign functions of XLA: the compiled handlers, registered once, and calls of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax

from boltzmax import _core


def register() -> None:
    """Register all handlers with JAX; ImportError if it speaks another version of the interface."""
    ours, theirs = _core.xla_version, _version_of_jax()
    if theirs is not None and theirs[0] != ours[0]:
        raise ImportError(_refusal())
    try:
        for name, capsule in _core.xla_handlers((theirs or ours)[1]).items():
            jax.ffi.register_ffi_target(_target(name), capsule, platform="cpu")
    except Exception as error:  # whatever XLA raises, or AttributeError in a JAX without jax.ffi
        raise ImportError(f"{_refusal()} ({error})") from error


def call(name: str, result: jax.ShapeDtypeStruct, *operands: Any, **attributes: Any) -> Any:
    """Call a handler on operands whose rows are along their last axes."""
    run = jax.ffi.ffi_call(_target(name), result, vmap_method="broadcast_all")
    return run(*operands, **attributes)


def like(x: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of `x`, as those of a result."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _target(name: str) -> str:
    return f"boltzmax_{name}"


def _version_of_jax() -> tuple[int, int] | None:
    """Return the version in the header that comes with JAX, or None if there is none."""
    try:
        header = Path(str(jax.ffi.include_dir())) / "xla" / "ffi" / "api" / "c_api.h"
        text = header.read_text("utf-8")
    except (AttributeError, OSError):
        return None
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", text))
    return (int(found["MAJOR"]), int(found["MINOR"])) if len(found) == 2 else None


def _refusal() -> str:
    ours, theirs = (
        "an unknown version" if v is None else f"version {v[0]}.{v[1]}"
        for v in (_core.xla_version, _version_of_jax())
    )
    return (
        f"boltzmax.jax needs JAX 0.5 or later, and one whose XLA takes foreign functions by "
        f"{ours} of its interface; JAX {jax.__version__} has {theirs}"
    )


register()

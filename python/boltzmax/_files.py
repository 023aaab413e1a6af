"""Files that are whole or not there at all, and arrays in them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FileName = str | os.PathLike[str]


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, which it replaces if nothing is raised."""
    target = target.resolve()  # of a symbolic link, the file it points to is replaced
    if target.exists() and not target.is_file():
        raise FileExistsError(f"not a regular file: {target}")
    temporary = target.with_name(f".boltzmax-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_npz(path: FileName, kind: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays of some kind to one file, which takes its name when it is complete."""
    header: dict[str, Any] = {"kind": kind, "contents": " ".join(sorted(arrays))}
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, **header, **arrays)


def read_npz(path: FileName, kind: str) -> dict[str, NDArray[Any]]:
    """Return what `write_npz` wrote; ValueError if the file is damaged or of another kind."""
    with Path(path).open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as npz:
                arrays: dict[str, NDArray[Any]] = {name: npz[name] for name in npz.files}
        except Exception as error:  # zipfile, zlib, struct and NumPy have many ways to say it
            raise ValueError(f"{os.fspath(path)} is damaged, or no {kind}: {error}") from None
    # NumPy hands over an entry without its magic number as bytes.
    whole = all(isinstance(array, np.ndarray) for array in arrays.values())
    found, contents = (str(arrays.pop(name, "")) for name in ("kind", "contents"))
    # An entry that has lost its place in the archive is missed here.
    if not whole or found != kind or contents != " ".join(sorted(arrays)):
        raise ValueError(f"{os.fspath(path)} is damaged, or no {kind}")
    return arrays

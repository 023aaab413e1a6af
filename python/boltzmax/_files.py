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
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, kind=np.array(kind), **arrays)


def read_npz(path: FileName, kind: str) -> dict[str, NDArray[Any]]:
    """Return what `write_npz` wrote; ValueError if the file is damaged or of another kind."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib, struct and NumPy have many ways to say it
        raise ValueError(f"{os.fspath(path)} is damaged, or no file of a {kind}: {error}") from None
    found = arrays.pop("kind", None)
    if found is None or found.ndim != 0 or str(found) != kind:
        raise ValueError(f"{os.fspath(path)} is not the file of a {kind}")
    return arrays

"""Atomic file replacement, and arrays in files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

FileName = str | os.PathLike[str]
T = TypeVar("T")


@contextmanager
def replacing(target: FileName) -> Iterator[Path]:
    """Yield a temporary path next to `target`, which it replaces if nothing is raised.

    The new file keeps the mode of the old one, and its owner, group and extended attributes where
    the system allows that; without an old one, its mode follows the umask.  Nobody else may read
    the temporary file.  If `target` is a symbolic link, the file it points to is replaced or
    created.
    """
    from pathlib import Path  # takes milliseconds to load, and few programs write files

    target = Path(os.path.realpath(target))
    old = _status(target)
    temporary = target.with_name(f".boltzmax-{os.urandom(8).hex()}.tmp")
    try:
        new = _create(temporary, target)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        mode = stat.S_IMODE(new.st_mode) if old is None else _take_over(temporary, old)
        _copy_attributes(target, temporary)  # before the mode, which may forbid to write
        _set_mode(temporary, mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _status(target: Path) -> os.stat_result | None:
    """Return the status of a regular file, or None if it does not exist."""
    try:
        status = target.stat()  # an OSError if links form a cycle
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise FileExistsError(f"not a regular file: {target}")
    return status


def _create(temporary: Path, target: Path) -> os.stat_result:
    """Create an empty file that nobody else may read; return the status that it would have had."""
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        reason = f"{error.strerror}: {target.name} is first written to a new file in this folder"
        raise OSError(error.errno, reason, os.fspath(target.parent)) from None
    try:
        status = os.fstat(handle)
    finally:
        os.close(handle)
    _set_mode(temporary, 0o600)
    return status


def _take_over(path: Path, old: os.stat_result) -> int:
    """Give a file the owner and group of another, where allowed; return the mode it may have.

    If the owner cannot be kept, the set-user-ID and set-group-ID bits are dropped; if the group
    cannot, it gets the permissions of others.
    """
    mode = stat.S_IMODE(old.st_mode)
    if _set_owner(path, old.st_uid, old.st_gid):
        return mode
    mode &= 0o777
    return mode if _set_owner(path, -1, old.st_gid) else mode & 0o707 | (mode & 0o007) << 3


def _set_owner(path: Path, user: int, group: int) -> bool:
    if not hasattr(os, "chown"):  # a system without owners
        return True
    try:
        os.chown(path, user, group)
    except OSError:
        return False
    return True


def _copy_attributes(source: Path, target: Path) -> None:
    """Copy the extended attributes of a file, as far as the system has them and lets us."""
    if not hasattr(os, "listxattr"):  # Linux alone
        return
    with suppress(OSError):
        for name in os.listxattr(source):
            with suppress(OSError):  # a name space that is not ours to write
                os.setxattr(target, name, os.getxattr(source, name))


def _set_mode(path: Path, mode: int) -> None:
    with suppress(PermissionError):  # a file system without modes
        path.chmod(mode)


def write_npz(path: FileName, kind: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays of some kind to one file, which appears only when it is complete."""
    header: dict[str, Any] = {"kind": kind, "contents": " ".join(sorted(arrays))}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **header, **arrays)


def load_npz(path: FileName, kind: str, make: Callable[[dict[str, NDArray[Any]]], T]) -> T:
    """Return what `make` makes of the arrays that `write_npz` wrote.

    ValueError, with the file's name, if it is damaged, of another kind, or refused by `make`.
    """
    refusal = f"{os.fspath(path)} is damaged or not a {kind}"
    with open(path, "rb") as file:
        try:
            arrays = _read_npz(file, kind)
        except Exception as error:  # zipfile, zlib, struct and NumPy raise errors of many types
            raise ValueError(f"{refusal}: {error}") from None
    try:
        return make(arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{refusal}: {error}") from None


def _read_npz(file: BinaryIO, kind: str) -> dict[str, NDArray[Any]]:
    """Read an archive's kind, then the names of its arrays, and the arrays if both are right."""
    if file.read(2) != b"PK":
        raise ValueError("not an archive")
    file.seek(0)
    with np.load(file, allow_pickle=False) as npz:
        # NumPy returns an entry without the magic number as bytes.
        if str(npz["kind"]) != kind:
            raise ValueError("it says that it is something else")
        names = sorted(set(npz.files) - {"kind", "contents"})
        # An entry missing from the archive's directory is detected here.
        if str(npz["contents"]) != " ".join(names):
            raise ValueError("its arrays are not those that it lists")
        arrays: dict[str, NDArray[Any]] = {name: npz[name] for name in names}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("an entry is not an array")
    return arrays

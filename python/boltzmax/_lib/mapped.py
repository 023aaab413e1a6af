"""Archives of arrays that are used where they are in the file, without reading them.

They are those of `files.write_npz`, except that the data of every array begins at a multiple of 64
bytes; NumPy reads them, too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.files import FileName, replacing

if TYPE_CHECKING:
    from zipfile import ZipInfo

Array = NDArray[Any]
T = TypeVar("T")

_LINE = 64  # bytes; the header of an array is a multiple of it
_LOCAL = struct.Struct("<4s22xHH")  # of an entry: signature, lengths of name and extra field
_PADDING = 0xD935  # the extra field that other programs use for alignment
_ZIP64 = 20  # bytes of the extra field that `zipfile` adds
_PIECE = 1 << 24  # bytes whose checksum is taken at once


def write_mapped(path: FileName, kind: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays of some kind to one file, which appears only when it is complete."""
    import zipfile  # takes milliseconds to load, and few programs write files

    header = {"kind": np.array(kind), "contents": np.array(" ".join(sorted(arrays)))}
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, array in {**header, **arrays}.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.external_attr = 0o600 << 16
            begin = file.tell() + _LOCAL.size + len(info.filename) + _ZIP64
            room = -(begin + 4) % _LINE
            info.extra = struct.pack("<HH", _PADDING, room) + bytes(room)
            with archive.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def map_npz(
    path: FileName, kind: str, make: Callable[[dict[str, Array]], T], *, verify: bool = True
) -> T:
    """Return what `make` makes of read-only maps of the arrays that `write_mapped` wrote.

    ValueError, with the file's name, if it is damaged, of another kind, or refused by `make`.
    `verify` reads the whole file and compares checksums.
    """
    refusal = f"{os.fspath(path)} is damaged or not a {kind}"
    with open(path, "rb") as file:
        try:
            arrays = _map_arrays(file, kind, verify)
        except Exception as error:  # zipfile, struct and NumPy raise errors of many types
            raise ValueError(f"{refusal}: {error}") from None
    try:
        return make(arrays)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{refusal}: {error}") from None


def _map_arrays(file: BinaryIO, kind: str, verify: bool) -> dict[str, Array]:
    import zipfile

    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    names = [entry.filename.removesuffix(".npy") for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("two entries have the same name")
    size = os.fstat(file.fileno()).st_size
    found = {
        name: _map_entry(file, entry, size, verify)
        for name, entry in zip(names, entries, strict=True)
    }
    if str(found.pop("kind")) != kind:
        raise ValueError("it says that it is something else")
    if str(found.pop("contents")) != " ".join(sorted(found)):
        raise ValueError("its arrays are not those that it lists")
    return found


def _map_entry(file: BinaryIO, entry: ZipInfo, size: int, verify: bool) -> Array:
    """Return a map of one array, after checking that it is one and that all of it is there."""
    if entry.compress_type != 0 or entry.file_size != entry.compress_size:
        raise ValueError(f"{entry.filename} is compressed")
    file.seek(entry.header_offset)
    signature, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    begin = entry.header_offset + _LOCAL.size + name + extra
    end = begin + entry.file_size
    if signature != b"PK\x03\x04" or end > size:
        raise ValueError(f"{entry.filename} is not there")
    if verify and _checksum(file, begin, end) != entry.CRC:
        raise ValueError(f"{entry.filename} has another checksum")
    file.seek(begin)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{entry.filename} has version {version} of the format")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    start = file.tell()
    if by_columns or dtype.hasobject or end - start != prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry.filename} is not an array in C order")
    if end == start:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(file, dtype, "r", start, shape))


def _checksum(file: BinaryIO, begin: int, end: int) -> int:
    """Return the CRC-32 of part of a file."""
    import zlib

    file.seek(begin)
    checksum = 0
    for start in range(begin, end, _PIECE):
        checksum = zlib.crc32(file.read(min(_PIECE, end - start)), checksum)
    return checksum

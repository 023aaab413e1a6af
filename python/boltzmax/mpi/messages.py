"""What ranks tell each other about a block of rows, and how they agree on errors.

Each block of rows is one reduction of 120 bytes a row, and a header. The first message of a call
has the same size whatever the arguments are, so that a rank that cannot read its own takes part,
too: its header says so, and every rank raises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from boltzmax.losses.parts import PART, empty_parts, merge_parts
from boltzmax.mpi.shard import Shard

Array = NDArray[Any]

ROWS = 256  # of a block: a matrix product with more rows is no faster

# A header is as long as a record, and its mark is where a record has a count of elements.
_MARK, _NO_RANK = -1, 2**62
HEADER = np.dtype(
    {
        "names": ["bad_rank", "low", "mark", "high", "text"],
        "formats": ["i8", "u8", "i8", "u8", "S80"],
        "offsets": [0, 8, 16, 24, 32],
        "itemsize": PART.itemsize,
    }
)


@dataclass(frozen=True)
class Rows:
    """The rows of a call, once its arguments have been read.

    `parts` returns what is known of some rows from the classes of this rank; `alike` is what must
    be equal on all ranks.
    """

    n: int
    temperature: float
    alike: tuple[Any, ...]
    parts: Callable[[slice], Array]

    def blocks(self) -> Iterator[slice]:
        """Yield slices of rows: at least one, even if it is empty."""
        for start in range(0, max(self.n, 1), ROWS):
            yield slice(start, min(start + ROWS, self.n))


@contextmanager
def operation(merge: Callable[[Array, Array], None], dtype: np.dtype[Any]) -> Iterator[Any]:
    """Make a reduction of records: ``merge(mine, other)`` adds others to mine."""

    def reduce(other: Any, mine: Any, _: Any) -> None:
        merge(np.frombuffer(mine, dtype), np.frombuffer(other, dtype))

    op = MPI.Op.Create(reduce, commute=True)
    try:
        yield op
    finally:
        op.Free()


@contextmanager
def reduction_of_parts(shard: Shard, temperature: float) -> Iterator[Callable[[Array], None]]:
    """Make a function that replaces records of this rank's classes by those of all classes."""

    def merge(mine: Array, other: Array) -> None:
        headers = mine["total"]["count"] == _MARK
        if headers.any():
            _merge_headers(mine.view(HEADER)[headers], other.view(HEADER)[headers], mine, headers)
        if not headers.all():
            rest = mine[~headers]
            merge_parts(rest, other[~headers], temperature)
            mine[~headers] = rest

    with operation(merge, PART) as op:
        yield lambda records: shard.comm.Allreduce(MPI.IN_PLACE, [records, shard.record], op)


def _merge_headers(mine: Array, other: Array, records: Array, at: NDArray[np.bool_]) -> None:
    """Keep the lowest rank that cannot go on, and the least and the largest signature."""
    merged = mine.copy()
    merged["low"] = np.minimum(mine["low"], other["low"])
    merged["high"] = np.maximum(mine["high"], other["high"])
    is_other = other["bad_rank"] < mine["bad_rank"]
    merged["bad_rank"][is_other] = other["bad_rank"][is_other]
    merged["text"][is_other] = other["text"][is_other]
    records.view(HEADER)[at] = merged


def reduced_blocks(shard: Shard, read: Callable[[], Rows]) -> Iterator[tuple[Rows, slice, Array]]:
    """Yield blocks of rows with what is known of them from all classes: one message for each.

    Parameters
    ----------
    shard : Shard
        The classes of this rank.
    read : callable
        Reads the arguments. Whatever it raises is raised here, and a ValueError on other ranks.
    """
    if not isinstance(shard, Shard):
        raise TypeError(f"shard must be a boltzmax.mpi.Shard, got {type(shard).__name__}")
    failure: Exception | None = None
    rows, first = None, np.empty(0, PART)
    try:
        rows = read()
        first = rows.parts(next(rows.blocks()))
    except Exception as error:
        failure = error
    message = empty_parts(1 + ROWS)
    message[:1].view(HEADER)[0] = _header(shard, rows, failure)
    message[1 : 1 + len(first)] = first
    temperature = 1.0 if rows is None else rows.temperature
    with reduction_of_parts(shard, temperature) as reduce:
        reduce(message)
        if failure is not None:
            raise failure
        _check(message[:1].view(HEADER)[0], shard)
        assert rows is not None
        for block in rows.blocks():
            count = block.stop - block.start
            if block.start == 0:
                yield rows, block, message[1 : 1 + count]
                continue
            parts = rows.parts(block)
            reduce(parts)
            yield rows, block, parts


def _header(shard: Shard, rows: Rows | None, failure: Exception | None) -> Any:
    header = np.zeros((), HEADER)
    header["mark"], header["bad_rank"] = _MARK, _NO_RANK
    if failure is not None or rows is None:
        header["bad_rank"] = shard.comm.rank
        header["text"] = f"{type(failure).__name__}: {failure}".encode()[:80]
        header["low"], header["high"] = np.uint64(2**64 - 1), np.uint64(0)
        return header
    header["low"] = header["high"] = np.uint64(signature(rows.n, rows.temperature, *rows.alike))
    return header


def signature(*alike: Any) -> int:
    """Return a number of 64 bits that is the same for the same arguments."""
    digest = hashlib.blake2b(digest_size=8)
    for value in alike:
        digest.update(
            np.ascontiguousarray(value).tobytes()
            if isinstance(value, np.ndarray)
            else repr(value).encode()
        )
        digest.update(b"|")
    return int.from_bytes(digest.digest(), "little")


def _check(header: Any, shard: Shard) -> None:
    """Raise, on every rank, if some rank cannot go on or the ranks do not agree."""
    if header["bad_rank"] != _NO_RANK:
        text = bytes(header["text"]).decode(errors="replace")
        raise ValueError(f"rank {header['bad_rank']} of {shard.comm.size} cannot go on: {text}")
    if header["low"] != header["high"]:
        raise ValueError(
            "the ranks called different functions, or with a different number of rows, different "
            "dtypes, targets, weights or options, or only some with a bias: all arguments but the "
            "classes' own numbers must be the same"
        )

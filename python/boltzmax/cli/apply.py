"""``apply``: softmax, or another form of it, of a ``.npy`` file larger than memory.

Input and output are memory-mapped and processed block by block. The output is written next to its
destination as ``.boltzmax-*.tmp`` and renamed only when it is complete and on disk.
"""

from __future__ import annotations

import argparse
import errno
import inspect
import itertools
import math
import mmap
import os
import signal
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import EllipsisType, FrameType
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from boltzmax._lib.console import CommandError, output_path, progress
from boltzmax._lib.files import replacing
from boltzmax._lib.mapped import BAD_HEADER
from boltzmax.cli.arguments import add_command

# The operations, and the modules that have them.
MODULES = {
    **dict.fromkeys(("softmax", "log_softmax", "logsumexp"), "_core"),
    **dict.fromkeys(("sparsemax", "entmax15", "entmax"), "variants.sparse"),
    **dict.fromkeys(
        ("taylor_softmax", "log_taylor_softmax", "spherical_softmax"), "variants.shapes"
    ),
    **dict.fromkeys(("sigsoftmax", "log_sigsoftmax"), "variants.shapes"),
    **dict.fromkeys(("windowed_softmax", "windowed_logsumexp"), "variants.windows"),
    "logcumsumexp": "variants.scans",
    "gumbel_softmax": "variants.gumbel",
}
OPERATIONS = tuple(MODULES)
DTYPES = ("float16", "float32", "float64")


def axis(text: str) -> int | tuple[int, ...] | None:
    """Parse ``-1``, ``0,2`` or ``none``."""
    if text.lower() == "none":
        return None
    axes = tuple(int(item) for item in text.split(","))
    return axes if len(axes) > 1 else axes[0]


def megabytes(text: str) -> int:
    """Parse a number of megabytes into bytes."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return int(value * 2**20)


def add_parser(commands: Any) -> None:
    """Declare the arguments of ``apply``."""
    parser = add_command(
        commands,
        "apply",
        run,
        "work on a .npy file larger than memory",
        "softmax logits.npy probabilities.npy",
        "logsumexp logits.npy lse.npy --axis=0,1 --block-mb 16",
    )
    parser.add_argument("op", choices=OPERATIONS, metavar="OP", help=", ".join(OPERATIONS))
    parser.add_argument("source", type=Path, metavar="IN.npy")
    parser.add_argument("target", type=output_path, metavar="OUT.npy", help="may be IN.npy too")
    parser.add_argument("--axis", type=axis, default=-1, help="-1 (default), --axis=0,1 or none")
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="1 by default, 0: argmax"
    )
    parser.add_argument("--alpha", type=float, metavar="A", help="of entmax: 1.5 by default")
    parser.add_argument("--order", type=int, metavar="N", help="of the Taylor forms: 2 by default")
    parser.add_argument("--window", type=int, metavar="N", help="of the windowed forms")
    parser.add_argument("--seed", type=int, metavar="N", dest="rng", help="of gumbel_softmax")
    parser.add_argument("--dtype", choices=DTYPES, help="compute in this type and write it")
    parser.add_argument(
        "--block-mb",
        type=megabytes,
        default=megabytes("64"),
        metavar="MB",
        help="megabytes of input at a time, 64 by default",
    )


def run(args: argparse.Namespace) -> None:
    """Apply the operation to the file."""
    options = {"axis": args.axis, "dtype": args.dtype} | options_of(args)
    try:
        with sigterm_as_exception():
            apply(args.op, args.source, args.target, args.block_mb, **options)
    except (TypeError, ValueError, *BAD_HEADER) as error:
        raise CommandError(f"{args.source}: {error}") from error


def function_of(op: str) -> Any:
    """Return the function of an operation."""
    return getattr(import_module(f"boltzmax.{MODULES[op]}"), op)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that only some operations take, if this one does."""
    given = {name: getattr(args, name) for name in ("alpha", "order", "window", "rng")}
    given["temperature"] = None if args.temperature == 1.0 else args.temperature
    takes = ["temperature"] if MODULES[args.op] == "_core" else signature_of(args.op)
    for name, value in given.items():
        if value is not None and name not in takes:
            option = "seed" if name == "rng" else name
            raise CommandError(f"--{option} does not go with {args.op}")
    for name, option in (("window", "window"), ("rng", "seed")):
        if name in takes and given[name] is None:
            raise CommandError(f"{args.op} needs --{option}")
    return {name: value for name, value in given.items() if value is not None}


def signature_of(op: str) -> list[str]:
    """Return the names of the parameters of a function in Python."""
    return list(inspect.signature(function_of(op)).parameters)


def apply(op: str, source: Path, target: Path, block_bytes: int, **options: Any) -> None:
    """Write ``op(source)`` to `target`, about `block_bytes` of input at a time.

    Parameters
    ----------
    op : str
        One of `OPERATIONS`.
    source, target : Path
        The ``.npy`` files; they may be the same.
    block_bytes : int
        A row larger than this is one block: it is mapped, so it need not fit in memory.
    **options
        ``axis``, ``dtype`` and others, as the function takes them.
    """
    function = partial(function_of(op), **options)
    x = open_memmap(source, mode="r")
    # One element is enough to find the dtype of the result, or an error in the options.
    dtype = np.asarray(function(np.zeros((1,) * x.ndim, x.dtype))).dtype
    every = tuple(range(x.ndim))
    whole = options["axis"] is None or x.ndim == 0
    reduced = every if whole else normalize_axis_tuple(options["axis"], x.ndim)
    kept = [i for i in every if i not in reduced] if op == "logsumexp" else every
    fortran = not x.flags.c_contiguous
    rows = [i for i in every if i not in reduced]
    if op == "gumbel_softmax" and fortran:
        raise ValueError(
            "the noise of gumbel_softmax is numbered by rows: the file must be in C order"
        )

    with replacing(target) as temporary, progress(op, x.size) as advance:
        y = open_memmap(temporary, "w+", dtype, tuple(x.shape[i] for i in kept), fortran)
        reserve_disk(temporary)
        for index in blocks(x, reduced, block_bytes):
            block = select(x, index)
            noise = {"first_row": number_of(x.shape, index, rows)} if op == "gumbel_softmax" else {}
            function(block, out=select(y, [index[i] for i in kept]), **noise)
            advance(block.size)
        y.flush()


def number_of(shape: tuple[int, ...], index: Sequence[slice], rows: Sequence[int]) -> int:
    """Return the number of a block's first row, counted along the axes of `rows`."""
    number = 0
    for i in rows:
        number = number * shape[i] + index[i].start
    return number


def select(array: NDArray[Any], slices: Sequence[slice]) -> NDArray[Any]:
    """Return a part of a mapped array: an array even if there is no axis to slice."""
    index: tuple[slice | EllipsisType, ...] = (*slices, ...)
    return np.asarray(array)[index]


def blocks(
    x: NDArray[Any], reduced: Collection[int], block_bytes: int
) -> Iterator[tuple[slice, ...]]:
    """Yield the indices of blocks that cover `x` and cut none of its `reduced` axes.

    The outermost axes are cut first, and never into runs shorter than a memory page: blocks that
    share pages would read the file many times over.
    """
    steps = [max(1, n) for n in x.shape]
    nbytes = x.nbytes
    for i in sorted(set(range(x.ndim)).difference(reduced), key=lambda i: -x.strides[i]):
        if nbytes <= block_bytes:
            break
        nbytes //= x.shape[i]
        steps[i] = max(1, block_bytes // nbytes, mmap.PAGESIZE // x.strides[i])
    starts = (range(0, max(1, n), step) for n, step in zip(x.shape, steps, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(i, i + step) for i, step in zip(corner, steps, strict=True))


def reserve_disk(path: Path) -> None:
    """Allocate the blocks of a sparse file: writing to a mapping on a full disk raises SIGBUS."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:  # some file systems cannot; a full disk is reported to the user
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise


@contextmanager
def sigterm_as_exception() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that temporary files are removed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

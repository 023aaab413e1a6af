"""The contiguous range of classes that a rank has."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from boltzmax._lib.arguments import check_count
from boltzmax.losses.parts import PART
from boltzmax.variants.exact_totals import check_n_classes


class Shard:
    """The classes of this rank: a contiguous range, in the order of the ranks.

    The constructor is collective: every rank of `comm` calls it.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        The ranks among which the classes are split.
    n_classes : int
        How many classes this rank has; 0 is allowed, but not on all ranks.

    Attributes
    ----------
    comm : mpi4py.MPI.Intracomm
        The communicator.
    n_local : int
        How many classes this rank has.
    first : int
        The first of them.
    n_classes : int
        How many classes there are in all.

    Raises
    ------
    TypeError, ValueError
        On all ranks, if `n_classes` of one is not a count, or there are none in all, or more than
        2**31.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard
    >>> Shard(MPI.COMM_SELF, 50_000)
    Shard(classes 0 to 49999 of 50000)
    """

    def __init__(self, comm: Any, n_classes: int) -> None:
        failure: Exception | None = None
        try:
            n_local = check_count(n_classes, "n_classes", 0, 2**48)
        except (TypeError, ValueError) as error:
            n_local, failure = -1, error
        counts = comm.allgather(n_local)
        if failure is not None:
            raise failure
        if min(counts) < 0:
            raise ValueError(f"rank {counts.index(min(counts))} has no valid n_classes")
        self.n_classes = check_n_classes(sum(counts))
        self.comm, self.n_local, self.first = comm, n_local, sum(counts[: comm.rank])
        self.record = datatype_of(PART.itemsize)

    def __repr__(self) -> str:
        end = self.first + self.n_local
        return f"Shard(classes {self.first} to {end - 1} of {self.n_classes})"


def datatype_of(size: int) -> Any:
    """Return the datatype of records of some bytes, which MPI does not divide."""
    return MPI.BYTE.Create_contiguous(size).Commit()

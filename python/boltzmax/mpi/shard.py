"""The contiguous range of classes that a rank has."""

from __future__ import annotations

from functools import cache
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
    n_local : int
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
        On all ranks, if `n_local` of one is not a count, or there are none in all, or more than
        2**31; on this rank, if `comm` is no communicator of one group of ranks.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from boltzmax.mpi import Shard
    >>> Shard(MPI.COMM_SELF, 50_000)
    Shard(classes 0 to 49999 of 50000)
    """

    def __init__(self, comm: Any, n_local: int) -> None:
        _check_comm(comm)
        failure: Exception | None = None
        try:
            own = check_count(n_local, "n_local", 0, 2**48)
        except (TypeError, ValueError) as error:
            own, failure = -1, error
        counts = comm.allgather(own)
        if failure is not None:
            raise failure
        if min(counts) < 0:
            raise ValueError(f"rank {counts.index(min(counts))} has no valid n_local")
        self.n_classes = check_n_classes(sum(counts))
        self.comm, self.n_local, self.first = comm, own, sum(counts[: comm.rank])
        self.record = datatype_of(PART.itemsize)

    def __repr__(self) -> str:
        end = self.first + self.n_local
        return f"Shard(classes {self.first} to {end - 1} of {self.n_classes})"


def _check_comm(comm: Any) -> None:
    # What wraps a communicator, to count its messages say, is one as well.
    if not hasattr(comm, "Allreduce") or not hasattr(comm, "allgather"):
        raise TypeError(
            f"comm must be an mpi4py.MPI.Intracomm, such as MPI.COMM_WORLD, "
            f"got {type(comm).__name__}"
        )
    if comm == MPI.COMM_NULL or comm.Is_inter():
        kind = "MPI.COMM_NULL" if comm == MPI.COMM_NULL else "an intercommunicator"
        raise ValueError(f"comm must be an intracommunicator, such as MPI.COMM_WORLD, got {kind}")


@cache
def datatype_of(size: int) -> Any:
    """Return the datatype of records of some bytes, which MPI does not divide."""
    return MPI.BYTE.Create_contiguous(size).Commit()

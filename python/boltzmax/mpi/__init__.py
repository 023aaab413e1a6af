"""Softmax with the classes split over the ranks of an MPI communicator.

A `Shard` says which contiguous range of classes a rank has. Every rank calls each function with the
same rows and its own classes, and all get the same loss, to the last bit: what ranks tell each
other about a row is merged without rounding. It needs mpi4py: ``pip install "boltzmax[mpi]"``.

- `linear`: a linear layer whose weights are split
- `losses`: cross-entropy
- `messages`: what ranks tell each other, and how they agree on errors
- `queries`: the largest classes, and draws
- `rows`: softmax, log_softmax and logsumexp
- `shard`: the range of classes of a rank
"""

from __future__ import annotations

from boltzmax._lib.public import show_in

try:
    from boltzmax.mpi.linear import linear_cross_entropy, linear_cross_entropy_with_grad
    from boltzmax.mpi.losses import cross_entropy, cross_entropy_with_grad
    from boltzmax.mpi.queries import sample, topk
    from boltzmax.mpi.rows import log_softmax, logsumexp, softmax
    from boltzmax.mpi.shard import Shard
except ImportError as error:
    if (error.name or "").partition(".")[0] != "mpi4py":
        raise
    raise ImportError(
        'boltzmax.mpi needs mpi4py, 4.0 or later, and an MPI library: pip install "boltzmax[mpi]"',
        name=error.name,
    ) from error

__all__ = [
    "Shard",
    "cross_entropy",
    "cross_entropy_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "logsumexp",
    "sample",
    "softmax",
    "topk",
]

show_in(globals())

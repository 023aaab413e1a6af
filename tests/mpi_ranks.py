"""What each rank computes for tests/test_mpi_bridge.py.

After ``mpiexec -n 4 python mpi_ranks.py FOLDER``, each rank has written its results to
``FOLDER/<ranks>-<rank>.npz``.
"""

from __future__ import annotations

import doctest
import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from boltzmax import mpi

Array = np.ndarray[Any, Any]

ROWS, CLASSES, WIDTH = 300, 101, 8  # two blocks of rows
LARGE = 1e17  # the spacing of such numbers is more than random numbers make up for
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "temperature": 0.7}


class CountingComm:
    """A communicator that counts the messages of this rank, and their bytes."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.messages: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def Allreduce(self, sent: Any, received: Any, op: Any) -> None:  # noqa: N802 (MPI's name)
        buffer = received[0] if isinstance(received, list) else received
        self.messages.append(buffer.nbytes)
        self._comm.Allreduce(sent, received, op)

    def allgather(self, value: Any) -> Any:
        self.messages.append(8)
        return self._comm.allgather(value)


def inputs(dtype: Any) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, CLASSES, ROWS)
    target[5] = -100
    return {
        "logits": (rng.normal(size=(ROWS, CLASSES)) * 4).astype(dtype),
        "target": target,
        "sample_weight": rng.random(ROWS),
        "hidden": rng.normal(size=(ROWS, WIDTH)).astype(dtype),
        "weight": rng.normal(size=(CLASSES, WIDTH)).astype(dtype),
        "bias": rng.normal(size=CLASSES).astype(dtype),
    }


def shard_of(comm: Any, classes: int = CLASSES) -> mpi.Shard:
    """Ranges of unequal length, one of them empty if there are more than two."""
    weights = np.array([1, 3, 0, 2][: comm.size], float)
    counts = np.floor(classes * weights / weights.sum()).astype(int)
    counts[0] += classes - counts.sum()
    return mpi.Shard(comm, int(counts[comm.rank]))


def results(comm: CountingComm, name: str) -> dict[str, Any]:
    """Every function of the module for one dtype, and the sizes of its messages."""
    found: dict[str, Any] = {}
    x, shard = inputs(name), shard_of(comm)
    logits = x["logits"][:, shard.first : shard.first + shard.n_local]

    def keep(key: str, call: Callable[[], Any]) -> None:
        comm.messages.clear()
        value = call()
        found[f"{name}.{key}.messages"] = np.array(comm.messages)
        for number, each in enumerate(value if isinstance(value, tuple) else (value,)):
            found[f"{name}.{key}.{number}"] = np.asarray(each)

    target, weighted = x["target"], {**OPTIONS, "sample_weight": x["sample_weight"]}
    keep("softmax", lambda: mpi.softmax(logits, shard))
    keep("log_softmax", lambda: mpi.log_softmax(logits, shard, temperature=0.7))
    keep("logsumexp", lambda: mpi.logsumexp(logits, shard))
    keep("loss", lambda: mpi.cross_entropy(logits, target, shard, reduction="none"))
    keep("grad", lambda: mpi.cross_entropy_with_grad(logits, target, shard, **weighted))
    keep("topk", lambda: mpi.topk(logits, 7, shard))
    keep("sample", lambda: mpi.sample(logits, shard, 3))
    keep("one_lse", lambda: mpi.logsumexp(logits[0], shard))
    keep("one_sample", lambda: mpi.sample(logits[0], shard, 3))
    keep("large", lambda: mpi.sample(np.full((400, shard.n_local), LARGE, name), shard, 5))
    nothing = {"sample_weight": np.zeros(ROWS), "empty": "zero"}
    keep("nothing", lambda: mpi.cross_entropy_with_grad(logits, target, shard, **nothing))
    infinite = np.where(logits > 0, logits, -np.inf)
    keep("infinite", lambda: mpi.cross_entropy(infinite, target, shard, label_smoothing=0.1))
    # A layer needs a class on every rank.
    even = mpi.Shard(comm, CLASSES // comm.size + (comm.rank < CLASSES % comm.size))
    own = slice(even.first, even.first + even.n_local)
    layer = (x["hidden"], x["weight"][own], target, even, x["bias"][own])
    keep("infinite_layer", lambda: mpi.linear_cross_entropy(x["hidden"] * np.inf, *layer[1:]))
    keep("linear", lambda: mpi.linear_cross_entropy(*layer, **weighted))
    keep("linear_grad", lambda: mpi.linear_cross_entropy_with_grad(*layer, **weighted))
    return found


def refusals(comm: Any) -> dict[str, Any]:
    """What is raised on this rank where one rank, the last, has a bad argument."""
    x = inputs(np.float64)
    shard = shard_of(comm)
    logits = x["logits"][:, shard.first : shard.first + shard.n_local]
    is_last = comm.rank == comm.size - 1
    nan = logits.copy()
    nan[270:, :1] = np.nan
    bad_target = np.where(np.arange(ROWS) == 7, CLASSES, x["target"])
    short = logits[: 250 if is_last else ROWS]
    calls: dict[str, Callable[[], Any]] = {
        "dtype": lambda: mpi.softmax(logits.astype("U3") if is_last else logits, shard),
        "shape": lambda: mpi.softmax(logits[:, :0] if is_last else logits, shard),
        "target": lambda: mpi.cross_entropy(logits, bad_target if is_last else x["target"], shard),
        "option": lambda: mpi.cross_entropy(
            logits, x["target"], shard, label_smoothing=2.0 if is_last else 0.0
        ),
        "differ": lambda: mpi.cross_entropy(
            logits, x["target"], shard, label_smoothing=0.2 if is_last else 0.1
        ),
        "targets": lambda: mpi.cross_entropy(logits, x["target"] * (not is_last), shard),
        "rows": lambda: mpi.logsumexp(short, shard),
        "function": lambda: (mpi.softmax if is_last else mpi.log_softmax)(logits, shard),
        "k": lambda: mpi.topk(logits, 0 if is_last else 3, shard),
        "ks": lambda: mpi.topk(logits, 2 if is_last else 3, shard),
        "nan": lambda: mpi.sample(nan if comm.rank == 0 else logits, shard, 0),
        "layer": lambda: mpi.linear_cross_entropy(
            x["hidden"], x["weight"][: shard.n_local, : WIDTH - is_last], x["target"], shard
        ),
        "bias": lambda: mpi.linear_cross_entropy(
            np.ones((2, 3)),
            np.ones((2, 3)),
            [0, 1],
            mpi.Shard(comm, 2),
            None if is_last else [0, 0],
        ),
        "none": lambda: mpi.Shard(comm, 0),
        "comm": lambda: mpi.Shard(None, 3),
        "null": lambda: mpi.Shard(MPI.COMM_NULL, 3),
        "key": lambda: mpi.sample(logits, shard, None),  # type: ignore[arg-type]
        "many": lambda: mpi.Shard(comm, 2**31),
        "shard": lambda: mpi.softmax(logits, 3),  # type: ignore[arg-type]
        "count": lambda: mpi.Shard(comm, -1 if is_last else 3),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
            found[f"refusal.{name}"] = "nothing"
        except Exception as error:  # to be compared
            found[f"refusal.{name}"] = f"{type(error).__name__}: {error}"
    return found


def failed_examples() -> dict[str, Any]:
    """The examples of docstrings that fail, and how many were run."""
    found: dict[str, Any] = {}
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    for name in mpi.__all__:
        text = inspect.getdoc(getattr(mpi, name)) or ""
        test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
        assert test.examples, name
        runner.run(test, out=report.append)
    found["examples"] = runner.tries
    found["examples.failed"] = "".join(report)
    return found


def main() -> None:
    warnings.simplefilter("error")
    comm = CountingComm(MPI.COMM_WORLD)
    found = refusals(MPI.COMM_WORLD)
    for name in ("float32", "float64"):
        found.update(results(comm, name))
    if comm.size == 1:
        found.update(failed_examples())
    file = Path(sys.argv[1]) / f"{comm.size}-{comm.rank}.npz"
    np.savez(file, **{name: np.asarray(value) for name, value in found.items()})


if __name__ == "__main__":
    main()

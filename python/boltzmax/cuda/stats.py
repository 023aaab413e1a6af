"""Statistics of rows of logits on a CUDA device: see boltzmax.cuda."""

from __future__ import annotations

from typing import Any, SupportsIndex

from boltzmax._lib.arguments import check_count, check_temperature
from boltzmax.arrays.row_stats import RowStats
from boltzmax.cuda.calls import Call


def row_stats(
    logits: Any,
    target: Any = None,
    k: SupportsIndex = 5,
    *,
    temperature: float = 1.0,
    entropy: bool = True,
    axis: SupportsIndex = -1,
    stream: Any = None,
) -> RowStats:
    """Return the statistics of `boltzmax.row_stats`, in one launch.

    Parameters
    ----------
    logits : array, shape (..., K)
        Scores on a device, or a NumPy array; as `x` of `softmax`.
    target : array of int64 or int32, shape (...), optional
        As for `cross_entropy`; a target that is not a class has log-probability NaN and rank 0.
    k : int, default 5
        How many of the largest logits to return: 0 for none; at most K are returned. Each takes
        part of another pass over the row: meant for small k.
    temperature : float, default 1.0
        Divides the logits.
    entropy : bool, default True
        Whether to compute the entropy.
    axis : int, default -1
        The class axis, as in `boltzmax.row_stats`.
    stream : stream or int, optional
        A CUDA stream, or its address, instead of the caller's own.

    Returns
    -------
    RowStats
        Of arrays of the kind of `logits`: float64 if these are, else float32.

    Raises
    ------
    RuntimeError, TypeError, ValueError, MemoryError
        As `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import boltzmax.cuda
    >>> boltzmax.cuda.row_stats(np.array([[0.0, 2.0, 1.0]]), k=2).top_ids
    array([[1, 2]])
    """
    call = Call(logits, stream, name="logits")
    check_temperature(temperature)
    along = call.class_axis(axis)
    wanted = min(check_count(k, "k", 0), call.view.shape[along])
    rows, dtype = call.rows_without(along), call.computed
    top = (*rows, wanted)
    labels = None if target is None else call.target(target, rows)
    results = {
        "lse": call.empty(rows, dtype),
        "energy": call.empty(rows, dtype),
        "entropy": call.empty(rows, dtype) if entropy else None,
        "top_ids": call.empty(top, "int64") if wanted else None,
        "top_log_probs": call.empty(top, dtype) if wanted else None,
        "target_log_prob": call.empty(rows, dtype) if labels is not None else None,
        "target_rank": call.empty(rows, "int64") if labels is not None else None,
    }
    call.module.row_stats(
        call=call.task("ROW_STATS", (along,), None, None, temperature),
        target=0 if labels is None else labels.address,
        k=wanted,
        **{name: 0 if r is None else r.view.address for name, r in results.items()},
        device=call.device,
        stream=call.stream,
    )
    values: dict[str, Any] = {n: None if r is None else r.deliver() for n, r in results.items()}
    return RowStats(**values)

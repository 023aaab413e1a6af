"""Statistics of rows of Dask arrays, and the expected calibration error."""

from __future__ import annotations

from functools import partial
from typing import Any, SupportsIndex

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from boltzmax._lib.arguments import as_flag, check_count, check_temperature
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets
from boltzmax.arrays.row_stats import RowStats
from boltzmax.calibration.binning import Sums, check_bins, equal_width_edges, equal_width_sums
from boltzmax.calibration.errors import check_norm, error_of_bins
from boltzmax.calibration.events import Events
from boltzmax.dask.blocks import Logits, MergeParts, totals
from boltzmax.losses.parts import PART, parts_of
from boltzmax.variants.exact_totals import (
    SIGNED_SUM,
    Normalizer,
    merge_sums,
    rounded_sums,
    sums_of,
)
from boltzmax.variants.leaders import leaders_dtype, leaders_of, merge_leaders

Array = NDArray[Any]

# What takes a second pass: the number of larger logits than the target's, and sum_c -p_c log p_c.
_SECOND = np.dtype([("above", "i8"), ("entropy", SIGNED_SUM)])


def row_stats(
    logits: Any,
    target: Any = None,
    k: SupportsIndex = 5,
    *,
    temperature: float = 1.0,
    entropy: bool = True,
    axis: SupportsIndex = -1,
    recompute: bool = True,
) -> RowStats:
    """Return statistics of rows of a Dask array of logits, whose class axis may be chunked.

    Parameters
    ----------
    logits : dask.array.Array, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64.
    target : dask.array.Array or array_like of int, shape (...), optional
        Classes whose log-probability and rank to return.
    k, temperature, entropy, axis
        As for `boltzmax.row_stats`.
    recompute : bool, default True
        Entropies and ranks read the chunks a second time: whether they are made again, and not
        held. See `softmax`.

    Returns
    -------
    boltzmax.RowStats
        Of lazy Dask arrays: what is not computed costs nothing. Bits do not depend on the chunks.

    Raises
    ------
    IndexError
        When it is computed, for a target out of range.
    TypeError, ValueError
        For any other invalid argument.

    Examples
    --------
    >>> import dask.array as da
    >>> from boltzmax.dask import row_stats
    >>> stats = row_stats(da.asarray([[0.0, 2.0, 1.0]], chunks=(1, 2)), k=2)
    >>> stats.top_ids.compute()
    array([[1, 2]])
    """
    read, t = Logits(logits, axis), check_temperature(temperature)
    wanted = min(check_count(k, "k", 0), read.n_classes)
    spread, again = as_flag(entropy, "entropy"), as_flag(recompute, "recompute")
    dtype = loss_dtype(read.array.dtype)
    more: dict[str, Any] = {}
    if target is None:
        known = totals(read, t)
    else:
        label = read.rows(target, "target")
        of_target = partial(_parts_with_target, n_classes=read.n_classes, temperature=t)
        known = read.reduced(of_target, MergeParts(t), PART, label)
        log_prob = read.of_rows(partial(_log_prob, temperature=t), known, dtype=np.float64)
        more["target_log_prob"] = log_prob.astype(dtype)
    lse = read.of_rows(partial(_lse, temperature=t), known, dtype=np.float64)
    if wanted:
        best = read.reduced(partial(_leaders, k=wanted), merge_leaders, leaders_dtype(wanted))
        more["top_ids"] = read.of_rows(_ids, best, dtype=np.int64, extra=wanted)
        parts = da.squeeze(known, read.axis)
        scored = partial(_top_log_probs, temperature=t)
        top = read.of_rows(scored, best, parts, dtype=np.float64, extra=wanted)
        more["top_log_probs"] = top.astype(dtype)
    if spread or target is not None:
        parts = da.squeeze(known, read.axis)
        second = read.reduced(
            partial(_second_pass, temperature=t, entropy=spread), _merge_second, _SECOND, parts,
            source=read.again(known) if again else read.array,
        )  # fmt: skip
        if spread:
            of_rows = read.of_rows(_entropy, second, parts, dtype=np.float64)
            more["entropy"] = of_rows.astype(dtype)
        if target is not None:
            more["target_rank"] = read.of_rows(_rank, second, dtype=np.int64)
    return RowStats(lse=lse.astype(dtype), energy=(-t * lse).astype(dtype), **more)


def ece(
    logits: Any,
    y: Any,
    *,
    n_bins: SupportsIndex = 15,
    norm: int | str = 1,
    temperature: float = 1.0,
    axis: SupportsIndex = -1,
) -> Any:
    """Return the expected calibration error of the likeliest class, in bins of equal width.

    The formula is that of `boltzmax.calibration.ece`.

    Parameters
    ----------
    logits : dask.array.Array, shape (..., K)
        float16, float32, float64 or bfloat16; integers become float64. Each chunk is made once.
    y : dask.array.Array or array_like of int, shape (...)
        The classes, from 0 to K - 1.
    n_bins : int, default 15
        The number of bins (k/n, (k+1)/n], of which the first contains 0 too.
    norm : {1, 2, "max"}, default 1
        Which mean of the bins' errors.
    temperature : float, default 1.0
        Divides the logits.
    axis : int, default -1
        The class axis.

    Returns
    -------
    dask.array.Array
        Lazy, of shape () and dtype float64.

    Raises
    ------
    IndexError, ValueError
        When it is computed, for a class out of range, or a row that has no probabilities.
    TypeError, ValueError
        For any other invalid argument.

    Examples
    --------
    >>> import dask.array as da
    >>> from boltzmax.dask import ece
    >>> logits = da.asarray([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], chunks=1)
    >>> round(float(ece(logits, [0, 0, 0])), 4)
    0.2992
    """
    exponent = check_norm(norm)
    bins, _ = check_bins(n_bins, "equal_width")
    read, t = Logits(logits, axis), check_temperature(temperature)
    if 0 in read.shape:
        raise ValueError(f"logits must have at least 1 row, got shape {read.array.shape}")
    label = read.rows(y, "y")
    known = totals(read, t)
    sums = da.squeeze(known, read.axis).map_blocks(
        partial(_bin_sums, n_classes=read.n_classes, n_bins=bins, temperature=t),
        label, loss_dtype(read.array.dtype).name,
        dtype=np.float64, chunks=(*((1,) * len(c) for c in read.row_chunks), (3,), (bins,)),
        new_axis=[len(read.shape), len(read.shape) + 1],
        meta=np.empty((0,) * (len(read.shape) + 2)),
    )  # fmt: skip
    total = sums.sum(axis=tuple(range(len(read.shape)))) if read.shape else sums
    return total.map_blocks(_error, exponent, dtype=np.float64, drop_axis=[0, 1], meta=np.empty(()))


def _lse(parts: Array, *, temperature: float) -> Array:
    return Normalizer(parts["total"], temperature).lse


def _log_prob(parts: Array, *, temperature: float) -> Array:
    return Normalizer(parts["total"], temperature).log_prob(parts["score"])


def _parts_with_target(
    x: Array, first: int, target: Array, *, n_classes: int, temperature: float
) -> Array:
    label, _ = checked_targets(target, Wanted(target.shape, n_classes), NO_CLASS)
    return parts_of(x, first, temperature, label)


def _leaders(x: Array, first: int, *, k: int) -> Array:
    return leaders_of(x, first, k)


def _ids(leaders: Array) -> Array:
    return np.asarray(leaders["id"])


def _top_log_probs(leaders: Array, parts: Array, *, temperature: float) -> Array:
    return Normalizer(parts["total"], temperature).log_prob(leaders["score"].T).T


def _second_pass(x: Array, first: int, parts: Array, *, temperature: float, entropy: bool) -> Array:
    second = np.zeros(len(x), _SECOND)
    second["above"] = (x.astype(np.float64) > parts["score"][:, None]).sum(axis=1)
    if entropy:
        rows = Normalizer(parts["total"], temperature)
        wide = x.astype(np.float64)
        p, log_p = rows.softmax(wide), rows.log_softmax(wide)
        second["entropy"] = sums_of(np.where(p > 0.0, -p * log_p, 0.0))
    return second


def _merge_second(mine: Array, other: Array) -> None:
    sums = mine["entropy"].copy()
    merge_sums(sums, other["entropy"])
    mine["entropy"] = sums
    mine["above"] += other["above"]


def _entropy(second: Array, parts: Array) -> Array:
    entropy = rounded_sums(second["entropy"].copy())[0]
    return np.where(np.isfinite(parts["total"]["max"]), entropy, np.nan)


def _rank(second: Array) -> Array:
    return np.asarray(second["above"] + 1)


def _bin_sums(
    parts: Array, y: Array, dtype: str, *, n_classes: int, n_bins: int, temperature: float
) -> Array:
    label, _ = checked_targets(y, Wanted(y.shape, n_classes, name="y"), NO_CLASS)
    flat = np.ascontiguousarray(parts).reshape(-1)
    rows = Normalizer(flat["total"], temperature)
    bad = ~np.isfinite(rows.max)
    if bad.any():
        raise ValueError(
            "logits must have a finite maximum and no NaN in each row; of a chunk of rows, "
            f"{int(bad.sum())} have not, the first is row {int(bad.argmax())} of the chunk"
        )
    p = np.exp(-rows.log_sum).astype(dtype)
    edges = equal_width_edges(n_bins)
    sums = equal_width_sums(Events(p, rows.argmax == label, None), edges)
    return np.stack([sums.count, sums.happened, sums.p]).reshape((1,) * parts.ndim + (3, n_bins))


def _error(total: Array, exponent: float) -> Array:
    count, happened, p = total
    bins = Sums(count, count, count, p, happened).bins(equal_width_edges(len(count)))
    return np.asarray(error_of_bins(bins, exponent))

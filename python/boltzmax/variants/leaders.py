"""The k largest scores of rows that come in parts, with their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax.arrays.row_stats import row_stats

Array = NDArray[Any]


def leaders_dtype(k: int) -> np.dtype[Any]:
    """Return the dtype of the k best of a row: classes, -1 where there are fewer, and scores."""
    return np.dtype([("id", "i8", (k,)), ("score", "f8", (k,))])


def leaders_of(x: Array, first: int, k: int) -> Array:
    """Return the k largest elements of the rows of a matrix whose first column is class `first`.

    Equal scores go by class.
    """
    leaders = np.empty(len(x), leaders_dtype(k))
    leaders["id"], leaders["score"] = -1, -np.inf
    some = min(k, x.shape[1])
    if some and len(x):
        ids = row_stats(x, k=some, entropy=False).top_ids
        assert ids is not None
        leaders["id"][:, :some] = ids + first
        leaders["score"][:, :some] = np.take_along_axis(x, ids, axis=1).astype(np.float64)
    return leaders


def merge_leaders(mine: Array, other: Array) -> None:
    """Keep the best of both; missing ones come last."""
    k = mine["id"].shape[1]
    ids = np.concatenate([mine["id"], other["id"]], axis=1)
    scores = np.concatenate([mine["score"], other["score"]], axis=1)
    order = np.lexsort((ids, -scores, ids < 0), axis=1)[:, :k]
    mine["id"] = np.take_along_axis(ids, order, axis=1)
    mine["score"] = np.take_along_axis(scores, order, axis=1)

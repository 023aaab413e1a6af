"""Exact draws of classes from softmax, with and without replacement."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import (
    SUPPORTED,
    as_input,
    axis_with_classes,
    check_count,
    classes_last,
    is_real,
    quietly,
    row_temperature,
)
from boltzmax._lib.random import check_first_row, random_key
from boltzmax._lib.same_kind import same_kind

Ints = NDArray[np.int64]


@same_kind
@quietly
def gumbel_max(
    logits: ArrayLike,
    axis: int = -1,
    *,
    temperature: ArrayLike = 1.0,
    n: int | None = None,
    rng: Any = None,
    first_row: int = 0,
) -> Any:
    """Draw classes from softmax(logits / temperature).

    The draws have the distribution of ``argmax(logits / temperature + g)`` with Gumbel noise g,
    that is softmax(logits / temperature), but take one random number per level instead of one per
    class: a block of classes is drawn by its share of the sum of exponentials, and then a class
    of that block. Many draws from a row read it once.

    Parameters
    ----------
    logits : array_like
        Scores of any real dtype, in double at most; -inf for classes that are never drawn.
    axis : int, default -1
        The class axis.
    temperature : float or array_like, default 1.0
        At least 0; an array has one number for each row. At 0, the draw is the largest score, and
        among equal ones the one with the lowest id.
    n : int, optional
        The number of independent draws from each row, on a new last axis. By default one draw,
        without that axis.
    rng : int, numpy.random.Generator or None
        As for `gumbel_softmax`: a draw depends on the key, the number of the row, the number of
        the draw and the row's scores.
    first_row : int, default 0
        The number of the first row.

    Returns
    -------
    ndarray of int64, or int64
        The ids, with the shape of `logits` without the class axis. The id is -1 for a row with
        NaN, with +inf, or without a finite score.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    See Also
    --------
    gumbel_topk : Draws without replacement.
    linear_sample : Draws from a linear layer, without its logits.

    Notes
    -----
    The draws are exact to the 53 bits of each of the two random numbers: a class of probability
    1e-12 is drawn that often. Sums in single precision decide only where their rounding cannot
    matter, otherwise sums in double do: so the ids are the same on every instruction set, and for
    the same scores in every dtype.

    Examples
    --------
    >>> import boltzmax
    >>> boltzmax.gumbel_max([[0.0, 100.0], [100.0, 0.0]], rng=1)
    array([1, 0])
    >>> boltzmax.gumbel_max([0.0, 1.0, 2.0], n=4, rng=1).shape
    (4,)
    """
    rows = _Rows(logits, axis, temperature, "gumbel_max")
    draws = 1 if n is None else check_count(n, "n", 0, 2**32)
    row = check_first_row(first_row)
    ids = np.empty((len(rows.matrix), draws), np.int64)
    _core.draw(rows.matrix, rows.temperature, random_key(rng), row, ids, None)
    return ids.reshape(rows.shape if n is None else (*rows.shape, draws))[()]


@partial(same_kind, ranked=True)
@quietly
def gumbel_topk(
    logits: ArrayLike,
    k: int,
    axis: int = -1,
    *,
    temperature: ArrayLike = 1.0,
    rng: Any = None,
    first_row: int = 0,
) -> tuple[Ints, NDArray[np.float64]]:
    """Draw k different classes from softmax(logits / temperature), in order of drawing.

    The classes with the k largest keys, logits / temperature + g with Gumbel noise g: they have
    the distribution of k draws without replacement, each from the softmax of the classes that are
    left (Yellott, J. Math. Psychology 15(2), 1977; Kool, van Hoof & Welling, ICML 2019).

    Parameters
    ----------
    logits : array_like
        Scores of any real dtype; -inf for classes that are never drawn.
    k : int
        From 1 to the number of classes.
    axis : int, default -1
        The class axis.
    temperature : float or array_like, default 1.0
        Above 0; an array has one number for each row.
    rng : int, numpy.random.Generator or None
        As for `gumbel_softmax`, whose noise this is: the first id is where a hard result is 1.
    first_row : int, default 0
        The number of the first row.

    Returns
    -------
    ids : ndarray of int64
        The classes on a new last axis, instead of the class axis. An id is -1 where no class is
        left, and in all places for a row with NaN or +inf.
    keys : ndarray of float64
        Their keys, logits / temperature + g, the largest first; they are not normalized. -inf where
        no class is left, NaN for a row with NaN or +inf. Keys are rounded to float64, so beyond
        2^53 they do not show the noise, and those out of its range are its largest numbers, 1.8e308
        and -1.8e308.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    See Also
    --------
    gumbel_max : Independent draws.

    Notes
    -----
    The noise of a class does not depend on k, and is from -3.81 to 45.06; see `gumbel_softmax`.
    A pass in single precision bounds every key, and keys are computed in twice the precision of a
    double for the few classes that may be among the k largest. So ids are right however large the
    logits are, or their distances. Ids and keys are the same on every instruction set.

    Examples
    --------
    >>> import boltzmax
    >>> ids, keys = boltzmax.gumbel_topk([0.0, 200.0, 100.0], 3, rng=1)
    >>> ids
    array([1, 2, 0])
    """
    rows = _Rows(logits, axis, temperature, "gumbel_topk")
    count = check_count(k, "k", 1, rows.matrix.shape[1])
    row = check_first_row(first_row)
    if rows.temperature is not None and (rows.temperature == 0.0).any():
        raise ValueError("temperature must be > 0 for gumbel_topk, got 0")
    ids = np.empty((len(rows.matrix), count), np.int64)
    keys = np.empty(ids.shape)
    _core.draw(rows.matrix, rows.temperature, random_key(rng), row, ids, keys)
    shape = (*rows.shape, count)
    return ids.reshape(shape), keys.reshape(shape)


class _Rows:
    """The rows of logits as a matrix in C order, in float32 or float64."""

    def __init__(self, logits: ArrayLike, axis: int, temperature: ArrayLike, function: str) -> None:
        array = as_input(logits, "logits", "pass its data, and -inf at the mask")
        if not is_real(array.dtype):
            raise TypeError(
                f"{function} does not support dtype {array.dtype}; it takes {SUPPORTED}"
            )
        along = axis_with_classes(array.shape, axis, "logits", 0)
        t = row_temperature(temperature, array, (along,))
        moved = classes_last(array, along)
        is_single = array.dtype.kind not in "biu" and array.dtype.itemsize <= 4
        self.shape = moved.shape[:-1]
        number = np.float32 if is_single else np.float64
        self.matrix = np.require(moved, number, ["C", "A"]).reshape(
            math.prod(self.shape), moved.shape[-1]
        )
        self.temperature = None if t is None else np.ascontiguousarray(t).reshape(-1)

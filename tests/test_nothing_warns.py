"""No call warns, or raises because of the caller's errstate, for any input."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import every_function
import trust_calls
import ulp
from operations import GRADIENTS, OPERATIONS

Array = npt.NDArray[Any]
INF, NAN = np.inf, np.nan

# For weights, probabilities and other numbers.
NUMBERS = [[1.0], [0.0], [0.0, 1.0], [1.0, -1.0], [INF], [NAN], [1e308], [-1e308], [5e-324]]


def extremes(dtype: np.dtype[Any]) -> list[Array]:
    """Rows of numbers at the limits of a dtype, infinities, NaN, and empty rows."""
    if dtype == np.longdouble:
        big, small = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    else:
        big, small = ulp.format_of(dtype).largest, ulp.format_of(dtype).smallest
    rows = [
        *([0, 800], [big, -big], [-big, big, big], [small, 0, -1], [1e4, -1e4], [0, 0]),
        *([INF, 0], [-INF, -INF], [NAN, 1], [-INF, 0, big], [-800, -800, -800]),
    ]
    with np.errstate(all="ignore"):
        found = [np.array([row, row[::-1]], np.longdouble).astype(dtype) for row in rows]
    return [*found, np.zeros((0, 2), dtype), np.zeros((2, 0, 3), dtype)]


def check_quiet(call: Callable[[], Any]) -> bool:
    """Whether a call succeeds; it may raise, but not warn."""
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call()
        except (TypeError, ValueError):
            return False
        return True


def test_every_public_function_is_called() -> None:
    public = {name for name in boltzmax.__all__ if callable(getattr(boltzmax, name))}
    assert every_function.names() >= public - every_function.WITHOUT_SCORES


def extreme_calls(dtype: np.dtype[Any]) -> Iterator[tuple[str, Callable[[], Any], Array]]:
    """Every function on every array of `extremes`, each with some of the numbers in turn."""
    turns = itertools.cycle(NUMBERS)
    for x in extremes(dtype):
        for numbers in itertools.islice(turns, 2):
            with np.errstate(all="ignore"):
                calls = list(every_function.everything(x, numbers))
            for name, call in calls:
                yield name, call, x


def test_scores(dtype: np.dtype[Any]) -> None:
    succeeded = 0
    for name, call, x in extreme_calls(dtype):
        good = check_quiet(call)
        assert good or 0 in x.shape, name
        succeeded += good
    assert succeeded > 10_000


def test_scores_of_extended_precision() -> None:
    """Losses refuse them; the others do not."""
    calls = extreme_calls(np.dtype(np.longdouble))
    done = {name for name, call, _ in calls if check_quiet(call)}
    assert done >= {*OPERATIONS, *GRADIENTS}


def test_trust(dtype: np.dtype[Any]) -> None:
    """What judges a classifier says that rows are too few, and the like, but nothing of NumPy's."""
    succeeded, names = 0, set()
    for x in extremes(dtype):
        if x.ndim != 2:
            continue
        with np.errstate(all="ignore"):
            rows = np.concatenate([x, x[:, ::-1], x])
        calls = list(trust_calls.everything(rows, np.arange(len(rows)) % x.shape[1]))
        for name, call in calls:
            with np.errstate(all="raise"), warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", UserWarning)
                names.add(name)
                with contextlib.suppress(TypeError, ValueError):
                    call()
                    succeeded += 1
    assert names == trust_calls.public()
    assert succeeded > 300


def test_weights_of_extended_precision() -> None:
    """Values beyond float64 become infinite."""
    huge, x, target = np.full(2, np.longdouble("1e4000")), np.zeros((2, 2)), np.zeros(2, int)
    for call in (
        partial(boltzmax.cross_entropy, x, target, weight=huge),
        partial(boltzmax.cross_entropy, x, np.array([huge, huge])),
        partial(boltzmax.nll_loss, x, target, weight=huge),
        partial(boltzmax.kl_divergence, x, huge),
        partial(boltzmax.linear_cross_entropy, x, x, target, class_weight=huge),
        partial(boltzmax.binary_cross_entropy_with_logits, x, x, pos_weight=huge),
    ):
        assert check_quiet(call)


@pytest.mark.parametrize("counts", [[1.0, 1e308], [5e-324, 1.0], [1e308, 1e308], [0.0, 1.0]])
def test_counts(counts: list[float]) -> None:
    calls: list[Callable[[], Any]] = [
        partial(boltzmax.class_weights, counts, method)
        for method in ("balanced", "effective_number", "sqrt")
    ]
    calls += [
        partial(boltzmax.balanced_softmax, np.zeros((2, 2)), counts),
        partial(boltzmax.Tree.huffman, counts),
        partial(boltzmax.Tree.two_level, counts),
        partial(boltzmax.Tree.balanced(2).expected_depth, counts),
        partial(boltzmax.Tree.from_clusters, [counts, counts[::-1]]),
    ]
    if counts[0]:
        calls += [partial(boltzmax.logit_adjustment, counts, tau) for tau in (1.0, 1e308, -1e308)]
    for call in calls:
        assert check_quiet(call), call
    assert not check_quiet(partial(boltzmax.class_weights, np.full(2, np.longdouble("1e4000"))))


def test_warnings_are_detected() -> None:
    with pytest.raises(FloatingPointError):
        check_quiet(lambda: np.float32(1e30) * np.float32(1e30))
    with pytest.raises(RuntimeWarning):
        check_quiet(lambda: warnings.warn("loud", RuntimeWarning, stacklevel=1))

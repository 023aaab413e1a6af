"""Maps of rows whose ordinary calls run without Python: the same bits as the general path."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax import _core

Array = NDArray[Any]


class Subclass(np.ndarray):
    """An array that compiled readers leave to the general path."""


MAPS = {
    "sparsemax": boltzmax.sparsemax,
    "entmax15": boltzmax.entmax15,
    "entmax": partial(boltzmax.entmax, alpha=1.3),
    "gumbel_softmax": partial(boltzmax.gumbel_softmax, rng=7, first_row=3),
    "taylor_softmax": partial(boltzmax.taylor_softmax, order=4),
    "sigsoftmax": boltzmax.sigsoftmax,
    "log_sigsoftmax": boltzmax.log_sigsoftmax,
    "logcumsumexp": boltzmax.logcumsumexp,
    "windowed_softmax": partial(boltzmax.windowed_softmax, window=3),
}
WITHOUT_TEMPERATURE = ("logcumsumexp", "windowed_softmax")
GRADIENTS = {
    "sparsemax_backward": boltzmax.sparsemax_backward,
    "entmax15_backward": boltzmax.entmax15_backward,
    "entmax_backward": partial(boltzmax.entmax_backward, alpha=1.3),
    "sigsoftmax_backward": boltzmax.sigsoftmax_backward,
    "taylor_softmax_backward": partial(boltzmax.taylor_softmax_backward, order=4),
}


def scores(dtype: Any = np.float32) -> Array:
    return np.random.default_rng(0).standard_normal((3, 5, 7)).astype(dtype)


def by_general_path(function: Any, *arrays: Array, **options: Any) -> Array:
    return np.asarray(function(*(a.view(Subclass) for a in arrays), **options))


def map_rows(function: str, x: Any, axis: Any = -1, **options: Any) -> Any:
    given = {"where": None, "temperature": 1.0, "dtype": None, "out": None} | options
    return _core.map_rows(function, x, axis, *given.values())


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_maps(name: str, dtype: Any) -> None:
    function, x = MAPS[name], scores(dtype)
    calls: list[dict[str, Any]] = [{}, {"axis": 0}, {"axis": (2, 0)}, {"axis": None}]
    calls.append({"where": x[0] > 0})
    calls.append({"dtype": np.float64})
    if name not in WITHOUT_TEMPERATURE:
        calls += [{"temperature": 0.5}, {"temperature": np.linspace(1, 2, 15).reshape(3, 5)}]
    for options in calls:
        y, wanted = function(x, **options), by_general_path(function, x, **options)
        assert y.dtype == wanted.dtype
        np.testing.assert_array_equal(y, wanted, err_msg=str(options))


@pytest.mark.parametrize("name", MAPS)
def test_results_are_in_order_of_the_scores_and_in_out(name: str) -> None:
    function = MAPS[name]
    x = scores().transpose(2, 0, 1)
    y, out = function(x), np.zeros_like(x)
    assert y.strides == x.strides
    assert function(x, out=out) is out
    np.testing.assert_array_equal(out, y)
    same = x.copy()  # read as it is written
    assert function(same, out=same) is same
    np.testing.assert_array_equal(same, y)
    assert isinstance(function(np.float32(1.0)), np.float32)


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradients(name: str, dtype: Any) -> None:
    function, dy = GRADIENTS[name], scores(dtype)
    y = boltzmax.entmax15(dy[::-1])
    for axis in (-1, 0, (0, 2), None):
        dx, wanted = function(dy, y, axis=axis), by_general_path(function, dy, y, axis=axis)
        assert dx.dtype == wanted.dtype
        np.testing.assert_array_equal(dx, wanted, err_msg=str(axis))
    same = y.copy()
    assert function(dy, same, out=same) is same
    np.testing.assert_array_equal(same, function(dy, y))


def test_ordinary_calls_need_no_python() -> None:
    x = scores()
    for function in ("sparsemax", "entmax15", "sigsoftmax", "gumbel_softmax"):
        for given in (x, x[..., ::2], x.tolist(), x.astype(np.int32)):
            assert map_rows(function, given) is not None
        assert map_rows(function, x, where=x > 0, temperature=2.0, out=np.empty_like(x)) is not None
    assert _core.gradient_of_rows("sparsemax_backward", x, x, -1, None, None, 0) is not None


def test_other_calls_are_declined() -> None:
    x = scores()
    before = x.copy()
    for options in (
        {"out": x},
        {"out": np.empty(3, np.float32)},
        {"temperature": 0.0},
        {"temperature": "warm"},
        {"where": [2]},
        {"dtype": "text"},
        {"dtype": np.longdouble},
        {"axis": 3},
    ):
        assert map_rows("sparsemax", x, **options) is None
    assert map_rows("sparsemax", x.view(Subclass)) is None
    for key in (-1, 2**64, 1.0):
        assert _core.map_rows("gumbel_softmax", x, -1, None, 1.0, None, None, 0.0, 0, key) is None
    for y in (x[0], x.astype(np.float64), x.view(Subclass)):
        assert _core.gradient_of_rows("sparsemax_backward", x, y, -1, None, None, 0) is None
    assert _core.gradient_of_rows("sparsemax_backward", x, x, -1, x, None, 0) is None
    np.testing.assert_array_equal(x, before)

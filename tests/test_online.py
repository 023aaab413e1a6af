"""OnlineLogSumExp: chunks in any order give the value of one call."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax import OnlineLogSumExp

pytestmark = pytest.mark.usefixtures("strict")

EPS = 2.0**-52


def exact(x: Any) -> Any:
    wide = np.asarray(x).astype(np.longdouble)
    return np.log(np.exp(wide - wide.max()).sum()) + wide.max()


def error_in_ulps(got: Any, want: Any) -> float:
    """In units in the last place of float64 of the larger of the value and 1."""
    return float(np.abs(got - want) / (EPS * max(1.0, abs(float(want)))))


@pytest.mark.parametrize(("scale", "count"), [(1.0, 200_000), (100.0, 10_000)])
def test_many_updates_lose_no_digits(scale: float, count: int) -> None:
    x = np.random.default_rng(0).normal(size=count) * scale
    total = OnlineLogSumExp()
    for score in x.reshape(-1, 1):
        total.update(score)
    assert error_in_ulps(total.value, exact(x)) <= 2
    assert total.count == count
    assert total.max == x.max()


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_any_order_of_chunks_and_merges(order: str) -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(-40.0, 900.0, 4000)
    x = {"ascending": x, "descending": x[::-1], "shuffled": rng.permutation(x)}[order]
    parts = []
    for chunk in np.split(x, 500):
        parts.append(OnlineLogSumExp())
        parts[-1].update(chunk)
    while len(parts) > 1:
        a = parts.pop(int(rng.integers(len(parts))))
        parts[int(rng.integers(len(parts)))].merge(a)
    assert error_in_ulps(parts[0].value, exact(x)) <= 2
    assert parts[0].count == x.size
    assert parts[0].max == 900.0


def test_shapes_and_axes(dtype: np.dtype[Any]) -> None:
    x = np.random.default_rng(2).normal(size=(5, 3, 4)).astype(dtype)
    total = OnlineLogSumExp((3,), dtype)
    for chunk in x:
        total.update(chunk)
        total.update(chunk.T, axis=0)
    total.update(x, axis=(0, 2))
    want = boltzmax.logsumexp(x.astype(np.float64), axis=(0, 2)) + np.log(3.0)
    assert total.value.dtype == total.max.dtype == dtype
    assert (total.value == want.astype(dtype)).all()
    assert total.count == 60
    assert (total.max == x.max(axis=(0, 2))).all()
    alone = OnlineLogSumExp(3)
    alone.update(x[0, :, 0], axis=())
    np.testing.assert_allclose(alone.value, x[0, :, 0].astype(float), atol=4 * EPS, rtol=4 * EPS)


def test_special_values() -> None:
    total = OnlineLogSumExp()
    assert total.value == total.max == -np.inf
    assert total.count == 0
    total.update([])
    total.update([-np.inf, -np.inf])
    assert total.value == -np.inf
    assert total.count == 2
    total.update([-1e30])
    assert total.value == -1e30
    total.update([0.0])
    assert total.value == 0
    total.update([1e30])
    assert total.value == pytest.approx(1e30, rel=1e-15)
    total.update([np.inf])
    assert total.value == np.inf
    total.update([1.0])
    assert total.value == np.inf
    total.update([np.nan])
    assert np.isnan(total.value)
    assert np.isnan(total.max)


def test_pickles_and_repr() -> None:
    total = OnlineLogSumExp((2,), np.float32)
    total.update([[1.0, 2.0], [3.0, 4.0]])
    again = pickle.loads(pickle.dumps(total))
    assert (again.value == total.value).all()
    assert again.count == 2
    again.update([[1.0], [2.0]])
    assert (again.value > total.value).all()
    assert repr(total) == "OnlineLogSumExp(shape=(2,), dtype='float32')"


def test_bad_arguments_are_refused_and_nothing_is_added() -> None:
    total = OnlineLogSumExp((2,))
    with pytest.raises(ValueError, match=r"chunk of shape \(3, 1\) without axis -1 has shape"):
        total.update(np.zeros((3, 1)))
    with pytest.raises(np.exceptions.AxisError):
        total.update(np.zeros((2, 1)), axis=2)
    with pytest.raises(TypeError, match="chunk must be real"):
        total.update(np.zeros((2, 1), complex))
    with pytest.raises(ValueError, match="other has shape"):
        total.merge(OnlineLogSumExp((3,)))
    with pytest.raises(TypeError, match="must be an OnlineLogSumExp, got list"):
        total.merge([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype"):
        OnlineLogSumExp((), np.int32)
    assert total.count == 0
    assert (total.value == -np.inf).all()


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        (
            2**62,
            ValueError,
            "shape must be that of an array, got 4611686018427387904: array is too",
        ),
        (2**70, ValueError, "shape must be that of an array, got 1180591620717411303424: Maximum"),
        ((3, -1), ValueError, r"shape must be that of an array, got \(3, -1\): negative"),
        (2**45, MemoryError, "shape 35184372088832 is too large: Unable to allocate"),
        (1.5, TypeError, r"shape must be an integer or a tuple of them, got 1\.5"),
        (None, TypeError, "shape must be an integer or a tuple of them, got None"),
    ],
)
def test_shapes_that_no_array_has(shape: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^{words}"):
        boltzmax.OnlineLogSumExp(shape)

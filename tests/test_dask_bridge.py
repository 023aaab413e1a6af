"""boltzmax.dask: lazy, the same bits for any chunks and schedulers, memory for a few chunks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import boltzmax
from boltzmax.calibration import ece
from conftest import RunPython

dask: Any = pytest.importorskip("dask")
da: Any = pytest.importorskip("dask.array")

from boltzmax import dask as bd  # noqa: E402 (only with dask)

Array = np.ndarray[Any, Any]

SHAPE = (6, 5, 40)
# Chunks of the array: one, several along every axis, several of different lengths.
CHUNKS = [SHAPE, (4, 5, 7), (2, 3, (1, 0, 30, 9))]
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "temperature": 0.7}


def samples(dtype: Any) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=SHAPE) * 4).astype(dtype)
    target = rng.integers(0, SHAPE[-1], SHAPE[:-1])
    return x, target, rng.random(SHAPE[:-1])


def in_dask(x: Any, target: Array, weight: Array, axis: int = -1) -> dict[str, Any]:
    """Every function of the module."""
    ignored = np.where(target == 3, -100, target)
    loss, gradient = bd.cross_entropy_with_grad(
        x, ignored, sample_weight=weight, axis=axis, **OPTIONS
    )
    stats = bd.row_stats(x, target, k=4, axis=axis)
    return {
        "softmax": bd.softmax(x, axis),
        "cooler": bd.softmax(x, axis, temperature=0.3, recompute=False),
        "log_softmax": bd.log_softmax(x, axis),
        "logsumexp": bd.logsumexp(x, axis),
        "kept": bd.logsumexp(x, axis, keepdims=True),
        "loss": loss,
        "gradient": gradient,
        "losses": bd.cross_entropy(x, ignored, axis=axis, reduction="none", **OPTIONS),
        "sum": bd.cross_entropy(x, target, axis=axis, reduction="sum"),
        "ece": bd.ece(x, target, axis=axis),
        **{f"stats.{name}": value for name, value in vars(stats).items()},
    }


def in_numpy(x: Array, target: Array, weight: Array, axis: int = -1) -> dict[str, Any]:
    ignored = np.where(target == 3, -100, target)
    loss, gradient = boltzmax.cross_entropy_with_grad(
        x, ignored, sample_weight=weight, axis=axis, **OPTIONS
    )
    stats = boltzmax.row_stats(x, target, k=4, axis=axis)
    rows = np.moveaxis(x, axis, -1)
    return {
        "softmax": boltzmax.softmax(x, axis),
        "cooler": boltzmax.softmax(x, axis, temperature=0.3),
        "log_softmax": boltzmax.log_softmax(x, axis),
        "logsumexp": boltzmax.logsumexp(x, axis),
        "kept": boltzmax.logsumexp(x, axis, keepdims=True),
        "loss": loss,
        "gradient": gradient,
        "losses": boltzmax.cross_entropy(x, ignored, axis=axis, reduction="none", **OPTIONS),
        "sum": boltzmax.cross_entropy(x, target, axis=axis, reduction="sum"),
        "ece": ece(rows.reshape(-1, rows.shape[-1]), target.reshape(-1)),
        **{f"stats.{name}": value for name, value in vars(stats).items()},
    }


def assert_alike(got: dict[str, Any], want: dict[str, Any], dtype: Any) -> None:
    """To the last digits; with a temperature or many terms, to a few more."""
    eps = float(np.finfo(dtype).eps)
    for name, value in want.items():
        a, b = np.asarray(got[name]), np.asarray(value)
        assert a.shape == b.shape, name
        assert a.dtype == b.dtype, name
        if b.dtype.kind == "i":
            assert np.array_equal(a, b), name
        else:
            scale = max(1.0, float(np.abs(b).max())) if "gradient" not in name else np.abs(b).max()
            assert np.allclose(
                a.astype(np.float64), b.astype(np.float64), rtol=12 * eps, atol=4 * eps * scale
            ), name


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_same_bits_for_any_chunks(dtype: Any) -> None:
    x, target, weight = samples(dtype)
    want = in_numpy(x, target, weight)
    bits: dict[str, bytes] = {}
    for chunks in CHUNKS:
        lazy = in_dask(da.from_array(x, chunks=chunks), target, weight)
        assert all(isinstance(value, da.Array) for value in lazy.values())
        (got,) = dask.compute(lazy, scheduler="synchronous")
        for name, value in lazy.items():
            assert got[name].dtype == value.dtype, name
            assert np.shape(got[name]) == value.shape, name
        assert_alike(got, want, dtype)
        del got["ece"]  # a sum of probabilities in another order
        new = {name: np.ascontiguousarray(value).tobytes() for name, value in got.items()}
        bits = bits or new
        assert [name for name in new if new[name] != bits[name]] == []


@pytest.mark.parametrize("axis", [0, 1])
def test_other_axes(axis: int) -> None:
    x, _, _ = samples(np.float32)
    rng = np.random.default_rng(1)
    shape = tuple(n for d, n in enumerate(SHAPE) if d != axis)
    target, weight = rng.integers(0, SHAPE[axis], shape), rng.random(shape)
    (got,) = dask.compute(in_dask(da.from_array(x, chunks=(4, 2, 15)), target, weight, axis))
    assert_alike(got, in_numpy(x, target, weight, axis), np.float32)


def test_a_single_row_and_no_rows() -> None:
    x = np.arange(6.0)
    lazy = da.from_array(x, chunks=4)
    assert np.array_equal(bd.softmax(lazy).compute(), bd.softmax(lazy.rechunk(6)).compute())
    assert bd.cross_entropy(lazy, 2).compute() == pytest.approx(boltzmax.cross_entropy(x, 2))
    rank: Any = bd.row_stats(lazy, 2, k=1).target_rank
    assert rank.compute() == 4
    none = da.zeros((0, 6), chunks=(1, 3))
    assert bd.softmax(none).compute().shape == (0, 6)
    assert bd.cross_entropy(none, np.zeros(0, int), empty="zero").compute() == 0.0
    assert math.isnan(bd.cross_entropy(none, np.zeros(0, int)).compute())


def test_special_rows() -> None:
    x = np.array([[np.nan, 0, 1, 2], [np.inf, 0, 1, 2], [-np.inf] * 4, [-np.inf, 0, 1, 2]])
    lazy = da.from_array(x, chunks=(2, 2))
    for name in ("softmax", "log_softmax", "logsumexp"):
        got = getattr(bd, name)(lazy).compute()
        want = getattr(boltzmax, name)(x, axis=-1)
        assert np.allclose(got, want, rtol=1e-15, equal_nan=True), name
    got, gradient = dask.compute(*bd.cross_entropy_with_grad(lazy, [0, 0, 0, 1], reduction="sum"))
    assert math.isnan(got)
    assert np.isnan(gradient).any(axis=1).tolist() == [True, True, True, False]


def test_masks_that_dask_does_not_know_of_are_refused() -> None:
    def mask(block: Array) -> Array:
        return np.ma.masked_greater(block, 0.5)

    x = da.ones((2, 4), chunks=2).map_blocks(mask, dtype=np.float64, meta=np.empty((0, 0)))
    with pytest.raises(TypeError, match="a chunk is a masked array"):
        bd.logsumexp(x).compute(scheduler="synchronous")


def test_the_same_call_is_the_same_graph() -> None:
    """So that Dask computes it once, and functions of the same array share its totals."""
    x, target, weight = samples(np.float32)
    array = da.from_array(x, chunks=(4, 5, 7))
    again = in_dask(array, target, weight)
    for name, lazy in in_dask(array, target, weight).items():
        assert lazy.name == again[name].name, name
    shared = set(bd.softmax(array).dask.layers) & set(bd.logsumexp(array).dask.layers)
    assert any(name.startswith("merged") for name in shared)


@pytest.mark.parametrize("weight", [0.0, 2.0])
@pytest.mark.parametrize("empty", ["zero", "nan"])
def test_a_number_as_weight(weight: float, empty: str) -> None:
    """Also 0, with which the mean is over no rows."""
    x, target, _ = samples(np.float64)
    array, options = da.from_array(x, chunks=(4, 5, 7)), {"sample_weight": weight, "empty": empty}
    got = dask.compute(*bd.cross_entropy_with_grad(array, target, **options))
    want = boltzmax.cross_entropy_with_grad(x, target, **options)
    for mine, other in zip(got, want, strict=True):
        assert np.allclose(mine, other, rtol=1e-13, equal_nan=True)


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def fail(block: Array) -> Array:
        raise AssertionError("computed")

    x = da.ones((4, 8), chunks=(2, 4)).map_blocks(fail, dtype=np.float64, meta=np.empty((0, 0)))
    in_dask(x, np.zeros(4, int), np.ones(4))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers(scheduler: str) -> None:
    x, target, weight = samples(np.float32)
    lazy = in_dask(da.from_array(x, chunks=(4, 5, 7)), target, weight)
    some = {name: lazy[name] for name in ("softmax", "gradient", "stats.entropy")}
    (want,) = dask.compute(some, scheduler="synchronous")
    (got,) = dask.compute(some, scheduler=scheduler, num_workers=4)
    for name in some:
        assert np.array_equal(got[name], want[name]), name


DISTRIBUTED = """
import json
import dask, dask.array as da, numpy as np
from distributed import Client, LocalCluster
from boltzmax import dask as bd

if __name__ == "__main__":
    options = dict(n_workers=4, threads_per_worker=1, dashboard_address=None)
    with LocalCluster(**options) as cluster, Client(cluster):
        x = da.random.default_rng(0).normal(size=(40, 600), chunks=(20, 150))
        target = np.arange(40)
        lazy = (bd.softmax(x), bd.cross_entropy_with_grad(x, target)[1], bd.row_stats(x).entropy)
        got = dask.compute(*lazy)
    want = dask.compute(*lazy, scheduler="synchronous")
    print(json.dumps([bool(np.array_equal(a, b)) for a, b in zip(got, want)]))
"""


def test_distributed_workers(run_python: RunPython) -> None:
    """Four processes, which send each other pickled records."""
    pytest.importorskip("distributed")
    done = run_python(DISTRIBUTED, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1]) == [True] * 3


MEMORY = """
import json, resource
import dask, dask.array as da, numpy as np
import boltzmax
from boltzmax import dask as bd

boltzmax.set_num_threads(1)
MB, ROWS, CLASSES = 2**20, 32, 2**15
def chunk(block_info=None):
    seed = block_info[None]["chunk-location"]
    return np.random.default_rng(seed).standard_normal((ROWS, CLASSES), np.float32)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
x = da.map_blocks(chunk, chunks=((ROWS,) * 8, (CLASSES,) * 8), dtype=np.float32,
                  meta=np.empty((0, 0), np.float32))
y = bd.softmax(x)
total = y.map_blocks(lambda b: b.sum(axis=1, keepdims=True, dtype="f8"), chunks=(x.chunks[0], 1),
                     dtype="f8").sum()
with dask.config.set(scheduler="threads", num_workers=2):
    bd.softmax(x[:32]).sum().compute()
    before = peak()
    value = total.compute()
print(json.dumps([value, (peak() - before) / 4, x.nbytes / MB]))
"""


def test_memory_is_that_of_a_few_chunks(run_python: RunPython) -> None:
    """An array of 64 chunks of 4 MB on two workers: less than six chunks more than for eight."""
    done = run_python(MEMORY, timeout=120)
    value, chunks, megabytes = json.loads(done.stdout)
    assert value == pytest.approx(256.0)
    assert megabytes == 256
    assert chunks < 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: bd.softmax(np.ones(3)), "x must be a dask array, got ndarray"),
        (lambda x: bd.softmax(x.astype("c16")), "must be float16, float32, float64"),
        (lambda x: bd.softmax(x, 2), r"axis 2 is out of range for x of shape \(4, 6\)"),
        (lambda x: bd.softmax(x, temperature=0.0), "temperature must be > 0"),
        (lambda x: bd.softmax(x[:, x[0] > 3]), r"along axis 1: call x.compute_chunk_sizes\(\)"),
        (lambda x: bd.softmax(x[x[:, 0] > 3]), "unknown size along axis 0"),
        (lambda x: bd.softmax(da.zeros((3, 0))), r"from 1 to 2\*\*31 classes in all, got 0"),
        (lambda x: bd.softmax(da.zeros((1, 2**31 + 1), chunks=2**28)), "got 2147483649"),
        (lambda x: bd.cross_entropy(x, [0, 1]), r"target must have one number for each row"),
        (lambda x: bd.cross_entropy(x, [0.0, 1, 2, 3]), "target must be integers, got"),
        (lambda x: bd.cross_entropy(x, [0] * 4, reduction="max"), "reduction must be"),
        (lambda x: bd.cross_entropy(x, [0] * 4, label_smoothing=2), "label_smoothing must be"),
        (lambda x: bd.cross_entropy_with_grad(x, [0] * 4, reduction="none"), "needs a scalar"),
        (lambda x: bd.softmax(da.ma.masked_equal(x, 2)), "x is a masked array; pass its data"),
        (lambda x: bd.softmax(x.map_blocks(csr_array)), "must have chunks that are NumPy arrays"),
        (lambda x: bd.cross_entropy(x, np.ma.masked_equal([0] * 4, 1)), "target is a masked array"),
        (lambda x: bd.cross_entropy(x, [0] * 4, sample_weight=[1.0, 2.0]), "does not broadcast"),
        (lambda x: bd.cross_entropy(x, [0] * 4, sample_weight="a"), "must be real numbers"),
        (lambda x: bd.ece(x[:0], []), r"logits must have at least 1 row, got shape \(0, 6\)"),
        (lambda x: bd.row_stats(x, k=-1), "k must be"),
        (lambda x: bd.ece(x, [0] * 4, n_bins=0), "n_bins must be"),
    ],
)
def test_refusals(call: Callable[[Any], Any], message: str) -> None:
    """Before anything is computed."""
    with pytest.raises((TypeError, ValueError), match=message):
        call(da.ones((4, 6), chunks=(2, 3)))


def test_the_import_says_what_is_missing(run_python: RunPython) -> None:
    done = run_python("import sys; sys.modules['dask'] = None; import boltzmax.dask")
    assert 'boltzmax.dask needs dask, with its arrays: pip install "boltzmax[dask]"' in done.stderr


def test_targets_out_of_range_are_found_when_they_are_read() -> None:
    loss = bd.cross_entropy(da.ones((4, 6), chunks=(2, 3)), [0, 1, 2, 6])
    with pytest.raises(IndexError, match="target 6 at position 1 is out of range for 6 classes"):
        loss.compute(scheduler="synchronous")

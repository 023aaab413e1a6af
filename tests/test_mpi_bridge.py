"""boltzmax.mpi with 1, 2 and 4 processes: the same bits on all ranks, for any number of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
from conftest import RunPython

# Not imported here: that would start MPI in the process of the tests.
if importlib.util.find_spec("mpi4py") is None:
    pytest.skip("mpi4py is not installed", allow_module_level=True)
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH')}")
if MPIEXEC is None:
    pytest.skip("mpiexec is not on the path", allow_module_level=True)

HERE = Path(__file__).parent
SIZES = (1, 2, 4)
ROWS, CLASSES, WIDTH = 300, 101, 8
BLOCKS = 2
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "temperature": 0.7}
RECORD = 120
# The messages of a call: for each block of rows one of records, and perhaps another one.
RECORDS = [257 * RECORD, 44 * RECORD]

Results = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of every rank, for each number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BOLTZMAX_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(threads, "1")}
    # Open MPI runs more ranks than processors, and as root, only if it is told to.
    environment["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    environment["PRTE_MCA_rmaps_default_mapping_policy"] = ":oversubscribe"
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    found: Results = {}
    for size in SIZES:
        command = [str(MPIEXEC), "-n", str(size), sys.executable, str(HERE / "mpi_ranks.py")]
        done = subprocess.run(
            [*command, str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found[size] = [dict(np.load(folder / f"{size}-{rank}.npz")) for rank in range(size)]
    return found


def whole(results: list[dict[str, Any]], name: str, axis: int = -1) -> Any:
    """A result that each rank has a part of."""
    return np.concatenate([rank[name] for rank in results], axis=axis)


def inputs(dtype: str) -> dict[str, Any]:
    """As each rank has them; the module that makes them would start MPI."""
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


def assert_near(got: Any, want: Any, dtype: str, ulps: float = 4) -> None:
    eps = np.finfo(dtype).eps
    want = np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert np.allclose(got, want, rtol=ulps * eps, atol=ulps * eps * np.abs(want).max())


SPLIT = ("softmax.0", "log_softmax.0", "grad.1", "nothing.1", "linear_grad.2", "linear_grad.3")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_are_the_same_on_all_ranks_and_for_any_number(ranks: Results, dtype: str) -> None:
    for name in ranks[1][0]:
        if not name.startswith(dtype) or name.endswith("messages"):
            continue
        key = name.removeprefix(f"{dtype}.")
        is_split = key in SPLIT
        want = ranks[1][0][name]
        for size in SIZES:
            if is_split:
                axis = 0 if key.startswith("linear") else -1
                got = whole(ranks[size], name, axis)
            else:
                got = ranks[size][0][name]
                for other in ranks[size][1:]:
                    assert got.tobytes() == other[name].tobytes(), (size, name)
            if key.startswith("linear"):  # matrix products round otherwise
                assert_near(got, want, dtype, 64)
            else:
                assert got.tobytes() == want.tobytes(), (size, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_those_of_one_process(ranks: Results, dtype: str) -> None:
    x = inputs(dtype)
    weighted = {**OPTIONS, "sample_weight": x["sample_weight"]}
    results = {
        name: whole(ranks[4], f"{dtype}.{name}", 0 if "linear" in name else -1) for name in SPLIT
    }
    first = {k.removeprefix(f"{dtype}."): v for k, v in ranks[4][0].items() if k.startswith(dtype)}
    logits, target = x["logits"], x["target"]
    assert_near(results["softmax.0"], boltzmax.softmax(logits), dtype)
    cooler = boltzmax.log_softmax(logits, temperature=0.7)
    assert_near(results["log_softmax.0"], cooler, dtype)
    assert_near(first["logsumexp.0"], boltzmax.logsumexp(logits, axis=-1), dtype)
    losses = boltzmax.cross_entropy(logits, target, reduction="none")
    assert_near(first["loss.0"], losses, dtype)
    loss, gradient = boltzmax.cross_entropy_with_grad(logits, target, **weighted)
    assert_near(first["grad.0"], loss, dtype)
    assert_near(results["grad.1"], gradient, dtype, 8)
    stats = boltzmax.row_stats(logits, k=7)
    assert np.array_equal(first["topk.0"], stats.top_ids)
    assert_near(first["topk.1"], stats.top_log_probs, dtype)
    layer = (x["hidden"], x["weight"], target, x["bias"])
    loss, d_hidden, d_weight, d_bias = boltzmax.linear_cross_entropy_with_grad(*layer, **weighted)
    assert_near(first["linear.0"], loss, dtype, 16)
    assert_near(first["linear_grad.0"], loss, dtype, 16)
    assert_near(first["linear_grad.1"], d_hidden, dtype, 64)
    assert_near(results["linear_grad.2"], d_weight, dtype, 64)
    assert_near(results["linear_grad.3"], d_bias, dtype, 64)


def test_one_row_without_an_axis_of_rows(ranks: Results) -> None:
    x = inputs("float64")["logits"][0]
    assert ranks[2][1]["float64.one_lse.0"] == pytest.approx(boltzmax.logsumexp(x), rel=1e-15)
    assert ranks[2][1]["float64.one_sample.0"] == ranks[2][1]["float64.sample.0"][0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_large_scores_are_drawn_equally_often(ranks: Results, dtype: str) -> None:
    """The noise is not lost in the digits of 1e17: of 101 classes, 400 rows draw nearly all."""
    assert len(np.unique(ranks[2][0][f"{dtype}.large.0"])) > 80


def test_a_mean_over_no_rows_has_no_gradient(ranks: Results) -> None:
    for rank in ranks[2]:
        assert rank["float64.nothing.0"] == 0.0
        assert not rank["float64.nothing.1"].any()


def test_label_smoothing_is_over_all_classes(ranks: Results) -> None:
    """Not over those of a rank, which would make the loss depend on the number of ranks."""
    x = inputs("float64")
    weighted = {**OPTIONS, "sample_weight": x["sample_weight"]}
    want = boltzmax.cross_entropy(x["logits"], x["target"], **weighted)
    for size in SIZES:
        for rank in ranks[size]:
            assert rank["float64.grad.0"] == pytest.approx(want, rel=1e-14)


def test_samples_follow_the_probabilities(ranks: Results) -> None:
    """Of 300 rows, the mean log-probability of what was drawn is minus the mean entropy."""
    x = inputs("float64")
    ids = ranks[4][2]["float64.sample.0"]
    log_p = boltzmax.log_softmax(x["logits"])
    drawn = log_p[np.arange(ROWS), ids]
    p = np.exp(log_p)
    mean = (p * log_p).sum(axis=1)
    spread = (p * np.square(log_p - mean[:, None])).sum(axis=1)
    assert abs((drawn - mean).sum()) < 4 * np.sqrt(spread.sum())


@pytest.mark.parametrize(
    ("name", "second"),
    [
        *((name, 0) for name in ("softmax", "log_softmax", "logsumexp", "loss", "grad", "linear")),
        ("topk", 16 * 7),
        ("sample", 16),
        ("linear_grad", 8 * WIDTH),
    ],
)
def test_messages_are_counted(ranks: Results, name: str, second: int) -> None:
    """One for each block of 256 rows, or two: this many bytes a row in the second."""
    want = []
    for records, rows in zip(RECORDS, (256, ROWS - 256), strict=True):
        want += [records] + [second * rows] * (second > 0)
    for size in SIZES:
        for rank in ranks[size]:
            got = rank[f"float64.{name}.messages"].tolist()
            assert got == want, (size, name)
            assert len(got) <= 2 * BLOCKS


@pytest.mark.parametrize(
    ("name", "own", "others"),
    [
        ("dtype", "TypeError: logits must be float16", "cannot go on: TypeError: logits"),
        ("shape", "ValueError: logits must have one column", "cannot go on: ValueError: logits"),
        ("target", "IndexError: target 101 at position 7", "cannot go on: IndexError: target"),
        ("option", "ValueError: label_smoothing must be", "cannot go on: ValueError: label"),
        ("differ", "ValueError: the ranks called", "the ranks called"),
        ("targets", "ValueError: the ranks called", "the ranks called"),
        ("rows", "ValueError: the ranks called", "the ranks called"),
        ("function", "ValueError: the ranks called", "the ranks called"),
        ("k", "ValueError: k must be", "cannot go on: ValueError: k must"),
        ("ks", "ValueError: the ranks called", "the ranks called"),
        ("bias", "ValueError: the ranks called", "or only some with a bias"),
        ("nan", "ValueError: row 270 has NaN", "row 270 has NaN"),
        ("count", "ValueError: n_local must be", "rank 3 has no valid n_local"),
    ],
)
def test_all_ranks_raise_together(ranks: Results, name: str, own: str, others: str) -> None:
    """If one cannot go on, or they differ: nobody waits for a message that never comes."""
    results = [str(rank[f"refusal.{name}"]) for rank in ranks[4]]
    assert results[3].startswith(own), results[3]
    for text in results[:3]:
        assert text.startswith("ValueError: "), text
        assert others in text, text


def test_the_import_says_what_is_missing(run_python: RunPython) -> None:
    done = run_python("import sys; sys.modules['mpi4py'] = None; import boltzmax.mpi")
    assert "boltzmax.mpi needs mpi4py" in done.stderr


def test_examples_of_docstrings(ranks: Results) -> None:
    assert int(ranks[1][0]["examples"]) > 20
    assert str(ranks[1][0]["examples.failed"]) == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "ValueError: there must be from 1 to 2**31 classes in all, got 0"),
        ("many", "ValueError: there must be from 1 to 2**31 classes in all, got 8589934592"),
        (
            "comm",
            "TypeError: comm must be an mpi4py.MPI.Intracomm, such as MPI.COMM_WORLD, got NoneType",
        ),
        (
            "null",
            "ValueError: comm must be an intracommunicator, such as MPI.COMM_WORLD, "
            "got MPI.COMM_NULL",
        ),
        ("key", "TypeError: rng must be an integer, got None"),
        ("shard", "TypeError: shard must be a boltzmax.mpi.Shard, got int"),
    ],
)
def test_refusals_on_every_rank(ranks: Results, name: str, message: str) -> None:
    assert [str(rank[f"refusal.{name}"]) for rank in ranks[4]] == [message] * 4


def test_a_layer_needs_classes_on_every_rank(ranks: Results) -> None:
    assert all("ValueError" in str(rank["refusal.layer"]) for rank in ranks[4])

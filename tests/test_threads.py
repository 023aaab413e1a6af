"""Threads: their number and its sources, concurrent callers, and the release of the GIL."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import boltzmax.testing
import ulp
from conftest import RunPython

Array = npt.NDArray[Any]


def array(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)


# ---- the number of threads


def test_set_and_get(threads: Callable[[Any], None]) -> None:
    for n in (1, 2, 3, 17, np.int64(4), np.uint8(5)):
        threads(n)
        assert boltzmax.get_num_threads() == n
        assert type(boltzmax.get_num_threads()) is int


@pytest.mark.parametrize("bad", [0, -1, -(2**40), 2**70])
def test_numbers_out_of_range(threads: Callable[[Any], None], bad: int) -> None:
    before = boltzmax.get_num_threads()
    with pytest.raises(ValueError, match=f"n must be an integer from 1 to 65536, got {bad}$"):
        threads(bad)
    assert boltzmax.get_num_threads() == before


@pytest.mark.parametrize("bad", [1.0, 2.5, "2", None, [2], np.float64(2)])
def test_not_a_number_of_threads(threads: Callable[[Any], None], bad: Any) -> None:
    with pytest.raises(TypeError):
        threads(bad)


def test_more_threads_than_cores_or_rows(threads: Callable[[int], None]) -> None:
    x = array(3, 200_000)
    threads(1)
    expected = boltzmax.softmax(x)
    threads(64)
    assert np.array_equal(boltzmax.softmax(x), expected)
    assert np.array_equal(boltzmax.softmax(x[:, :5]), boltzmax.softmax(x[:, :5].copy()))


def count_in(run_python: RunPython, before: str = "", **env: str) -> int:
    code = f"import os\n{before}\nimport boltzmax\nprint(boltzmax.get_num_threads())"
    done = run_python(code, env=env)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_environment(run_python: RunPython) -> None:
    """BOLTZMAX_NUM_THREADS, then OMP_NUM_THREADS (its first number), then the usable CPUs."""
    assert count_in(run_python, BOLTZMAX_NUM_THREADS="3") == 3
    assert count_in(run_python, OMP_NUM_THREADS="5") == 5
    assert count_in(run_python, OMP_NUM_THREADS="5,2") == 5
    assert count_in(run_python, BOLTZMAX_NUM_THREADS="3", OMP_NUM_THREADS="5") == 3
    assert 1 <= count_in(run_python) <= (os.cpu_count() or 1)
    assert count_in(run_python, BOLTZMAX_NUM_THREADS="") == count_in(run_python)


@pytest.mark.parametrize("bad", ["0", "-2", "many", "2.5", "3 threads", "65537", "9" * 30])
def test_invalid_environment_variables_warn(run_python: RunPython, bad: str) -> None:
    """A warning names the variable and its value, and the default is used."""
    seen = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import boltzmax
print(boltzmax.get_num_threads(), *(f"{w.category.__name__}: {w.message}" for w in caught))
"""
    done = run_python(seen, env={"BOLTZMAX_NUM_THREADS": bad})
    assert done.returncode == 0, done.stderr
    count, _, warning = done.stdout.partition(" ")
    assert int(count) == count_in(run_python)
    assert warning.startswith("RuntimeWarning: BOLTZMAX_NUM_THREADS must be")
    assert f"'{bad}'" in warning
    strict = run_python("import boltzmax", env={"BOLTZMAX_NUM_THREADS": bad})  # -W error
    assert strict.returncode == 1
    assert "RuntimeWarning: BOLTZMAX_NUM_THREADS" in strict.stderr


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no affinity masks on this platform"
)
def test_affinity_mask(run_python: RunPython) -> None:
    one = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert count_in(run_python, one) == 1
    assert count_in(run_python, one, BOLTZMAX_NUM_THREADS="2") == 2


def test_importing_starts_no_thread(run_python: RunPython) -> None:
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads of a process are counted in /proc")
    count = "print(len(os.listdir('/proc/self/task')))"
    done = run_python(f"import os, numpy\n{count}\nimport boltzmax\n{count}")
    before, after = done.stdout.split()
    assert after == before


# ---- callers


def test_many_callers_at_once(threads: Callable[[int], None]) -> None:
    """Python threads call at once, with small and large arrays and every operation."""
    threads(2)
    inputs = [array(*shape) for shape in ((10,), (64, 1000), (4, 600_000), (2_000_000,))]
    jobs = [(op, x) for op in ulp.OPS for x in inputs]
    expected = [np.asarray(getattr(boltzmax, op)(x)).tobytes() for op, x in jobs]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            results = pool.map(
                lambda job: np.asarray(getattr(boltzmax, job[0])(job[1])).tobytes(), jobs
            )
            assert list(results) == expected


def test_different_functions_at_once(threads: Callable[[int], None]) -> None:
    """Callers that get the pool, or find it busy and run alone, give the same bits."""
    threads(3)
    x, half = array(120, 20_000), array(120, 20_000, dtype=np.float16)
    target = np.arange(120)
    hidden, weight = array(200, 16), array(3000, 16)
    layer = boltzmax.HierarchicalSoftmax(boltzmax.Tree.balanced(3000), 16, seed=0)
    y = boltzmax.softmax(x)
    jobs: list[Callable[[], Any]] = [
        lambda: boltzmax.softmax(x),
        lambda: boltzmax.softmax(x, 0),
        lambda: boltzmax.softmax(x, where=x > 0, temperature=3.0),
        lambda: boltzmax.log_softmax(half),
        lambda: boltzmax.log_softmax(x.T, dtype=np.float64),
        lambda: boltzmax.logsumexp(x, None),
        lambda: boltzmax.softmax_backward(x, y),
        lambda: boltzmax.cross_entropy_with_grad(x, target),
        lambda: boltzmax.row_stats(x, target, k=3).top_ids,
        lambda: boltzmax.linear_logsumexp(hidden, weight),
        lambda: boltzmax.linear_topk(hidden, weight, 3),
        lambda: layer.log_prob_all(hidden),
        lambda: layer.topk(hidden, 5),
        lambda: layer.sample(hidden, rng=0),
    ]

    def bits(job: Callable[[], Any]) -> list[bytes]:
        result = job()
        parts = result if isinstance(result, tuple) else (result,)
        return [np.asarray(part).tobytes() for part in parts]

    threads(1)
    expected = [bits(job) for job in jobs]
    threads(3)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            assert list(pool.map(bits, jobs)) == expected


def test_changing_the_number_of_threads_under_load(threads: Callable[[int], None]) -> None:
    x = array(200, 10_000)
    expected = boltzmax.softmax(x)
    stop = threading.Event()
    wrong: list[int] = []

    def work() -> None:
        while not stop.is_set():
            if not np.array_equal(boltzmax.softmax(x), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for i in range(60):
        threads(1 + i % 5)
        time.sleep(0.005)
    stop.set()
    for worker in workers:
        worker.join(30)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong


@pytest.mark.parametrize("op", [*ulp.OPS, "softmax_backward"])
@pytest.mark.parametrize("axis", [0, 1])
def test_gil_is_released(threads: Callable[[int], None], op: str, axis: int) -> None:
    """Another thread ticks during a call that takes tens of milliseconds.

    If a call kept the GIL, it would end before the other thread could get it.
    """
    threads(1)
    x = array(500, 40_000)
    arguments = (x, x) if op.endswith("backward") else (x,)
    out = np.empty(x.shape[1 - axis] if op == "logsumexp" else x.shape, x.dtype)
    function: Callable[..., Any] = getattr(boltzmax, op)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    ticker = threading.Thread(target=tick)
    with boltzmax.testing.use_isa("scalar"):
        ticker.start()
        try:
            best = 0
            for _ in range(5):
                start = time.perf_counter()
                function(*arguments, axis, out=out)
                end = time.perf_counter()
                margin = (end - start) / 10
                best = max(best, sum(start + margin < t < end - margin for t in ticks))
        finally:
            stop.set()
            ticker.join()
    assert best >= 3, f"{best} ticks within {1e3 * (end - start):.1f} ms"

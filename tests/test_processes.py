"""Forks before and after the thread pool is used, worker processes, interpreter exit."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import numpy as np
import pytest

import boltzmax
from conftest import RunPython

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

# Large enough for the pool: calls of less than 300 microseconds wake no threads.
SHARED = """
import faulthandler, glob, os, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, at a fork with threads running
import numpy as np
import boltzmax
faulthandler.dump_traceback_later(100, exit=True)
x = np.random.default_rng(0).standard_normal((200, 20_000), np.float32)
long = x.ravel()
boltzmax.set_num_threads(3)

def helpers():
    tasks = glob.glob("/proc/self/task/*/comm")
    return sum(open(task).read() == "boltzmax\\n" for task in tasks) if tasks else None

def results():
    several = boltzmax.softmax(x), boltzmax.logsumexp(long), boltzmax.softmax(x, 0)
    return [result.tobytes() for result in several]
"""

FORK = """
{before}
assert helpers() in (None, {helpers}), helpers()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        assert helpers() in (None, 0)
        mine = results()
        assert helpers() in (None, 2)
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if results() == mine and boltzmax.get_num_threads() == 3 else 5)
        _, status = os.waitpid(grandchild, 0)
        os._exit(0 if status == 0 and mine == results() else 6)
    children.append(child)
expected = results()
statuses = [os.waitpid(child, 0)[1] for child in children]
assert statuses == [0] * 4, statuses
assert results() == expected
print("done")
"""


@needs_fork
@pytest.mark.parametrize(("before", "helpers"), [("", 0), ("results()", 2)], ids=["unused", "used"])
def test_fork(run_python: RunPython, before: str, helpers: int) -> None:
    """Before and after the pool is used, and again from a child."""
    done = run_python(SHARED + FORK.format(before=before, helpers=helpers), timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"]


FORK_UNDER_LOAD = """
expected = results()
stop = False

def work():
    while not stop:
        boltzmax.softmax(x)

threads = [threading.Thread(target=work) for _ in range(2)]
[t.start() for t in threads]
for _ in range(15):
    child = os.fork()
    if child == 0:
        os._exit(0 if results() == expected else 7)
    assert os.waitpid(child, 0)[1] == 0
stop = True
[t.join() for t in threads]
print("done")
"""


@needs_fork
def test_fork_while_other_threads_compute(run_python: RunPython) -> None:
    """The child has none of the other threads, but the locks that they held."""
    done = run_python(SHARED + FORK_UNDER_LOAD, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"]


FORK_INSIDE_A_CALL = """
expected = results()
large = np.ones((400, 20_000), np.float32)
out = np.empty_like(large)
begun = ended = inside = 0
stop = False

def work():
    global begun, ended
    while not stop:
        begun += 1
        boltzmax.softmax(large, out=out)
        ended += 1

worker = threading.Thread(target=work)
worker.start()
for _ in range(10):
    time.sleep(0.002)
    inside += begun > ended
    child = os.fork()
    if child == 0:
        os._exit(0 if results() == expected and helpers() in (None, 2) else 8)
    assert os.waitpid(child, 0)[1] == 0
stop = True
worker.join()
assert np.ptp(out) == 0
print(inside)
"""


@needs_fork
def test_fork_in_the_middle_of_a_call(run_python: RunPython) -> None:
    """The process forks while the slowest kernel runs on all threads of the pool."""
    done = run_python(SHARED + FORK_INSIDE_A_CALL, env={"BOLTZMAX_ISA": "scalar"}, timeout=110)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5, "the forks were not during calls"


def square_sum(seed: int) -> float:
    x = np.random.default_rng(seed).standard_normal((200, 20_000), np.float32)
    return float(boltzmax.logsumexp(x).sum())


# Python warns of any fork with threads running; the package supports it.
@pytest.mark.filterwarnings("ignore:.* multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method: str, run_python: RunPython) -> None:
    """`run_python` is used only to skip if processes cannot be started."""
    square_sum(0)
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        got = pool.map_async(square_sum, range(4)).get(timeout=60)
    assert got == [square_sum(seed) for seed in range(4)]


def test_exit_during_a_call(run_python: RunPython) -> None:
    """The interpreter exits while a daemon thread is in a call, without a hang or crash."""
    code = """
import threading, time, numpy as np, boltzmax
x = np.ones((400, 50_000), np.float32)
def work():
    while True:
        boltzmax.softmax(x)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""
    done = run_python(code, timeout=30)
    assert done.returncode == 0, (done.returncode, done.stderr)

"""threadpoolctl sees our pool and limits it, whichever of the two packages is imported first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import boltzmax
from conftest import RunPython

threadpoolctl = pytest.importorskip("threadpoolctl")


def ours() -> dict[str, Any]:
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "boltzmax"]
    assert len(found) == 1
    pool: dict[str, Any] = found[0]
    return pool


def test_our_pool_is_seen(threads: Callable[[int], None]) -> None:
    for n in (1, 3):
        threads(n)
        pool = ours()
        assert pool["num_threads"] == n
        assert pool["internal_api"] == "boltzmax"
        assert pool["version"] == boltzmax.__version__
        assert pool["filepath"].endswith(boltzmax._core.__file__.rpartition("/")[2])


@pytest.mark.parametrize("how", [{}, {"user_api": "boltzmax"}], ids=["all", "ours"])
def test_our_pool_is_limited(threads: Callable[[int], None], how: dict[str, str]) -> None:
    threads(4)
    with threadpoolctl.threadpool_limits(2, **how):
        assert boltzmax.get_num_threads() == 2
        with threadpoolctl.threadpool_limits({"boltzmax": 1}):
            assert boltzmax.get_num_threads() == ours()["num_threads"] == 1
        assert boltzmax.get_num_threads() == 2
    assert boltzmax.get_num_threads() == 4
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert boltzmax.get_num_threads() == 4


def test_a_huge_limit(threads: Callable[[int], None]) -> None:
    threads(3)
    with threadpoolctl.threadpool_limits({"boltzmax": 10**6}):
        assert boltzmax.get_num_threads() == 65536
    assert boltzmax.get_num_threads() == 3


def test_a_limit_of_one_starts_no_threads(run_python: RunPython) -> None:
    code = """
import glob, numpy as np, boltzmax, threadpoolctl
boltzmax.set_num_threads(3)
x = np.ones((200, 20_000), np.float32)

def helpers():
    return sum(open(t).read() == "boltzmax\\n" for t in glob.glob("/proc/self/task/*/comm"))

with threadpoolctl.threadpool_limits(1):
    boltzmax.softmax(x)
    print(helpers())
boltzmax.softmax(x)
print(helpers())
"""
    if sys.platform != "linux":
        pytest.skip("threads of a process are counted in /proc")
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "2"]


SEEN = """
print(*[p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "boltzmax"])
"""
ORDERS = {
    "boltzmax first": "import boltzmax, threadpoolctl",
    "threadpoolctl first": "import threadpoolctl, boltzmax",
    "threadpoolctl used first": "import threadpoolctl\nthreadpoolctl.threadpool_info()\n"
    "import boltzmax",
    "looked for in between": "import boltzmax, importlib.util\n"
    "importlib.util.find_spec('threadpoolctl')\nimport threadpoolctl",
    "a part of scikit-learn": "import boltzmax, sklearn.utils.parallel, threadpoolctl",
    "ours anew": "import boltzmax, importlib\nimportlib.reload(boltzmax)\nimport threadpoolctl\n"
    "importlib.reload(boltzmax)",
    "imported anew": "import boltzmax, sys, threadpoolctl\ndel sys.modules['threadpoolctl']\n"
    "import threadpoolctl",
}


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_imports(run_python: RunPython, order: str) -> None:
    if "sklearn" in ORDERS[order]:
        pytest.importorskip("sklearn")
    done = run_python(ORDERS[order] + SEEN, env={"BOLTZMAX_NUM_THREADS": "3"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3"]


def test_threadpoolctl_is_not_imported(run_python: RunPython) -> None:
    code = "import sys, boltzmax; boltzmax.softmax([1.0]); print('threadpoolctl' in sys.modules)"
    assert run_python(code).stdout.split() == ["False"]


def test_missing_threadpoolctl(run_python: RunPython) -> None:
    """If it is not installed, its import fails as usual."""
    code = """
import sys, boltzmax
sys.path[:] = [p for p in sys.path if "site-packages" not in p]
try:
    import threadpoolctl
except ModuleNotFoundError as error:
    print(error.name)
"""
    done = run_python(code)
    assert done.stdout.split() == ["threadpoolctl"], done.stderr


def test_bits_do_not_depend_on_the_limit() -> None:
    x = np.random.default_rng(0).standard_normal((64, 20_000), np.float32)
    expected = boltzmax.softmax(x)
    with threadpoolctl.threadpool_limits(1):
        assert np.array_equal(boltzmax.softmax(x), expected)

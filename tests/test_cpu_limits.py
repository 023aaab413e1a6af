"""The number of threads that the system allows: control groups (real and faked), affinity masks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import boltzmax
from boltzmax import _core
from conftest import RunPython

# ---- fake files

Files = dict[str, str]
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu"


def v1(group: str, quota: int, period: int = 100_000) -> Files:
    folder = f"{V1}/{group}".rstrip("/")
    return {
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": f"{period}\n",
    }


CASES: dict[str, tuple[Files, int]] = {
    "nothing": ({}, 0),
    "v2: none": ({f"{V2}/cpu.max": "max 100000\n"}, 0),
    "v2: two": ({f"{V2}/cpu.max": "200000 100000\n"}, 2),
    "v2: rounded up": ({f"{V2}/cpu.max": "250000 100000\n"}, 3),
    "v2: less than one": ({f"{V2}/cpu.max": "1000 100000\n"}, 1),
    "v2: own group": (
        {
            "proc/self/cgroup": "0::/user.slice/job.scope\n",
            f"{V2}/user.slice/job.scope/cpu.max": "400000 100000\n",
            f"{V2}/user.slice/cpu.max": "max 100000\n",
        },
        4,
    ),
    "v2: a group around it": (
        {
            "proc/self/cgroup": "0::/user.slice/job.scope\n",
            f"{V2}/user.slice/job.scope/cpu.max": "max 100000\n",
            f"{V2}/user.slice/cpu.max": "150000 50000\n",
        },
        3,
    ),
    "v2: the strictest": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{V2}/a/b/cpu.max": "500000 100000\n",
            f"{V2}/a/cpu.max": "200000 100000\n",
            f"{V2}/cpu.max": "900000 100000\n",
        },
        2,
    ),
    "v2: a path that only the host has": (
        {"proc/self/cgroup": "0::/docker/0123\n", f"{V2}/cpu.max": "200000 100000\n"},
        2,
    ),
    "v2: somebody else's group": (
        {"proc/self/cgroup": "0::/mine\n", f"{V2}/theirs/cpu.max": "100000 100000\n"},
        0,
    ),
    "v1: none": (v1("", -1), 0),
    "v1: two": (v1("", 200_000), 2),
    "v1: rounded up": (v1("", 20_001, 10_000), 3),
    "v1: own group": (
        {"proc/self/cgroup": "5:memory:/other\n4:cpu,cpuacct:/docker/01\n1:name=systemd:/x\n"}
        | v1("docker/01", 300_000)
        | v1("docker", -1)
        | v1("other", 100_000),
        3,
    ),
    "v1: not of cpuset or cpuacct": (
        {"proc/self/cgroup": "3:cpuset:/job\n2:cpuacct:/job\n1:cpu:/\n"} | v1("job", 100_000),
        0,
    ),
    "both": (
        {"proc/self/cgroup": "1:cpu:/job\n0::/job\n", f"{V2}/job/cpu.max": "600000 100000\n"}
        | v1("job", 500_000),
        5,
    ),
    "nonsense": (
        {
            "proc/self/cgroup": "\n:\n0:\n0::no slash\n1:cpu:\n::::\n0::/a\n",
            f"{V2}/cpu.max": "many few\n",
            f"{V2}/a/cpu.max": "-5 100000\n",
            f"{V1}/cpu.cfs_quota_us": "",
            f"{V1}/cpu.cfs_period_us": "0\n",
        },
        0,
    ),
    "no end": ({f"{V2}/cpu.max": "99999999999999999999 1\n"}, 2**31 - 1),
}


@pytest.mark.parametrize("case", CASES)
def test_quota_in_files(tmp_path: Path, case: str) -> None:
    files, cpus = CASES[case]
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert _core.cpu_quota(str(tmp_path)) == cpus


# ---- the real system

COUNT = "import boltzmax; print(boltzmax.get_num_threads())"


@pytest.fixture
def group() -> Iterator[tuple[Path, str, str]]:
    """A control group (v1 or v2) for one process, and the text for a limit of one CPU."""
    v1_folder, v2_folder = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    name = f"boltzmax-test-{os.getpid()}"
    if (v1_folder / "cpu.cfs_quota_us").exists() or (v1_folder / "tasks").exists():
        folder, limit, value = v1_folder / name, "cpu.cfs_quota_us", "100000"
    else:
        folder, limit, value = v2_folder / name, "cpu.max", "100000 100000"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not (folder / limit).exists():
            pytest.skip(f"the control groups here do not limit the CPU: no {limit}")
        yield folder, limit, value
    finally:
        folder.rmdir()


@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="one CPU")
def test_quota_of_a_real_group(group: tuple[Path, str, str]) -> None:
    folder, limit, value = group
    # The shell moves itself into the group, then replaces itself with the interpreter.
    command = ["sh", "-c", 'echo $$ > "$1/cgroup.procs" && exec "$2" -c "$3"', "sh"]
    ours = ("BOLTZMAX_NUM_THREADS", "OMP_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in ours}

    def count(**more: str) -> int:
        done = subprocess.run(
            [*command, str(folder), sys.executable, COUNT],
            env=env | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    unlimited = count()
    assert unlimited > 1 or _core.cpu_quota("") == 1
    (folder / limit).write_text(value)
    assert count() == 1
    assert count(BOLTZMAX_NUM_THREADS="3") == 3
    assert count(OMP_NUM_THREADS="2") == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_every_affinity_mask(run_python: RunPython) -> None:
    """As many threads as CPUs in the mask, unless a quota allows less; calls stay within it."""
    cpus = sorted(os.sched_getaffinity(0))[:4]
    quota = _core.cpu_quota("")
    for n in range(1, len(cpus) + 1):
        code = f"""
import os
os.sched_setaffinity(0, {cpus[:n]})
import numpy as np, boltzmax
print(boltzmax.get_num_threads())
boltzmax.set_num_threads(3)
for _ in range(3):
    boltzmax.softmax(np.ones((200, 10_000), np.float32))
masks = [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]
assert all(mask <= set({cpus[:n]}) for mask in masks), masks
"""
        done = run_python(code)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == (min(n, quota) if quota else n)


def test_invalid_counts_are_skipped(run_python: RunPython) -> None:
    """A variable that is not a number of threads counts as unset."""
    usual = run_python(COUNT).stdout
    for bad in ("0", "-1", "two", "", "99999999999999999999", "1.5"):
        env = {"BOLTZMAX_NUM_THREADS": bad, "OMP_NUM_THREADS": "7"}
        done = run_python(f"import warnings; warnings.simplefilter('ignore'); {COUNT}", env=env)
        assert done.stdout.split() == ["7"], bad
        assert run_python(COUNT, env={"OMP_NUM_THREADS": bad}).stdout == usual, bad


def test_environment_is_read_once(run_python: RunPython, monkeypatch: pytest.MonkeyPatch) -> None:
    before = boltzmax.get_num_threads()
    monkeypatch.setenv("BOLTZMAX_NUM_THREADS", str(before + 1))
    assert boltzmax.get_num_threads() == before
    assert run_python(COUNT, env={"BOLTZMAX_NUM_THREADS": str(before + 1)}).stdout.split() == [
        str(before + 1)
    ]

"""What `sample` allocates besides its results: peaks of resident memory, from the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import RunPython

# Prints the growth of memory in MiB, of a copy and of calls on logits of 16 MiB.
SCRIPT = """
import re, sys
import numpy as np
import boltzmax
from boltzmax.sampling import sample

def status(field):
    return int(re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

def growth(name, call):
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak starts again from here
    before = status("VmRSS")
    call()
    print(f"{name}: {status('VmHWM') - before:.2f}")

boltzmax.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
x = 2.5 * rng.standard_normal((4, 1 << 20), np.float32)
tied = np.round(x)
options = {
    "no filter": {},
    "top_k": {"top_k": 50},
    "many": {"top_k": 300_000},
    "top_p": {"top_p": 0.9},
    "few": {"top_p": 0.1},
    "nearly all": {"top_p": 1 - 1e-12},
    "min_p": {"min_p": 0.05},
    "typical_p": {"typical_p": 0.9},
    "race": {"n": 1000, "replace": False, "top_k": 5000},
    "bias": {"top_p": 0.9, "bias": {3: 1.0}},
}
sample(x[:, :1000], top_p=0.9)
growth("copy", lambda: x + 1)
for name, given in options.items():
    growth(name, lambda: sample(x, rng=1, **given))
for name in ("top_p", "typical_p"):
    growth(f"{name}, ties", lambda: sample(tied, rng=1, **options[name]))
"""
# A quarter of the logits: a thread has scratch memory for an eighth of a row, and at most 4 MiB.
LIMIT = 4.0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_no_copy_of_the_logits(run_python: RunPython, threads: int) -> None:
    done = run_python(SCRIPT, str(threads))
    assert done.returncode == 0, done.stderr
    grown = {k: float(v) for k, v in (line.split(": ") for line in done.stdout.splitlines())}
    assert grown.pop("copy") > 15.0, "this test sees no memory"
    over = {name: size for name, size in grown.items() if size > LIMIT}
    assert len(grown) == 12
    assert not over, f"MiB besides logits of 16: {over}"

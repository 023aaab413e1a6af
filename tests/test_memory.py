"""No temporary is as large as the input: peaks of resident memory, from the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import RunPython

# Prints "name: growth in MiB" for calls on arrays of 32 MiB.
SCRIPT = """
import re, sys
import numpy as np
import boltzmax

MIB = 1 << 20

def status(field):
    return int(re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

def growth(name, call):
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak starts again from here
    before = status("VmRSS")
    call()
    print(f"{name}: {status('VmHWM') - before:.2f}")

boltzmax.set_num_threads(int(sys.argv[1]))
dtype = np.dtype(sys.argv[2])
rng = np.random.default_rng(0)
x = np.resize(rng.standard_normal(100_003).astype(dtype), (32 * MIB // dtype.itemsize,))
x = x.reshape(4, 1024, -1)
out = np.ones_like(x)
sums = [np.ones(np.delete(x.shape, axis), dtype) for axis in range(3)]
row = rng.random(x.shape[2]) < 0.9
warm = np.full(1024, 2.0)
flat, flat_out = x.reshape(-1), out.reshape(-1)
mask = np.ones(x.shape, bool)
wide = np.float64 if dtype == np.float32 else np.float32
wide_out = np.ones(x.shape, wide)
# One-time initialization.
boltzmax.softmax(x[0], out=out[0])
boltzmax.softmax(x[0], 0, out=out[0])
boltzmax.softmax(flat, out=flat_out)

for axis in (0, 1, 2):
    growth(f"softmax, axis {axis}", lambda: boltzmax.softmax(x, axis, out=out))
    growth(f"log_softmax, axis {axis}", lambda: boltzmax.log_softmax(x, axis, out=out))
    growth(f"logsumexp, axis {axis}", lambda: boltzmax.logsumexp(x, axis, out=sums[axis]))
    growth(f"softmax_backward, axis {axis}", lambda: boltzmax.softmax_backward(x, x, axis, out=out))
    growth(f"softmax, masked, axis {axis}", lambda: boltzmax.softmax(x, axis, where=mask, out=out))
growth("softmax, one row", lambda: boltzmax.softmax(flat, out=flat_out))
growth("logsumexp, one row", lambda: boltzmax.logsumexp(flat))
growth("logsumexp, all axes", lambda: boltzmax.logsumexp(x, None))
growth("softmax in place", lambda: boltzmax.softmax(out, out=out))
growth("softmax in place, axis 0", lambda: boltzmax.softmax(out, 0, out=out))
growth("log_softmax in place, axis 1", lambda: boltzmax.log_softmax(out, 1, out=out))
growth("softmax, one mask for all rows", lambda: boltzmax.softmax(x, where=row, out=out))
growth("logsumexp, one mask for all rows", lambda: boltzmax.logsumexp(x, where=row, out=sums[2]))
growth("softmax, a temperature", lambda: boltzmax.softmax(x, temperature=2.0, out=out))
growth("softmax, temperatures", lambda: boltzmax.softmax(x, temperature=warm, out=out))
growth("softmax, reversed", lambda: boltzmax.softmax(x[..., ::-1], out=out))
growth("softmax, every second", lambda: boltzmax.softmax(x[..., ::2], out=out[..., ::2]))
growth("softmax, transposed", lambda: boltzmax.softmax(x.T, out=out.T))
growth("softmax, two axes", lambda: boltzmax.softmax(x, (0, 2), out=out))
growth("softmax, dtype", lambda: boltzmax.softmax(x, dtype=wide, out=wide_out))
growth("logsumexp, broadcast", lambda: boltzmax.logsumexp(np.broadcast_to(x[0, 0, :1], (1 << 26,))))
"""
LIMIT = 4.0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["float32", "float64", "float16"])
def test_peak(run_python: RunPython, name: str, threads: int) -> None:
    """Below an eighth of the input, including the buffers for packing strided rows."""
    done = run_python(SCRIPT, str(threads), name)
    assert done.returncode == 0, done.stderr
    grown = dict(line.split(": ") for line in done.stdout.splitlines())
    assert len(grown) == 31
    over = {what: mebibytes for what, mebibytes in grown.items() if float(mebibytes) > LIMIT}
    assert not over, f"MiB besides arrays of 32: {over}"


def test_nothing_is_held_after_a_call(run_python: RunPython) -> None:
    """Memory of results does not accumulate over calls."""
    code = """
import re, numpy as np, boltzmax
x = np.ones((1000, 10_000), np.float32)
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
for _ in range(5):
    boltzmax.softmax(x), boltzmax.logsumexp(x.T), boltzmax.softmax(x.T), boltzmax.log_softmax(x)
before = resident()
for _ in range(50):
    boltzmax.softmax(x), boltzmax.logsumexp(x.T), boltzmax.softmax(x.T), boltzmax.log_softmax(x)
print(resident() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("reads resident memory from /proc")
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 8

"""
A file larger than memory, from the command line
================================================

``python -m boltzmax apply`` maps the input and the output into memory and works through them block
by block, so only a block has to fit. Here it normalises the logits of a model over time.
"""

# %%
# A file of logits, written in pieces: 40,000 steps of 1,000 classes, 160 megabytes. (It could be
# any size.)
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.format import open_memmap

folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
logits = open_memmap(folder / "logits.npy", "w+", np.float32, (40_000, 1_000))
for i in range(0, len(logits), 4_000):
    drift = np.sin(np.arange(i, i + 4_000) / 4_000)[:, None] * np.linspace(-3, 3, 1_000)
    logits[i : i + 4_000] = rng.standard_normal((4_000, 1_000), dtype=np.float32) + drift
logits.flush()

# %%
# The command runs in a separate process, sixteen megabytes at a time.
command = ["apply", "softmax", "logits.npy", "p.npy", "--block-mb", "16"]
print("python -m boltzmax", *command)
subprocess.run(
    [sys.executable, "-m", "boltzmax", *command], cwd=folder, check=True, capture_output=True
)
subprocess.run(
    [sys.executable, "-m", "boltzmax", "apply", "logsumexp", "logits.npy", "lse.npy"],
    cwd=folder,
    check=True,
    capture_output=True,
)

# %%
# The results are mapped, too: parts that are not used are never read.
p, lse = np.load(folder / "p.npy", mmap_mode="r"), np.load(folder / "lse.npy", mmap_mode="r")
print("shapes:", p.shape, lse.shape)
print("sums of some rows:", p[::10_000].sum(axis=1).round(6))

figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
coarse = p[::100].reshape(400, 50, 20).sum(axis=2).T
image = top.imshow(
    coarse, aspect="auto", origin="lower", extent=(0, 40_000, 0, 1_000), cmap="viridis"
)
top.set(ylabel="class", title="probability of twenty classes together")
figure.colorbar(image, ax=top)
bottom.plot(np.arange(0, 40_000, 100), lse[::100])
bottom.set(xlabel="step", ylabel="lse")
plt.show()

# %%
for path in folder.iterdir():
    path.unlink()
folder.rmdir()

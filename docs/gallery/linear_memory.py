"""
A loss over many words, without their logits
============================================

A language model has a logit for every word at every position. For a batch of 512 positions and
50,000 words that is a matrix of 100 megabytes, and its gradient is another. The functions of linear
layers never store either.
"""

# %%
# Memory is measured by :mod:`tracemalloc`, to which NumPy reports its arrays.
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np

import boltzmax

ROWS, FEATURES = 512, 32
rng = np.random.default_rng(0)
hidden = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)


def with_logits(hidden, weight, target):
    loss, d_logits = boltzmax.cross_entropy_with_grad(hidden @ weight.T, target)
    return loss, d_logits @ weight, d_logits.T @ hidden


def without_logits(hidden, weight, target):
    return boltzmax.linear_cross_entropy_with_grad(hidden, weight, target)[:3]


sizes = [1_000, 3_000, 10_000, 30_000, 50_000]
peaks = {"with logits": [], "linear_cross_entropy": []}
for size in sizes:
    weight = rng.normal(scale=0.2, size=(size, FEATURES)).astype(np.float32)
    target = rng.integers(size, size=ROWS)
    results = []
    for name, call in ("with logits", with_logits), ("linear_cross_entropy", without_logits):
        tracemalloc.start()
        results.append(call(hidden, weight, target))
        peaks[name].append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)

# %%
# Loss and gradients agree; the peaks of memory do not. The rest is mostly the gradient of the
# weights, which is part of the result.
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, values in peaks.items():
    axis.plot(sizes, values, "o-", label=name)
axis.plot(
    sizes,
    [4 * n * FEATURES / 2**20 for n in sizes],
    ":",
    color="gray",
    label="gradient of the weights",
)
axis.set(xscale="log", yscale="log", xlabel="words", ylabel="peak of the memory, MB")
axis.grid(alpha=0.3)
axis.legend()
plt.show()

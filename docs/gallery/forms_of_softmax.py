"""
Other forms of softmax, one picture each
========================================

What each map does to a row: with the exponential replaced, with probabilities of exactly 0, with
noise, over a window, over rows of different lengths, and mixed. The guide on other forms of softmax
has the formulas.
"""

# %%
# Other functions in place of the exponential
# -------------------------------------------
#
# The probability of the first of three classes against its score; the others have scores of 0 and
# 1. The polynomial and the square grow on both sides.
import matplotlib.pyplot as plt
import numpy as np

import boltzmax

score = np.linspace(-6, 6, 241)
rows = np.stack([score, np.zeros_like(score), np.ones_like(score)], axis=1)
maps = {
    "taylor_softmax": boltzmax.taylor_softmax,
    "spherical_softmax": boltzmax.spherical_softmax,
    "sigsoftmax": boltzmax.sigsoftmax,
}
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), sharey=True, layout="constrained")
for axis, (name, function) in zip(axes, maps.items(), strict=True):
    axis.plot(score, boltzmax.softmax(rows)[:, 0], color="0.6", label="softmax")
    axis.plot(score, function(rows)[:, 0], label=name)
    axis.set(title=name, xlabel="score")
    axis.legend(fontsize=7)
plt.show()

# %%
# Sparse probabilities
# --------------------
#
# The same for the sparse maps, and the loss of the first class: it is exactly 0 once its score is
# far enough ahead, where cross-entropy goes on falling.
sparse = {
    "entmax, alpha = 1.25": (1.25, "C0"),
    "entmax15": (1.5, "C1"),
    "sparsemax": (2.0, "C2"),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
left.plot(score, boltzmax.softmax(rows)[:, 0], color="0.6", label="softmax")
target = np.zeros(len(score), int)
right.plot(score, boltzmax.cross_entropy(rows, target, reduction="none"), color="0.6",
           label="cross-entropy")  # fmt: skip
for name, (alpha, color) in sparse.items():
    left.plot(score, boltzmax.entmax(rows, alpha)[:, 0], color, label=name)
    loss = boltzmax.entmax_loss(rows, target, alpha=alpha, reduction="none")
    right.plot(score, loss, color, label=f"loss of {name}")
left.set(title="probability", xlabel="score")
right.set(title="loss", xlabel="score", ylim=(-0.1, 4))
left.legend(fontsize=7)
right.legend(fontsize=7)
plt.show()

# %%
# Gumbel noise, and draws of classes
# ----------------------------------
#
# The distribution of the likeliest class's coordinate at three temperatures; and how often each of
# eight classes is among 1, 3 and 5 draws without replacement.
logits = np.log([0.5, 0.3, 0.2])
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
for temperature in (0.2, 1.0, 5.0):
    y = boltzmax.gumbel_softmax(np.tile(logits, (20_000, 1)), temperature=temperature, rng=1)
    left.hist(y[:, 0], bins=50, range=(0, 1), histtype="step", density=True,
              label=f"temperature {temperature}")  # fmt: skip
left.set(title="gumbel_softmax", xlabel="coordinate of a class of probability 0.5", yscale="log")
left.legend(fontsize=7)
weights = np.log(0.6 ** np.arange(8))
for k in (1, 3, 5):
    ids, keys = boltzmax.gumbel_topk(np.tile(weights, (20_000, 1)), k, rng=2)
    right.plot(np.bincount(ids.ravel(), minlength=8) / 20_000, "o-", label=f"k = {k}")
right.set(title="gumbel_topk", xlabel="class", ylabel="drawn")
right.legend(fontsize=7)
plt.show()

# %%
# Running sums and windows
# ------------------------
#
# The running logsumexp of a noisy signal follows its maximum; that of a window forgets. The
# windowed softmax is the share of each element in its own window, so a small peak that has no
# neighbours counts as much as a large one.
rng = np.random.default_rng(0)
signal = rng.normal(size=200)
signal[[30, 90, 150]] += 8, 5, 14
figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 4), sharex=True, layout="constrained")
top.plot(signal, color="0.7", label="scores")
top.plot(boltzmax.logcumsumexp(signal), label="logcumsumexp")
top.plot(boltzmax.windowed_logsumexp(signal, 21), label="windowed_logsumexp, 21")
top.legend(fontsize=7)
bottom.plot(boltzmax.softmax(signal), color="0.7", label="softmax")
bottom.plot(boltzmax.windowed_softmax(signal, 21), label="windowed_softmax, 21")
bottom.legend(fontsize=7)
plt.show()

# %%
# Segments
# --------
#
# Rows of different lengths, one after the other: each has probabilities of its own.
lengths = np.array([3, 7, 1, 12, 5])
indptr = np.concatenate([[0], np.cumsum(lengths)])
values = rng.normal(size=indptr[-1])
probabilities = boltzmax.segment_softmax(values, indptr)
figure, axis = plt.subplots(figsize=(8, 2.4), layout="constrained")
owners = np.repeat(np.arange(len(lengths)), lengths)
axis.bar(np.arange(len(values)), probabilities, color=[f"C{owner}" for owner in owners])
axis.set(title="segment_softmax", xlabel="element")
plt.show()
print("sums:", np.add.reduceat(probabilities, indptr[:-1]).round(12))

# %%
# Mixtures
# --------
#
# Two softmaxes over 40 classes, with the weights 0.7 and 0.3, and their mixture: no logits of one
# softmax with few features have its two peaks.
classes = np.arange(40)
components = np.stack([-((classes - 10) ** 2) / 20, -((classes - 28) ** 2) / 4])
mixture = np.exp(boltzmax.mixture_log_softmax(components, np.log([0.7, 0.3])))
figure, axis = plt.subplots(figsize=(8, 2.4), layout="constrained")
axis.plot(boltzmax.softmax(components).T, "--", linewidth=1)
axis.bar(classes, mixture, color="0.7")
axis.set(title="mixture_log_softmax", xlabel="class")
plt.show()

# %%
# Sums that come in chunks
# ------------------------
#
# The error of a running sum in float32 and of `OnlineLogSumExp`, as chunks of ten scores arrive.
chunks = rng.normal(size=(3000, 10)).astype(np.float32)
exact = boltzmax.logcumsumexp(chunks.astype(float).ravel())[9::10]
online, plain = boltzmax.OnlineLogSumExp(), np.float32(-np.inf)
errors = np.empty((len(chunks), 2))
for i, chunk in enumerate(chunks):
    online.update(chunk)
    plain = np.logaddexp(plain, boltzmax.logsumexp(chunk))
    errors[i] = abs(plain - exact[i]), abs(online.value - exact[i])
figure, axis = plt.subplots(figsize=(8, 2.4), layout="constrained")
axis.semilogy(np.maximum(errors, 1e-18), label=["logaddexp in float32", "OnlineLogSumExp"])
axis.set(title="error", xlabel="chunks")
axis.legend(fontsize=7)
plt.show()

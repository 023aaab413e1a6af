"""
Calibration with one temperature
================================

A classifier that has memorised its training set is too sure of itself. Dividing its logits by one
number, the temperature, keeps its answers and makes its probabilities honest.
"""

# %%
# Digits with noise on them, few samples and no regularisation: the loss on new images is large.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import boltzmax

rng = np.random.default_rng(0)
images, labels = load_digits(return_X_y=True)
images = images / 16 + rng.normal(scale=0.35, size=images.shape)
x, rest, t, t_rest = train_test_split(images, labels, train_size=400, random_state=0)
weight, bias = np.zeros((64, 10)), np.zeros(10)
for _ in range(3000):
    _, slope = boltzmax.cross_entropy_with_grad(x @ weight + bias, t)
    weight -= x.T @ slope
    bias -= slope.sum(axis=0)

logits = rest @ weight + bias
held, test = slice(0, 500), slice(500, None)

# %%
# The temperature is chosen on held-out images: where cross-entropy is least.
temperatures = np.geomspace(0.5, 8, 60)
losses = [boltzmax.cross_entropy(logits[held], t_rest[held], temperature=T) for T in temperatures]
best = float(temperatures[np.argmin(losses)])
for T in (1.0, best):
    loss = boltzmax.cross_entropy(logits[test], t_rest[test], temperature=T)
    print(f"T = {T:.2f}: cross-entropy of the test images {loss:.3f}")

# %%
# How many of the answers given with some confidence are right? On the diagonal, exactly that share
# of them.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(temperatures, losses)
left.axvline(best, color="C3", ls=":", label=f"T = {best:.2f}")
left.set(xscale="log", xlabel="temperature", ylabel="cross-entropy on held-out images")
left.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
left.minorticks_off()
left.legend()
edges = np.linspace(0.1, 1, 10)
for T, color in (1.0, "C0"), (best, "C3"):
    p = boltzmax.softmax(logits[test], temperature=T)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == t_rest[test]
    bins = np.digitize(confidence, edges)
    points = [(confidence[bins == b].mean(), correct[bins == b].mean()) for b in np.unique(bins)]
    right.plot(*np.transpose(points), "o-", color=color, label=f"T = {T:.2f}")
right.plot([0, 1], [0, 1], color="gray", lw=0.8)
right.set(xlabel="confidence", ylabel="share of right answers")
right.legend()
plt.show()

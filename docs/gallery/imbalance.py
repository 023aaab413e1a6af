"""
Rare classes: weights, shifted logits, resampling
=================================================

Handwritten digits again, but with a hundred zeros and only two nines. A plain classifier neglects
the rare digits. Four methods correct that, and need only the counts of the classes.
"""

# %%
# The training set is cut down: each digit has about two thirds as many images as the one before.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import boltzmax

images, labels = load_digits(return_X_y=True)
x, x_test, t, t_test = train_test_split(
    images / 16, labels, test_size=0.4, stratify=labels, random_state=0
)
counts = np.round(100 * 0.65 ** np.arange(10)).astype(int)
kept = np.concatenate([np.flatnonzero(t == k)[:n] for k, n in enumerate(counts)])
x, t = x[kept], t[kept]
print("images of each digit:", *counts)


# %%
# Each method changes one thing in the loop: the weights of the loss, the logits that the loss sees,
# or the samples.
def train(x, t, weight=None, shift=0.0):
    w, b = np.zeros((64, 10)), np.zeros(10)
    for _ in range(400):
        logits = x @ w + b
        _, slope = boltzmax.cross_entropy_with_grad(logits + shift, t, weight=weight)
        w -= x.T @ slope
        b -= slope.sum(axis=0)
    return x_test @ w + b


drawn = boltzmax.resample_indices(t, "over", rng=0)
logits = {
    "plain": train(x, t),
    "class weights": train(x, t, weight=boltzmax.class_weights(counts)),
    "effective number": train(
        x, t, weight=boltzmax.class_weights(counts, "effective_number", beta=0.99)
    ),
    "logit adjustment": train(x, t, shift=boltzmax.logit_adjustment(counts)),
    "resampling": train(x[drawn], t[drawn]),
}

# %%
# The recall of each digit. Balanced accuracy is its mean.
recall = {}
for name, scores in logits.items():
    right = scores.argmax(axis=1) == t_test
    recall[name] = [right[t_test == k].mean() for k in range(10)]
    print(f"{name:18} {np.mean(recall[name]):.1%}")

figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
for name, values in recall.items():
    axis.plot(values, "o-", lw=2.5 if name == "logit adjustment" else 1.2, label=name)
axis.set_xticks(range(10), [f"{k}\n{n}" for k, n in enumerate(counts)])
axis.set(xlabel="digit, and its number of training images", ylabel="recall", ylim=(0, 1.03))
axis.grid(alpha=0.3)
axis.legend()
plt.show()

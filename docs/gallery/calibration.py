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
from boltzmax.calibration import TemperatureScaling, ece, ece_interval, nll, plot_reliability

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
# The temperature is fitted on held-out images: there, cross-entropy is least.
scaling = TemperatureScaling().fit(logits[held], t_rest[held])
mended = scaling.transform(logits[test])
for name, z in ("as trained", logits[test]), (f"T = {scaling.temperature_:.2f}", mended):
    low, high = ece_interval(z, t_rest[test])
    print(
        f"{name}: log-likelihood loss {nll(z, t_rest[test]):.3f}, calibration error "
        f"{ece(z, t_rest[test]):.3f} ({low:.3f} to {high:.3f})"
    )

# %%
# How many of the answers given with some confidence are right? On the diagonal, exactly that share
# of them.
temperatures = np.geomspace(0.5, 8, 60)
losses = [nll(logits[held] / T, t_rest[held]) for T in temperatures]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(temperatures, losses)
left.axvline(scaling.temperature_, color="C3", ls=":", label=f"T = {scaling.temperature_:.2f}")
left.set(xscale="log", xlabel="temperature", ylabel="loss on held-out images")
left.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
left.minorticks_off()
left.legend()
plot_reliability(logits[test], t_rest[test], n_bins=9, ax=right, label="as trained")
plot_reliability(mended, t_rest[test], n_bins=9, ax=right, color="C3", label="mended")
plt.show()

"""
The family on three logits
==========================

Softmax never gives a class the probability 0, and always the same one. Its relatives do. The
corners of a triangle are three classes, and a point in it is three probabilities; each map draws
the path of a row of logits that is scaled from 0 (the centre) up to 4.
"""

# %%
# Sparse maps leave the triangle's inside for its border: from some scale on, the third class has
# the probability 0, and then the second.
import matplotlib.pyplot as plt
import numpy as np

import boltzmax

corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
logits = np.linspace(0, 4, 81)[:, np.newaxis] * np.array([1.0, 0.5, -0.2])
maps = {
    "softmax": boltzmax.softmax,
    "entmax, alpha = 1.25": lambda x: boltzmax.entmax(x, 1.25),
    "entmax, alpha = 1.5": boltzmax.entmax15,
    "sparsemax": boltzmax.sparsemax,
    "Taylor, order 2": boltzmax.taylor_softmax,
    "sigsoftmax": boltzmax.sigsoftmax,
}
for name, function in maps.items():
    p = function(logits[-1:])
    print(f"{name:22s}", p.round(3)[0])

# %%
# Gumbel noise makes samples of it: points in the triangle, which move to the corners as the
# temperature falls. A corner is the largest coordinate as often as softmax says.
row = np.tile([1.0, 0.5, -0.2], (400, 1))
noisy = {t: boltzmax.gumbel_softmax(row, temperature=t, rng=5) for t in (5.0, 1.0, 0.2)}
for temperature, y in noisy.items():
    shares = np.bincount(y.argmax(axis=1), minlength=3) / len(y)
    print(f"temperature {temperature}: largest in", shares)
print("softmax:", boltzmax.softmax(row[0]).round(3))

# %%
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
for axis in axes:
    axis.plot(*corners[[0, 1, 2, 0]].T, color="0.6", linewidth=1)
    for corner, name in zip(corners, "123", strict=True):
        axis.annotate(name, corner, textcoords="offset points", xytext=(4, 4))
    axis.set_aspect("equal")
    axis.set_axis_off()
for name, function in maps.items():
    axes[0].plot(*(function(logits) @ corners).T, label=name, linewidth=1.5)
axes[0].legend(fontsize=6, loc="upper right", bbox_to_anchor=(1.05, 1.1))
axes[0].set_title("maps of 0 to 4 times (1, 0.5, -0.2)", fontsize=9)
for axis, (temperature, y) in zip(axes[1:], noisy.items(), strict=True):
    axis.plot(*(y @ corners).T, ".", markersize=3, alpha=0.5)
    axis.set_title(f"Gumbel-softmax, temperature {temperature}", fontsize=9)
plt.show()

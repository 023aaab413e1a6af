"""
Margins on the angle
====================

What a margin does to the logit of the target, how several centres share a class, and what noise
does in a margin's place.
"""

# %%
# The target's logit against its angle
# ------------------------------------
#
# Every margin lowers the logit in training; predictions use the cosine. Past half a turn it goes on
# falling, so a target that is far away still has a gradient towards its centre.
import matplotlib.pyplot as plt
import numpy as np

from boltzmax.margin import (
    additive_margin,
    arc_margin,
    margin_logits,
    margin_logits_backward,
    noisy_logits,
    sphere_margin,
    subcenter_cosine,
)

angle = np.linspace(0, np.pi, 400)
cosine, target = np.cos(angle)[:, np.newaxis], np.zeros(len(angle), int)
margins = {
    "no margin": (cosine, {}),
    "additive_margin, 0.35": (additive_margin(cosine, target, 0.35, scale=1), {"m3": 0.35}),
    "arc_margin, 0.5": (arc_margin(cosine, target, 0.5, scale=1), {"m2": 0.5}),
    "sphere_margin, 2": (sphere_margin(cosine, target, 2, scale=1), {"m1": 2.0}),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name, (logit, options) in margins.items():
    left.plot(angle, logit[:, 0], label=name)
    slope = margin_logits_backward(np.ones_like(cosine), cosine, target, scale=1, **options)
    right.plot(angle[2:-2], slope[2:-2, 0], label=name)
left.set(title="logit of the target, over the scale", xlabel="angle")
right.set(title="its derivative by the cosine", xlabel="angle", ylim=(0, 5))
left.legend(fontsize=7)
plt.show()
both = margin_logits([[0.5, 0.1]], [0], m2=0.3, m3=0.1, scale=10)
print("margins of 0.3 on the angle and 0.1 on the cosine:", both.round(3))

# %%
# Several centres
# ---------------
#
# A class with the centres 0 and 2 radians: the cosine of the nearest, and means that favour it.
directions = np.linspace(-np.pi, np.pi, 400)
features = np.stack([np.cos(directions), np.sin(directions)], axis=1)
centers = np.array([[[1.0, 0.0], [np.cos(2.0), np.sin(2.0)]]])
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
axis.plot(directions, subcenter_cosine(features, centers), label="max")
for gamma in (0.1, 0.5):
    soft = subcenter_cosine(features, centers, pooling="soft", gamma=gamma)
    axis.plot(directions, soft, label=f"soft, gamma = {gamma}")
axis.set(title="subcenter_cosine", xlabel="direction of the features")
axis.legend(fontsize=7)
plt.show()

# %%
# Noise
# -----
#
# Noise in place of a margin lowers the target's logit by a random amount that falls with its angle:
# here the mean, and a band with nine of ten logits.
shown = np.cos(np.linspace(0, np.pi, 40))
rows = np.repeat(shown, 500)
noisy = noisy_logits(
    rows[:, np.newaxis], np.zeros(len(rows), int), alpha=0.3, weight_norm=[1.0],
    feature_norm=np.ones(len(rows)), cosine=rows, rng=0,
).reshape(40, 500)  # fmt: skip
low, high = np.quantile(noisy, [0.05, 0.95], axis=1)
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
axis.plot(np.arccos(shown), shown, color="0.5", label="without noise")
axis.plot(np.arccos(shown), noisy.mean(axis=1), label="mean")
axis.fill_between(np.arccos(shown), low, high, alpha=0.3, label="nine of ten")
axis.set(title="noisy_logits, alpha = 0.3", xlabel="angle")
axis.legend(fontsize=7)
plt.show()

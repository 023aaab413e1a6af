"""
A Gaussian mixture without SciPy's logsumexp
============================================

Expectation-maximisation takes a logsumexp and a softmax of the joint log-densities in every round.
Code written for ``scipy.special`` needs one changed line: ``boltzmax.special`` has the same
functions.
"""

# %%
# Flowers: the length and width of the petals and sepals of 150 irises, of three kinds.
import time

import matplotlib.pyplot as plt
import numpy as np
import scipy.special
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA

import boltzmax.special

x, kinds = load_iris(return_X_y=True)
x = PCA(2).fit_transform(x)


def log_joint(x, shares, means, covariances):
    """Return the log-density of each point and component, including the component's share."""
    columns = []
    for share, mean, covariance in zip(shares, means, covariances, strict=True):
        root = np.linalg.cholesky(covariance)
        z = np.linalg.solve(root, (x - mean).T)
        log_density = -0.5 * np.sum(z * z, axis=0) - np.log(np.diag(root)).sum() - np.log(2 * np.pi)
        columns.append(np.log(share) + log_density)
    return np.stack(columns, axis=1)


def fit(x, components, special, rounds=60):
    """Return the parameters and the mean log-likelihood of every round."""
    rng = np.random.default_rng(4)
    shares = np.full(components, 1 / components)
    means = x[rng.choice(len(x), components, replace=False)]
    covariances = np.array([np.cov(x.T)] * components)
    curve = []
    for _ in range(rounds):
        joint = log_joint(x, shares, means, covariances)
        curve.append(special.logsumexp(joint, axis=1).mean())
        p = special.softmax(joint, axis=1)
        sizes = p.sum(axis=0)
        shares, means = sizes / len(x), (p.T @ x) / sizes[:, None]
        for k, mean in enumerate(means):
            d = x - mean
            covariances[k] = (p[:, k, None] * d).T @ d / sizes[k] + 1e-6 * np.eye(2)
    return (shares, means, covariances), curve


theirs, their_curve = fit(x, 3, scipy.special)
ours, our_curve = fit(x, 3, boltzmax.special)
print(
    "largest difference of the log-likelihoods:", np.abs(np.subtract(our_curve, their_curve)).max()
)

# %%
# On a larger sample, the two functions take most of a round's time, apart from the densities.
joint = np.random.default_rng(0).normal(size=(100_000, 8))
for name, special in ("SciPy", scipy.special), ("boltzmax", boltzmax.special):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        special.logsumexp(joint, axis=1)
        special.softmax(joint, axis=1)
        times.append(time.perf_counter() - start)
    print(f"{name:9} {1e3 * min(times):6.2f} ms for 100,000 x 8")

# %%
# The mixture: lines of equal density, points coloured by the component that most likely made them.
across, up = (np.linspace(v.min() - 0.5, v.max() + 0.5, 200) for v in x.T)
grid = np.stack(np.meshgrid(across, up), axis=-1)
log_density = boltzmax.logsumexp(log_joint(grid.reshape(-1, 2), *ours), axis=1).reshape(200, 200)
component = boltzmax.softmax(log_joint(x, *ours)).argmax(axis=1)

figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
axis.contour(across, up, np.exp(log_density), 12, cmap="Greys", linewidths=0.8)
for kind, marker in enumerate("os^"):
    which = kinds == kind
    axis.scatter(*x[which].T, 24, [f"C{k}" for k in component[which]], marker=marker)
axis.set(
    xlabel="first principal component", ylabel="second", title="colour: component, shape: kind"
)
plt.show()

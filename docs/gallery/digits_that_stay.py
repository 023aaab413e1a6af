"""
Where softmax loses digits
==========================

Where do the usual formulas of softmax and its logarithm lose digits, and how many? Everything is
measured against arithmetic with eighty decimal places.
"""

# %%
# Rows of two numbers, 0 and -d, in float32. The exact results come from :mod:`decimal`.
from decimal import Decimal, getcontext

import matplotlib.pyplot as plt
import numpy as np
import scipy.special

import boltzmax

getcontext().prec = 80
distances = np.linspace(0.05, 80, 1500).astype(np.float32)
offset = np.float32(3.3)  # shifts both: the exact results are those of the rounded numbers
x = np.stack([np.full_like(distances, offset), offset - distances], axis=1)
gaps = [Decimal(float(b)) - Decimal(float(a)) for a, b in x]
exact_p = np.array([float(g.exp() / (1 + g.exp())) for g in gaps])
exact_log_p = np.array([float(-(1 + g.exp()).ln()) for g in gaps])


def error(result, exact):
    """Return the relative error in units of float32's eps."""
    return np.abs(result.astype(np.float64) - exact) / np.abs(exact) / np.finfo(np.float32).eps


def textbook_softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def textbook_log_softmax(x):
    d = x - x.max(axis=1, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=1, keepdims=True))


# %%
# On the left the smaller probability: rounding x - max costs more digits the larger the difference
# is. On the right the logarithm of the larger one, which shows how far it is from 1: most formulas
# lose it altogether at a difference of about 17, where 1 + exp(-d) rounds to 1.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, softmax, log_softmax, size in (
    ("textbook, NumPy", textbook_softmax, textbook_log_softmax, 6),
    ("SciPy", scipy.special.softmax, scipy.special.log_softmax, 3),
    ("boltzmax", boltzmax.softmax, boltzmax.log_softmax, 3),
):
    options = {"axis": 1} if name == "SciPy" else {}
    of_p = error(softmax(x, **options)[:, 1], exact_p)
    of_log_p = error(log_softmax(x, **options)[:, 0], exact_log_p)
    color = {"SciPy": "C2", "boltzmax": "#d6336c"}.get(name, "C0")
    left.plot(distances, np.maximum(of_p, 1e-2), ".", ms=size, color=color, label=name)
    right.plot(distances, np.maximum(of_log_p, 1e-2), ".", ms=size, color=color, label=name)
    print(f"{name:16} worst: softmax {of_p.max():6.2f} eps, log_softmax {of_log_p.max():.3g} eps")
left.set(yscale="log", xlabel="difference of the logits", ylabel="error in eps")
left.set(title="softmax of the smaller")
right.set(yscale="log", xlabel="difference of the logits", title="log_softmax of the larger")
right.legend(loc="center right")
plt.show()

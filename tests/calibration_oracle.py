"""Plain forms of calibration errors and losses, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def over_confident(
    n: int, k: int, factor: float = 2.5, seed: int = 0, dtype: Any = np.float64
) -> tuple[Array, NDArray[np.int64]]:
    """Logits that are `factor` times those that the classes were drawn from."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(scale=1.5, size=(n, k))
    y = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    return (factor * honest).astype(dtype), y


def softmax(z: Array) -> Array:
    e = np.exp(z.astype(np.longdouble) - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def equal_width_bin(p: float, n_bins: int) -> int:
    edges = np.linspace(0, 1, n_bins + 1)
    for b in range(n_bins):
        if p <= edges[b + 1]:
            return b
    raise AssertionError(p)


def equal_mass_ends(p: Array, weight: Array, n_bins: int) -> list[float]:
    """Return the right ends of the bins: the first numbers at which the weight is reached."""
    order = np.argsort(p, kind="stable")
    total, ends = np.cumsum(weight[order]), []
    for b in range(1, n_bins + 1):
        reached = total >= total[-1] * b / n_bins * (1 - 1e-12)
        ends.append(float(p[order][int(np.argmax(reached))]))
    return sorted(set(ends))


def binned(p: Array, hit: Array, weight: Array, n_bins: int, binning: str) -> list[tuple[Any, ...]]:
    """Return (weight, mean p, share, effective count) of each bin that is not empty."""
    counted = weight > 0
    p, hit, weight = p[counted], hit[counted], weight[counted]
    if binning == "equal_width":
        index = [equal_width_bin(float(value), n_bins) for value in p]
    else:
        ends = equal_mass_ends(p, weight, n_bins)
        index = [next(b for b, end in enumerate(ends) if value <= end) for value in p]
    found = []
    for b in sorted(set(index)):
        rows = [i for i, other in enumerate(index) if other == b]
        w = math.fsum(weight[i] for i in rows)
        square = math.fsum(weight[i] ** 2 for i in rows)
        mean = math.fsum(weight[i] * float(p[i]) for i in rows) / w
        share = math.fsum(weight[i] * float(hit[i]) for i in rows) / w
        found.append((w, mean, share, w * w / square))
    return found


def error_of(bins: list[tuple[Any, ...]], norm: Any, debias: bool = False) -> float:
    total = math.fsum(w for w, *_ in bins)
    if norm == "max":
        return max(abs(p - a) for _, p, a, _ in bins)
    if norm == 1:
        return math.fsum(w / total * abs(p - a) for w, p, a, _ in bins)
    square = 0.0
    for w, p, a, n in bins:
        correction = a * (1 - a) / (n - 1) if debias and n > 1 else 0.0
        square += w / total * ((p - a) ** 2 - correction)
    return math.sqrt(max(square, 0.0))


def ece(
    p: Array, y: Array, n_bins: int, binning: str, norm: Any, kind: str, weight: Any = None,
    debias: bool = False,
) -> float:  # fmt: skip
    w = np.ones(len(y)) if weight is None else np.asarray(weight, float)
    if p.ndim == 1:
        return error_of(binned(p, y == 1, w, n_bins, binning), norm, debias)
    if kind == "top_label":
        top = p.argmax(axis=1)
        return error_of(
            binned(p[np.arange(len(y)), top], top == y, w, n_bins, binning), norm, debias
        )
    errors = [
        error_of(binned(p[:, c], y == c, w, n_bins, binning), norm, debias)
        for c in range(p.shape[1])
    ]
    if kind == "marginal":
        return math.sqrt(math.fsum(e * e for e in errors) / len(errors))
    return math.fsum(errors) / len(errors)


def mean_nll(z: Array, y: Array, weight: Any = None) -> float:
    z = z.astype(np.longdouble)
    top = z.max(axis=1)
    lse = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return float(np.average(lse - z[np.arange(len(y)), y], weights=weight))


def best_temperature(z: Array, y: Array, weight: Any = None) -> float:
    """Bisect for the zero of the derivative by 1/T, in longdouble."""
    z = z.astype(np.longdouble)
    w = np.ones(len(y)) if weight is None else np.asarray(weight)
    at_label = z[np.arange(len(y)), y]

    def slope(u: Any) -> Any:
        p = softmax(np.exp(u) * z)
        return (w * ((p * z).sum(axis=1) - at_label)).sum()

    low, high = np.longdouble(-10), np.longdouble(10)
    for _ in range(70):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-low))


def central_difference(f: Callable[[Array], float], x: Array, step: float = 1e-5) -> Array:
    out = np.empty_like(x)
    for i in range(x.size):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        out[i] = (f(up) - f(down)) / (2 * step)
    return out

"""Linear layers to test with, and their losses in float64 from all logits."""

from __future__ import annotations

import itertools

import numpy as np

from boltzmax.linear import negatives
from boltzmax.linear import scores as linear_scores

OPTIONS = {
    "label_smoothing": 0.1,
    "z_loss": 1e-2,
    "softcap": 3.0,
    "temperature": 0.7,
    "class_weight": True,
    "sample_weight": True,
    "ignore_index": 2,
    "reduction": "sum",
}
SOME = [
    *({}, OPTIONS),
    *({name: OPTIONS[name]} for name in OPTIONS),
    *(dict.fromkeys(()) | {a: OPTIONS[a], b: OPTIONS[b]}
      for a, b in itertools.combinations(OPTIONS, 2)),
]  # fmt: skip
SHAPES = [(1, 1, 3), (1, 7, 1), (5, 1, 2), (9, 16, 4), (17, 33, 5), (33, 50, 3), (40, 70, 8)]


# Numbers in the smallest and the largest tile; None for the package's own.
TILES = [None, (8, 16), (64, 128), (1, 4)]


def use_tiles(sizes, monkeypatch):
    """Cut logits into tiles of other sizes, even if they are few."""
    if sizes is None:
        return
    monkeypatch.setattr(linear_scores, "SMALL", 0)
    monkeypatch.setattr(linear_scores, "SMALLEST_TILE", sizes[0])
    for module in (linear_scores, negatives):
        monkeypatch.setattr(module, "LARGEST_TILE", sizes[1])
        monkeypatch.setattr(module, "FEW_ROWS", 2)
    monkeypatch.setattr(linear_scores, "MANY_CLASSES", 8)
    monkeypatch.setattr("boltzmax.linear.scores.Products.ROOM", 40)


def layer(n, v, d, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    h, w, b = rng.normal(size=(n, d)), rng.normal(size=(v, d)), rng.normal(size=v)
    return h.astype(dtype), w.astype(dtype), rng.integers(0, v, n), b.astype(dtype)


def arrays(options, n, v):
    rng = np.random.default_rng(1)
    options = dict(options)
    for name, size in (("class_weight", v), ("sample_weight", n)):
        if name in options:
            options[name] = rng.uniform(0.1, 2, size)
    return options


def logits(h, w, b, temperature=1.0, softcap=None):
    x = h.astype(np.float64) @ w.astype(np.float64).T + (0.0 if b is None else b.astype(float))
    return (x if softcap is None else softcap * np.tanh(x / softcap)) / temperature


def reference(
    h, w, t, b, *, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, softcap=None,
    temperature=1.0, class_weight=None, reduction="mean", sample_weight=None,
):  # fmt: skip
    s = logits(h, w, b, temperature, softcap)
    v = s.shape[1]
    cw = np.ones(v) if class_weight is None else class_weight
    used = np.ones(len(s)) if sample_weight is None else sample_weight
    if t.dtype.kind == "f":
        q, weight = t, np.ones(len(s))
    else:
        used = np.where(t == ignore_index, 0.0, used)
        t = np.where(t == ignore_index, 0, t)
        q, weight = np.eye(v)[t], cw[t]
    a = cw * ((1 - label_smoothing) * q + label_smoothing / v)
    top = s.max(axis=1)
    lse = top + np.log(np.exp(s - top[:, None]).sum(axis=1))
    loss = used * (a.sum(1) * lse - (a * s).sum(1) + z_loss * lse**2)
    g = (a.sum(1) + 2 * z_loss * lse)[:, None] * np.exp(s - lse[:, None]) - a
    if softcap is not None:
        g *= 1 - (s * temperature / softcap) ** 2
    g *= used[:, None] / temperature
    if reduction == "none":
        return loss
    if reduction == "mean":
        total = (used * weight).sum()
        g = g / total if total else np.zeros_like(g)
        loss = loss / total if total else np.full(1, np.nan)
    return loss.sum(), g @ w.astype(float), g.T @ h.astype(float), g.sum(axis=0)


def near(got, want, tolerance):
    want = np.asarray(want)
    assert np.shape(got) == want.shape
    assert np.linalg.norm(got - want) <= tolerance * max(np.linalg.norm(want), 1e-2)

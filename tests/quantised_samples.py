"""Forms of quantised layers, and weights and hidden vectors that are hard on their bounds."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

import boltzmax
from boltzmax import QuantizedLinear, _core
from boltzmax.testing import use_dot_products, use_isa

Array = NDArray[Any]
Sample = Callable[[np.random.Generator, int, int], Array]

FORMS: dict[str, dict[str, Any]] = {
    "int8": {},
    "int4": {"bits": 4},
    "int8 groups": {"scheme": "per_group", "group": 64},
    "int4 groups": {"bits": 4, "scheme": "per_group", "group": 8},
    "int8 rotated": {"rotate": True},
    "int4 rotated groups": {"bits": 4, "scheme": "per_group", "group": 32, "rotate": 7},
    "int8, float32": {"hidden_dtype": "float32"},
    "int4 groups, float32": {"bits": 4, "scheme": "per_group", "hidden_dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16 rotated": {"dtype": "bfloat16", "rotate": True},
}
WHOLE = [name for name in FORMS if "float" not in name]


def tables() -> dict[str, tuple[str, bool]]:
    """Every table of kernels that this processor can use: instruction set, dot products."""
    found: dict[str, tuple[str, bool]] = {}
    for isa in boltzmax.available_isas():
        for use in (False, True):
            with use_isa(isa), use_dot_products(use):
                found.setdefault(_core.quantised_table(), (isa, use))
    return found


def _neighbours(rng: np.random.Generator, rows: int, n: int) -> Array:
    """Rows that differ in the last bit of some elements."""
    row = rng.standard_normal(n).astype(np.float32)
    steps = rng.integers(-1, 2, (rows, n)).astype(np.int32)
    return (np.broadcast_to(row, (rows, n)).copy().view(np.int32) + steps).view(np.float32)


def _cancelling(rng: np.random.Generator, rows: int, n: int) -> Array:
    """Rows whose halves nearly cancel, with a constant vector."""
    x = rng.standard_normal((rows, n)) * 1e4
    x[:, n // 2 :] = -x[:, : n - n // 2][:, ::-1] * (1 + 1e-7)
    return x


def _spread(rng: np.random.Generator, rows: int, n: int) -> Array:
    """Elements of all sizes that float32 has."""
    return rng.choice([-1.0, 1.0], (rows, n)) * 2.0 ** rng.uniform(-140, 60, (rows, n))


SAMPLES: dict[str, Sample] = {
    "normal": lambda rng, rows, n: rng.standard_normal((rows, n)),
    "float32": lambda rng, rows, n: rng.standard_normal((rows, n)).astype(np.float32),
    "huge": lambda rng, rows, n: rng.standard_normal((rows, n)) * 1e35,
    "denormal": lambda rng, rows, n: rng.integers(-9, 10, (rows, n)) * 2.0**-149,
    "neighbours": _neighbours,
    "cancelling": _cancelling,
    "equal": lambda rng, rows, n: np.tile(rng.standard_normal(n), (rows, 1)),
    "constant": lambda rng, rows, n: np.full((rows, n), rng.choice([-1.0, 1.0])),
    "zero": lambda rng, rows, n: np.zeros((rows, n)),
    "spread": _spread,
    "spikes": lambda rng, rows, n: np.where(rng.random((rows, n)) < 2 / n, 1e3, 1e-3),
    "whole": lambda rng, rows, n: rng.integers(-127, 128, (rows, n)).astype(np.float64),
    "double": lambda rng, rows, n: rng.standard_normal((rows, n)) * 1e-300,
}


def exact_logits(hidden: Array, weight: Array, bias: Array | None) -> list[list[Fraction]]:
    """The logits, without any rounding."""
    x, w = ([[Fraction(float(v)) for v in row] for row in a] for a in (hidden, weight))
    b = [Fraction(0)] * len(w) if bias is None else [Fraction(float(v)) for v in bias]
    return [
        [sum((p * q for p, q in zip(row, of, strict=True)), c) for of, c in zip(w, b, strict=True)]
        for row in x
    ]


def long_logits(hidden: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """The logits in long double, and a bound of their error."""
    x, w, b = (np.asarray(a, np.longdouble) for a in (hidden, weight, bias))
    eps = float(np.finfo(np.longdouble).eps) * (x.shape[1] + 4)
    return x @ w.T + b, eps * (np.abs(x) @ np.abs(w).T + np.abs(b)) + np.longdouble(1e-310)


def layer_of(form: str, weight: Array, bias: Array | None = None) -> QuantizedLinear:
    return QuantizedLinear(weight, bias, **FORMS[form])


def fuzz(logits: int, seed: int) -> int:
    """Check so many logits of random forms, samples and lengths; return how many were checked."""
    rng = np.random.default_rng(seed)
    checked = 0
    while checked < logits:
        form, kinds = str(rng.choice(list(FORMS))), rng.choice(list(SAMPLES), 2)
        n, rows, classes = int(rng.integers(1, 300)), int(rng.integers(1, 9)), int(rng.integers(99))
        hidden, weight = SAMPLES[kinds[0]](rng, rows, n), SAMPLES[kinds[1]](rng, classes + 1, n)
        bias = rng.standard_normal(classes + 1) * 10.0 ** rng.integers(-40, 30)
        exact, error = long_logits(hidden, weight, bias)
        layer = layer_of(form, weight, bias)
        lower, upper = layer.intervals(hidden)
        context = (form, *kinds, n, rows, classes, seed)
        assert (lower <= exact + error).all(), context
        assert (upper >= exact - error).all(), context
        k = int(rng.integers(1, classes + 2))
        found = layer.candidates(hidden, k)
        for r in range(rows):
            ids = found.ids[found.indptr[r] : found.indptr[r + 1]]
            # Whatever the long double's error, these are among the k largest.
            least = np.sort(exact[r] + error[r])[-k]
            sure = np.flatnonzero(exact[r] - error[r] > least)
            assert np.isin(sure, ids).all(), context
        checked += exact.size
    return checked

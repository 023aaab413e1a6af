"""Checks of parameters and weights for the classifiers of `boltzmax.sklearn`."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_scalar, compute_class_weight

from boltzmax.losses.imbalance import class_weights
from boltzmax.sklearn.samples import Samples
from boltzmax.sklearn.training import Plan

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_SOLVERS = ("auto", "lbfgs", "adam")
_COUNTS = ("batch_size", "max_iter", "n_iter_no_change")
_FLAGS = ("fit_intercept", "early_stopping")
_NUMBERS = {  # upper bounds, and which ends of the interval are allowed
    "l2": (np.inf, "left"),
    "tol": (np.inf, "left"),
    "learning_rate": (np.inf, "neither"),
    "validation_fraction": (1.0, "neither"),
}


def checked_plan(classifier: Any) -> Plan:
    """Check the parameters that all classifiers share."""
    if classifier.solver not in _SOLVERS:
        raise ValueError(f"solver must be one of {_SOLVERS}, got {classifier.solver!r}")
    for name in _COUNTS:
        check_scalar(getattr(classifier, name), name, numbers.Integral, min_val=1)
    for name, (most, ends) in _NUMBERS.items():
        value = getattr(classifier, name)
        check_scalar(value, name, numbers.Real, min_val=0, max_val=most, include_boundaries=ends)
        if np.isnan(value):
            raise ValueError(f"{name} must be a number, got nan")
    for name in _FLAGS:
        check_scalar(getattr(classifier, name), name, (bool, np.bool_))
    return Plan(
        l2=float(classifier.l2),
        tol=float(classifier.tol),
        max_iter=int(classifier.max_iter),
        patience=int(classifier.n_iter_no_change),
        learning_rate=float(classifier.learning_rate),
        batch_size=int(classifier.batch_size),
    )


def per_sample(given: ArrayLike | None, n: int) -> Doubles:
    """Return the weights of n samples."""
    if given is None:
        return np.ones(n)
    weight = np.asarray(
        check_array(given, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    )
    if weight.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), got {weight.shape}")
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min()}")
    return weight


def per_class(given: Any, classes: Array, counts: Doubles) -> Doubles:
    """Return the weights of classes whose samples weigh `counts`."""
    if isinstance(given, str) and given == "balanced":
        return class_weights(counts) if counts.any() else np.zeros(len(counts))
    if given is not None and not isinstance(given, dict):
        raise ValueError(f'class_weight must be None, "balanced" or a dict, got {given!r}')
    weights = np.asarray(compute_class_weight(given, classes=classes, y=classes), np.float64)
    if not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError(f"class_weight must be finite and not negative, got {given}")
    return weights


def split(samples: Samples, fraction: float, rng: np.random.RandomState) -> tuple[Samples, Samples]:
    """Hold out a share of the samples, about the same of each class."""
    n = len(samples)
    count = int(np.ceil(fraction * n))
    if count >= n:
        raise ValueError(
            f"early_stopping holds out all of the {n} samples with validation_fraction={fraction}"
        )
    order = rng.permutation(n)
    order = order[np.argsort(samples.target[order], kind="stable")]
    held = order[((np.arange(count) + 0.5) * n / count).astype(np.intp)]
    kept = np.ones(n, bool)
    kept[held] = False
    return samples.part(np.flatnonzero(kept)), samples.part(np.sort(held))

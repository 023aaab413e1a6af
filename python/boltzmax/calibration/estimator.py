"""What calibration maps take from scikit-learn, and what stands in for it where it is missing."""

from __future__ import annotations

from inspect import signature
from typing import Any, Self

import numpy as np

__all__ = [
    "BaseEstimator",
    "ClassifierMixin",
    "ConvergenceWarning",
    "Estimator",
    "MetaEstimatorMixin",
    "NotFittedError",
    "as_real",
    "check_names",
    "is_fitted",
    "record_names",
]

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        MetaEstimatorMixin,
        TransformerMixin,
    )
    from sklearn.exceptions import ConvergenceWarning, NotFittedError
    from sklearn.utils.validation import _check_feature_names

    HAS_SKLEARN = True
except ImportError as missing:
    if (missing.name or "").partition(".")[0] not in ("sklearn", "scipy"):
        raise
    HAS_SKLEARN = False

    class TransformerMixin:  # type: ignore[no-redef]
        """`fit_transform`, without its options."""

        def fit_transform(self, logits: Any, y: Any, **fit_params: Any) -> Any:
            """Fit, and transform the same rows."""
            return self.fit(logits, y, **fit_params).transform(logits)  # type: ignore[attr-defined]

    class BaseEstimator:  # type: ignore[no-redef]
        """Parameters by name."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the parameters."""
            return {name: getattr(self, name) for name in signature(type(self)).parameters}

        def set_params(self, **params: Any) -> Self:
            """Set parameters."""
            known = self.get_params()
            for name, value in params.items():
                if name not in known:
                    raise ValueError(f"invalid parameter {name!r} for {type(self).__name__}")
                setattr(self, name, value)
            return self

        def __repr__(self) -> str:
            given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
            return f"{type(self).__name__}({given})"

    class ClassifierMixin:  # type: ignore[no-redef]
        """Nothing: classifiers need scikit-learn."""

    class MetaEstimatorMixin:  # type: ignore[no-redef]
        """Nothing, too."""

    class ConvergenceWarning(UserWarning):  # type: ignore[no-redef]
        """A search stopped before it had found the minimum."""

    class NotFittedError(ValueError, AttributeError):  # type: ignore[no-redef]
        """A map was used before `fit`."""


class Estimator(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of scikit-learn, if it is installed: one that transforms logits."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return is_fitted(self)


def is_fitted(estimator: Any) -> bool:
    """Return whether `fit` has been called."""
    return hasattr(estimator, "n_features_in_")


def as_real(logits: Any) -> Any:
    """Return arrays of Python's numbers as floats; refuse complex ones in scikit-learn's words."""
    kind = getattr(getattr(logits, "dtype", None), "kind", "f")
    if kind == "c":
        raise ValueError(f"Complex data not supported: logits are {logits.dtype}")
    return np.asarray(logits).astype(np.float64) if kind == "O" else logits


def record_names(estimator: Any, logits: Any) -> None:
    """Remember the names of a data frame's columns, as scikit-learn does."""
    if HAS_SKLEARN:
        _check_feature_names(estimator, logits, reset=True)


def check_names(estimator: Any, logits: Any) -> None:
    """Warn or raise, as scikit-learn does, if the names of columns are other ones."""
    if HAS_SKLEARN:
        _check_feature_names(estimator, logits, reset=False)

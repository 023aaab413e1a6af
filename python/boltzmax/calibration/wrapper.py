"""Classifiers with calibrated probabilities."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax.calibration.base import CalibrationMap
from boltzmax.calibration.estimator import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    NotFittedError,
)
from boltzmax.calibration.registry import METHODS

Array = NDArray[Any]


def calibrated(estimator: Any, method: str | CalibrationMap = "temperature", cv: Any = 5) -> Any:
    """Return a classifier with calibrated probabilities, around one of scikit-learn's.

    Parameters
    ----------
    estimator : classifier
        Has `decision_function` or `predict_log_proba`, whose results are taken as logits.
    method : str or calibration map, default "temperature"
        "temperature", "ensemble_temperature", "vector", "matrix", "dirichlet", "platt", "beta",
        "isotonic" or "histogram"; or a map that takes logits, of which a clone is fitted.
    cv : int, splitter or iterable, default 5
        How rows are held out, as in scikit-learn: the map is fitted on the logits of rows that the
        classifier was not fitted on. For a classifier that is fitted already, pass
        ``FrozenEstimator(classifier)`` and rows that it has not seen.

    Returns
    -------
    CalibratedClassifier
        Not fitted yet.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from boltzmax.calibration import calibrated
    >>> x, y = load_iris(return_X_y=True)
    >>> model = calibrated(GaussianNB()).fit(x, y)
    >>> bool(1 < model.calibration_.temperature_ < 2)  # it was too sure of itself
    True
    """
    return CalibratedClassifier(estimator, method, cv)


class CalibratedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of scikit-learn, and a calibration map for its logits.

    Parameters
    ----------
    estimator, method, cv
        As for `calibrated`.

    Attributes
    ----------
    classes_ : ndarray
        The labels.
    estimator_ : classifier
        A clone of the classifier, fitted on all rows.
    calibration_ : CalibrationMap
        The map, fitted on the logits of rows that were held out.

    Notes
    -----
    The logits are those of `decision_function` if there is one, else the log-probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import LinearSVC
    >>> from boltzmax.calibration import CalibratedClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> CalibratedClassifier(LinearSVC(), method="vector").fit(x, y).predict_proba(x).shape
    (150, 3)
    """

    classes_: Array
    estimator_: Any
    calibration_: CalibrationMap

    def __init__(
        self, estimator: Any, method: str | CalibrationMap = "temperature", cv: Any = 5
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.cv = cv

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit the classifier and the map.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            The samples, in whatever form the classifier takes.
        y : array_like of shape (n_samples,)
            Their labels.
        sample_weight : array_like of shape (n_samples,), optional
            The weight of each sample, for the classifier (if it takes weights) and the map.

        Returns
        -------
        self
            The fitted classifier.

        Raises
        ------
        ValueError
            For an unknown method, fewer than two classes, or a classifier whose
            `decision_function` does not have one column per class.
        """
        from sklearn.base import clone
        from sklearn.model_selection import check_cv, cross_val_predict
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import column_or_1d, has_fit_parameter, indexable

        calibration = self._new_map()
        X, y = indexable(X, y)  # noqa: N806
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        classes, target = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, got 1 class: "
                f"{classes.tolist()}"
            )
        weights = {} if sample_weight is None else {"sample_weight": np.asarray(sample_weight)}
        taken = weights if has_fit_parameter(self.estimator, "sample_weight") else {}
        logits = cross_val_predict(
            self.estimator,
            X,
            labels,
            cv=check_cv(self.cv, labels, classifier=True),
            method=_response(self.estimator),
            params=taken,
        )
        calibration.fit(_checked_logits(logits, len(classes)), target, **weights)
        self.estimator_ = clone(self.estimator).fit(X, labels, **taken)
        self.calibration_, self.classes_ = calibration, classes
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the calibrated probability of each class.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The probabilities, in the order of `classes_`.
        """
        if not hasattr(self, "calibration_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with "
                "appropriate arguments before using this estimator."
            )
        logits = getattr(self.estimator_, _response(self.estimator_))(X)
        return self.calibration_.predict_proba(_checked_logits(logits, len(self.classes_)))

    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return the likeliest class.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        ndarray of shape (n_samples,)
            The labels.
        """
        result: Array = self.predict_proba(X).argmax(axis=1)
        return self.classes_[result]

    def _new_map(self) -> CalibrationMap:
        from sklearn.base import clone

        if isinstance(self.method, CalibrationMap):
            if self.method.from_probs:
                raise ValueError("method must take logits, but its from_probs is True")
            fresh: CalibrationMap = clone(self.method)
            return fresh
        if self.method not in METHODS:
            words = ", ".join(map(repr, METHODS))
            raise ValueError(
                f"method must be a calibration map or one of {words}, got {self.method!r}"
            )
        return METHODS[self.method]()

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import get_tags

        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags


def _response(estimator: Any) -> str:
    """Return the name of the method whose results are logits."""
    for name in ("decision_function", "predict_log_proba"):
        if hasattr(estimator, name):
            return name
    raise ValueError(
        f"{type(estimator).__name__} has neither decision_function nor predict_log_proba"
    )


def _checked_logits(logits: Array, k: int) -> Array:
    """Return logits if they have a column per class, or are those of class 1 of two."""
    if logits.shape[1:] != (k,) and not (k == 2 and logits.ndim == 1):
        raise ValueError(
            f"the classifier's logits must be (samples, {k}), got shape {logits.shape}; "
            "a decision_function of pairs of classes does not fit"
        )
    return logits

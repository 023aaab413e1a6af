"""The base class of the classifiers in `boltzmax.sklearn`: checks, weights, fit and predict."""

from __future__ import annotations

import operator
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from boltzmax._lib.arguments import quietly
from boltzmax._lib.console import progress
from boltzmax.sklearn.checks import checked_plan, per_class, per_sample, split
from boltzmax.sklearn.samples import Coordinates, Features, Samples
from boltzmax.sklearn.training import (
    Adam,
    Course,
    Epochs,
    Plan,
    Report,
    train_adam,
    train_lbfgs,
)

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_SOLVERS = ("auto", "lbfgs", "adam")
_SMALL_WORK = 10**8  # multiplications per pass: some hundreds of passes take seconds
_SMALL_MODEL = 10**6  # coefficients: L-BFGS keeps about twenty copies of them


class SoftmaxBase(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A classifier trained on a loss of scores that are linear in the features."""

    # The arguments of the classifiers' constructors.
    solver: str
    l2: float
    fit_intercept: bool
    class_weight: Any
    learning_rate: float
    batch_size: int
    max_iter: int
    tol: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    random_state: Any
    verbose: Any

    classes_: Array
    _counts: Doubles  # the total weight of the samples of each class so far
    _features: Features | None
    _adam: Epochs | None

    # ---- what a classifier has to define ----

    @abstractmethod
    def _structure(self, samples: Samples, rng: np.random.RandomState) -> None:
        """Check the parameters that are not shared, and set up what does not depend on a solver."""

    @abstractmethod
    def _size(self, samples: Samples) -> tuple[int, int]:
        """Return the multiplications per pass, and the number of coefficients."""

    @abstractmethod
    def _start(self, dtype: Any) -> None:
        """Set all coefficients to 0."""

    @abstractmethod
    def _round(self, dtype: Any) -> None:
        """Round the coefficients to a dtype."""

    @abstractmethod
    def _model(self) -> Any:
        """Return the `Model` that training changes."""

    def _new_adam(self, model: Any) -> Epochs:
        """Return what trains the model in mini-batches."""
        return Adam(model)

    @abstractmethod
    def _likeliest(self, x: Any) -> NDArray[np.intp]:
        """Return the index of the likeliest class of each row."""

    @abstractmethod
    def _log_probabilities(self, x: Any) -> Array:
        """Return the log-probabilities of all classes, (n, K)."""

    @abstractmethod
    def _top(self, x: Any, k: int) -> tuple[Array, Array]:
        """Return the indices of the k likeliest classes and their log-probabilities."""

    # ---- training ----

    @quietly
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Train on samples, from the beginning.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            float32 and float64 are kept, and the coefficients have the same dtype; other numbers
            become float64; sparse matrices become CSR. A feature that is constant up to rounding is
            ignored: with an intercept, its coefficients are 0.
        y : array_like of shape (n_samples,)
            The classes: integers, strings or anything else that can be sorted.
        sample_weight : array_like of shape (n_samples,), optional
            Not negative. A weight of 2 is equivalent to repeating the sample.

        Returns
        -------
        self
            The trained classifier.

        Raises
        ------
        ValueError, TypeError
            For invalid data or parameters, and for fewer than two classes.
        """
        plan = checked_plan(self)
        x, y = self._samples(X, y, reset=True)
        check_classification_targets(y)
        classes, target = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, got 1 class"
            )
        weight = per_sample(sample_weight, len(target))
        rng = check_random_state(self.random_state)
        self.classes_ = classes
        self._counts = np.bincount(target, weight, len(classes)).astype(np.float64)
        samples = self._weighted(x, target, weight)
        self._features = self._adam = None
        self._structure(samples, rng)
        self.solver_ = self._chosen_solver(samples)
        self._start(np.float64 if self.solver_ == "lbfgs" else x.dtype)
        self._train(samples, plan, rng)
        return self

    def _train(self, samples: Samples, plan: Plan, rng: np.random.RandomState) -> None:
        held_out = None
        if self.early_stopping:
            samples, held_out = split(samples, self.validation_fraction, rng)
        model = self._model()
        self._features = Features.of(samples)
        coordinates = Coordinates(self._features, model.intercept is not None, plan.l2)
        with self._progress(plan.max_iter) as report:
            if self.solver_ == "lbfgs":
                course = train_lbfgs(model, samples, held_out, coordinates, plan, report)
            else:
                self._adam = self._new_adam(model)
                course = train_adam(
                    model, self._adam, samples, held_out, coordinates, plan, report, rng
                )
        self._round(samples.x.dtype)
        self._report(course)

    def _report(self, course: Course) -> None:
        self.n_iter_ = max(1, len(course.losses))
        self.loss_curve_ = course.losses
        self.validation_curve_ = course.held_out if self.early_stopping else None
        if course.failure is not None:
            message = f"{type(self).__name__} stopped {course.failure}"
            warnings.warn(message, ConvergenceWarning, stacklevel=5)  # by `fit` and its decorators

    @quietly
    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Make one pass over some samples with Adam, from where the last call or `fit` ended.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            As for `fit`.
        y : array_like of shape (n_samples,)
            Their classes.
        classes : array_like of shape (n_classes,), optional
            All classes that will ever occur; the first call needs them.
        sample_weight : array_like of shape (n_samples,), optional
            As for `fit`; in every call an ordinary sample has weight 1.

        Returns
        -------
        self
            The classifier.

        Raises
        ------
        ValueError, TypeError
            As for `fit`; for a class that is not one of `classes`, and for
            ``class_weight="balanced"``, which needs all samples at once.
        """
        plan = checked_plan(self)
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" needs all samples at once; give partial_fit a dict, such '
                "as one made with boltzmax.class_weights from the sizes of the classes"
            )
        first = not hasattr(self, "solver_")
        x, y = self._samples(X, y, reset=first)
        known = self._checked_classes(classes)
        target = np.minimum(np.searchsorted(known, y), len(known) - 1)
        if strange := sorted(set(np.asarray(y)[known[target] != y].tolist())):
            raise ValueError(f"y has labels that are not among the classes: {strange[:5]}")
        weight = per_sample(sample_weight, len(target))
        rng = check_random_state(self.random_state)
        self.classes_ = known
        # At first, one more for each, so that classes yet to come have a place from the start.
        before = np.ones(len(known)) if first else self._counts
        self._counts = before + np.bincount(target, weight, len(known))
        samples = self._weighted(x, target, weight)
        if first:
            self._adam = self._features = None
            self._structure(samples, rng)
            self._start(x.dtype)
            self.solver_, self.n_iter_ = "adam", 0
        model = self._model()
        self._adam = self._adam or self._new_adam(model)
        features = Features.of(samples)
        self._features = features if self._features is None else self._features.merged(features)
        coordinates = Coordinates(self._features, model.intercept is not None, plan.l2)
        order = rng.permutation(len(samples))
        self._adam.epoch(model, samples, order, coordinates, plan, usual_weight=1.0)
        self.n_iter_ += 1
        return self

    # ---- predicting ----

    @quietly
    def predict(self, X: Any) -> Array:  # noqa: N803
        """Return the likeliest class of each sample.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples,)
            Elements of `classes_`.
        """
        x = self._validated(X)
        return np.asarray(self.classes_[self._likeliest(x)])

    @quietly
    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the log-probability of each class.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return self._log_probabilities(self._validated(X))

    @quietly
    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Return the probability of each class.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return np.asarray(np.exp(self.predict_log_proba(X)))

    @quietly
    def predict_topk(self, X: Any, k: SupportsIndex) -> tuple[Array, Array]:  # noqa: N803
        """Return the likeliest classes and their probabilities.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        k : int
            The number of classes to return: from 1 to all.

        Returns
        -------
        classes : ndarray of shape (n_samples, k)
            Elements of `classes_`, the likeliest first.
        probabilities : ndarray of shape (n_samples, k)
            Their probabilities.

        Raises
        ------
        TypeError
            If `k` is not an integer.
        ValueError
            If `k` is less than 1 or exceeds the number of classes.
        """
        x = self._validated(X)
        wanted = operator.index(k)
        if not 1 <= wanted <= len(self.classes_):
            raise ValueError(
                f"k must be from 1 to the number of classes, {len(self.classes_)}; got {wanted}"
            )
        ids, log_probs = self._top(x, wanted)
        return self.classes_[ids], np.exp(log_probs)

    # ---- checks ----

    def _samples(self, x: Any, y: Any, reset: bool) -> tuple[Any, Array]:
        dtypes = [np.float64, np.float32]
        checked: tuple[Any, Array] = validate_data(
            self, x, y, accept_sparse="csr", dtype=dtypes, reset=reset
        )
        return checked

    def _validated(self, x: Any) -> Any:
        check_is_fitted(self)
        dtypes = [np.float64, np.float32]
        return validate_data(self, x, accept_sparse="csr", dtype=dtypes, reset=False)

    def _weighted(self, x: Any, target: NDArray[np.intp], weight: Doubles) -> Samples:
        """Apply the class weights, and leave out samples of weight 0."""
        weight = weight * per_class(self.class_weight, self.classes_, self._counts)[target]
        samples, counts = Samples(x, target, weight), weight > 0
        if not counts.any():
            raise ValueError("the weights of all samples are zero")
        return samples if counts.all() else samples.part(counts)

    def _checked_classes(self, given: ArrayLike | None) -> Array:
        known: Array | None = self.classes_ if hasattr(self, "solver_") else None
        if given is None:
            if known is None:
                raise ValueError("the first call of partial_fit needs classes")
            return known
        classes = np.unique(np.asarray(given))
        if known is not None and not np.array_equal(classes, known):
            raise ValueError(f"classes must be those of the first call, {known}; got {classes}")
        if len(classes) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 classes, got {len(classes)}")
        return classes

    def _chosen_solver(self, samples: Samples) -> str:
        if self.solver != "auto":
            return self.solver
        work, coefficients = self._size(samples)
        return "lbfgs" if work <= _SMALL_WORK and coefficients <= _SMALL_MODEL else "adam"

    @contextmanager
    def _progress(self, total: int) -> Iterator[Report]:
        """Show the progress of training, if requested."""
        if not self.verbose:
            yield lambda loss: None
            return
        with progress(type(self).__name__, total) as advance:
            done, note = 0, ""

            def report(loss: float) -> None:
                nonlocal done, note
                done, note = done + 1, f"loss {loss:.4f}"
                advance(1, note)

            yield report
            if done < total:
                advance(total - done, f"{note} after {done} iterations")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

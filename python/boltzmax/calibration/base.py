"""The contract of calibration maps: what all of them do with rows of scores.

A map defines `_fit` and `_map`, and lists in `_learned` what it has learned. Checks, blocks of
rows, probabilities and files are here.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_flag, quietly
from boltzmax._lib.files import FileName, load_npz, write_npz
from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.scored import Scored, read_scores, read_scores_and_labels
from boltzmax.calibration.estimator import (
    Estimator,
    NotFittedError,
    as_real,
    check_names,
    is_fitted,
    record_names,
)

Array = NDArray[Any]
Doubles = NDArray[np.float64]


class CalibrationMap(Estimator, ABC):
    """A map from logits to calibrated logits, learned from held-out rows.

    Subclasses store their parameters as scikit-learn's estimators do. `from_probs` is one of all.

    Examples
    --------
    >>> from boltzmax.calibration import CalibrationMap, TemperatureScaling
    >>> issubclass(TemperatureScaling, CalibrationMap)
    True
    """

    from_probs: bool
    n_features_in_: int
    n_classes_: int
    is_binary_: bool  # whether rows are single numbers

    _bears_impossible_labels: ClassVar[bool] = False  # those of probability 0
    # Names of the arrays and numbers that are learned, with those in every map.
    _learned: ClassVar[tuple[str, ...]] = ()
    _always: ClassVar[tuple[str, ...]] = ("n_features_in_", "n_classes_", "is_binary_")

    @abstractmethod
    def _fit(self, rows: Scored) -> None:
        """Learn from rows with labels; every row has a finite maximum and no NaN."""

    @abstractmethod
    def _map(self, rows: Scored, part: slice) -> Array:
        """Return calibrated logits of some rows, (n, K)."""

    def _check_parameters(self) -> None:
        """Raise for parameters that are not valid."""
        as_flag(self.from_probs, "from_probs")

    # ---- scikit-learn's methods ----

    @quietly
    def fit(self, logits: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the map from rows that the classifier was not trained on.

        Parameters
        ----------
        logits : array_like, shape (N, K) or (N,)
            Logits, or probabilities with `from_probs`; float16 to float64, bfloat16 or integers. A
            logit of -inf, or a probability of 0, is a class that does not occur. Single numbers are
            the logits of class 1 of two, where class 0 has the logit 0.
        y : array_like of int, shape (N,)
            The classes: columns of `logits`; for single numbers, 0 or 1, or bools.
        sample_weight : array_like, shape (N,), optional
            A weight for each row, finite and not negative.

        Returns
        -------
        self
            The fitted map. If the call raises, it is as it was.

        Raises
        ------
        IndexError
            For a class out of range.
        TypeError, ValueError
            For any other invalid argument or parameter; rows with NaN or without a finite maximum
            are counted, and the first is named.
        """
        self._check_parameters()
        rows = read_scores_and_labels(
            as_real(logits), y, from_probs=self.from_probs, sample_weight=sample_weight
        )
        rows.check_finite()
        if not self._bears_impossible_labels:
            _check_labels(rows)
        self._fit(rows)
        self.n_classes_, self.is_binary_ = rows.n_classes, rows.is_binary
        self.n_features_in_ = 1 if rows.is_binary else rows.n_classes
        record_names(self, logits)
        return self

    @quietly
    def transform(self, logits: ArrayLike) -> Array:
        """Return calibrated logits, of which softmax makes the calibrated probabilities.

        Parameters
        ----------
        logits : array_like, shape (N, K) or (N,)
            Logits, or probabilities, of the kind that the map was fitted on.

        Returns
        -------
        ndarray of the shape of `logits`
            In float64 if `logits` are, else in float32. Single numbers are logits of class 1.
        """
        rows = self._rows(logits)
        out = np.empty(rows.array.shape, loss_dtype(rows.array.dtype))
        for part in rows.blocks():
            z = self._map(rows, part)
            self._check_result(rows, z)
            out[part] = z[:, 1] - z[:, 0] if rows.is_binary else z
        return out

    @quietly
    def predict_proba(self, logits: ArrayLike) -> Array:
        """Return calibrated probabilities.

        Parameters
        ----------
        logits : array_like, shape (N, K) or (N,)
            As for `transform`.

        Returns
        -------
        ndarray, shape (N, K)
            Two columns for single numbers.
        """
        rows = self._rows(logits)
        out = np.empty((rows.n_rows, rows.n_classes), loss_dtype(rows.array.dtype))
        for part in rows.blocks():
            z = self._map(rows, part).astype(out.dtype, copy=False)
            self._check_result(rows, z)
            _core.softmax(z, -1, out=out[part])
        return out

    def _rows(self, logits: ArrayLike) -> Scored:
        """Return the scores of rows like those that the map was fitted on."""
        if not is_fitted(self):
            raise _not_fitted(self)
        check_names(self, logits)
        rows = read_scores(as_real(logits), from_probs=self.from_probs)
        if rows.is_binary != self.is_binary_ or rows.n_classes != self.n_classes_:
            fitted = "(rows,)" if self.is_binary_ else f"(rows, {self.n_classes_})"
            raise ValueError(
                f"X has {1 if rows.is_binary else rows.n_classes} features, but "
                f"{type(self).__name__} is expecting {self.n_features_in_} features as input: "
                f"logits must be {fitted}, got shape {rows.array.shape}"
            )
        return rows

    @staticmethod
    def _check_result(rows: Scored, z: Array) -> None:
        if not np.isfinite(z.max(axis=1)).all():
            rows.check_finite()

    # ---- files ----

    def save(self, path: FileName) -> None:
        """Write the map to one ``.npz`` file, without pickle, which appears only when complete.

        Parameters
        ----------
        path : str or path-like
            The file, which is replaced if it exists.
        """
        if not is_fitted(self):
            raise _not_fitted(self)
        arrays = {name: np.asarray(getattr(self, name)) for name in self._state()}
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            arrays["feature_names_in_"] = np.asarray(names, dtype=np.str_)
        parameters = json.dumps(self.get_params(), default=_as_python)
        write_npz(path, self._kind(), {"parameters": parameters, **arrays})

    @classmethod
    def load(cls, path: FileName) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        CalibrationMap
            A map with the same parameters, and the same results to the last bit.

        Raises
        ------
        ValueError
            If the file is damaged or something else; the message names it.
        """
        return load_npz(path, cls._kind(), cls._from_arrays)

    @classmethod
    def _kind(cls) -> str:
        return f"boltzmax {cls.__name__}, version 1"

    @classmethod
    def _state(cls) -> tuple[str, ...]:
        return (*cls._always, *cls._learned)

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Array]) -> Self:
        parameters = json.loads(str(arrays.pop("parameters")))
        for name, value in parameters.items():
            if isinstance(value, list):
                parameters[name] = tuple(value)
        made = cls(**parameters)
        made._check_parameters()
        names = arrays.pop("feature_names_in_", None)
        if arrays.keys() != set(cls._state()):
            raise ValueError("its arrays are not those of such a map")
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
                raise ValueError(f"{name} has values that are not finite numbers")
            setattr(made, name, array.item() if array.ndim == 0 else array)
        if names is not None:
            made.feature_names_in_ = names.astype(object)
        made._check_learned()
        return made

    def _check_learned(self) -> None:
        """Raise ValueError if what a file has does not fit together."""


def _check_labels(rows: Scored) -> None:
    """Raise if a label has the probability 0: no map of its row could make it likely."""
    assert rows.labels is not None
    for part in rows.blocks():
        z = rows.logits(part)
        at_label = z[np.arange(len(z)), rows.labels[part]]
        bad = np.isneginf(at_label) & (rows.weight(part) > 0)
        if bad.any():
            row = part.start + int(bad.argmax())
            what = "probability 0; pass logits, or clip it" if rows.from_probs else "logit -inf"
            raise ValueError(f"class {rows.labels[row]}, the label of row {row}, has the {what}")


def _as_python(number: Any) -> Any:
    """Return a number of NumPy's as one of Python's."""
    return number.item()


def _not_fitted(estimator: CalibrationMap) -> NotFittedError:
    return NotFittedError(
        f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with appropriate "
        "arguments before using this estimator."
    )

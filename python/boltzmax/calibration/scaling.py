"""Scalings with numbers for each class: vector, matrix and Dirichlet.

All minimise the log-likelihood's loss of new logits that are linear in the old ones, or in their
log-probabilities; the loss is convex in the weights and the intercepts.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.arguments import as_number, check_count
from boltzmax._lib.scored import Scored
from boltzmax.calibration.base import CalibrationMap
from boltzmax.calibration.descent import Minimum, minimize
from boltzmax.calibration.estimator import ConvergenceWarning
from boltzmax.calibration.temperature import LARGEST, LEAST, best_temperature
from boltzmax.losses.cross_entropy import cross_entropy_with_grad

Array = NDArray[Any]
Doubles = NDArray[np.float64]

_LEAST_LOG_PROB = -87.0  # about the logarithm of the least normal float
_LOG_FEATURE = 7.0  # base 2, of a feature in its unit


class _LinearScaling(CalibrationMap):
    """New logits that are linear in features of the old ones."""

    _learned: ClassVar[tuple[str, ...]] = ("weight_", "intercept_", "n_iter_")

    weight_: Doubles
    intercept_: Doubles
    n_iter_: int

    tol: float
    max_iter: Any

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_count(self.max_iter, "max_iter", 1)
        if not 0 <= as_number(self.tol, "tol") < np.inf:
            raise ValueError(f"tol must be finite and not negative, got {self.tol!r}")

    @abstractmethod
    def _shape(self, k: int) -> tuple[int, ...]:
        """Return the shape of the weights of k classes."""

    @abstractmethod
    def _identity(self, k: int, gain: float) -> Doubles:
        """Return the weights that multiply all features by a number."""

    @abstractmethod
    def _new_logits(self, z: Array, weight: Doubles, intercept: Doubles) -> Array:
        """Return the new logits from the features."""

    @abstractmethod
    def _gradient(self, z: Array, slopes: Array) -> Doubles:
        """Return the gradient by the weights, from that by the new logits."""

    def _features(self, rows: Scored, part: slice) -> Array:
        """Return the features of some rows, in float64."""
        return rows.logits(part).astype(np.float64)

    def _penalty(self, weight: Doubles) -> tuple[float, Doubles]:
        """Return the penalty of the weights, and its gradient."""
        return 0.0, np.zeros_like(weight)

    def _loss(self, rows: Scored, numbers: Doubles) -> tuple[float, Doubles]:
        """Return the mean loss and its gradient."""
        assert rows.labels is not None
        k = rows.n_classes
        weight, intercept = numbers[:-k].reshape(self._shape(k)), numbers[-k:]
        loss, d_weight, d_intercept = 0.0, np.zeros_like(weight), np.zeros(k)
        for part in rows.blocks():
            z = self._features(rows, part)
            new = self._new_logits(z, weight, intercept)
            label, w = rows.labels[part], rows.weight(part)
            of_part, slopes = cross_entropy_with_grad(new, label, sample_weight=w, reduction="sum")
            loss += float(of_part)
            d_weight += self._gradient(z, slopes)
            d_intercept += slopes.sum(axis=0)
        total = rows.total_weight
        penalty, d_penalty = self._penalty(weight)
        gradient = np.concatenate([(d_weight / total + d_penalty).reshape(-1), d_intercept / total])
        return loss / total + penalty, gradient

    def _fit(self, rows: Scored) -> None:
        k = rows.n_classes
        start = np.concatenate([self._identity(k, self._gain(rows)).reshape(-1), np.zeros(k)])
        # Where features are huge, the loss bends far more by weights than by intercepts. In a unit
        # of their own, weights are of the size of intercepts, and the search takes few steps.
        units = np.ones(len(start))
        units[:-k] /= self._unit(rows)

        def loss(x: Doubles) -> tuple[float, Doubles]:
            value, gradient = self._loss(rows, units * x)
            return value, units * gradient

        found = minimize(loss, start / units, self.tol, int(self.max_iter))
        if not found.converged:
            _warn(found, type(self).__name__)
        numbers = units * found.x
        self.weight_ = numbers[:-k].reshape(self._shape(k))
        # Softmax ignores what all intercepts have in common.
        self.intercept_ = numbers[-k:] - numbers[-k:].mean()
        self.n_iter_ = found.n_iter

    def _unit(self, rows: Scored) -> float:
        """Return the least power of two, not below 1, in units of which features are small.

        The likeliest class of each row tells their size, since masked ones may be at -1e9; and the
        geometric mean over rows, since a few may be odd.
        """
        log_size, count = 0.0, 0
        for part in rows.blocks():
            size = np.abs(self._features(rows, part).max(axis=1))
            size = size[np.isfinite(size)]
            log_size += float(np.log2(np.maximum(size, 1.0)).sum())
            count += size.size
        return float(np.exp2(max(0.0, np.ceil(log_size / max(count, 1) - _LOG_FEATURE))))

    def _gain(self, rows: Scored) -> float:
        """Return the factor of all features to start from: 1/T, unless T is at a bound."""
        if self._bears_impossible_labels:
            return 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            temperature, _ = best_temperature(rows, (LEAST, LARGEST))
        if temperature == LARGEST:
            return 0.0  # the logits tell nothing, or are huge
        return 1.0 / temperature if temperature > LEAST else 1.0

    def _map(self, rows: Scored, part: slice) -> Array:
        return self._new_logits(self._features(rows, part), self.weight_, self.intercept_)

    def _check_learned(self) -> None:
        k = self.n_classes_
        if self.weight_.shape != self._shape(k) or self.intercept_.shape != (k,):
            raise ValueError(f"weights of shape {self.weight_.shape} do not fit {k} classes")


class VectorScaling(_LinearScaling):
    r"""Multiply the logits of each class by a number, and add another: :math:`w_c z_c + b_c`.

    A class with the logit -inf keeps it.

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.
    tol : float, default 1e-7
        The search ends once no derivative of the mean loss is larger. If the largest logits of rows
        are beyond 128, in the geometric mean, a power of two is their unit there.
    max_iter : int, default 1000
        The most steps of L-BFGS; if it needs more, there is a `ConvergenceWarning`.

    Attributes
    ----------
    weight_ : ndarray, shape (K,)
        The factors.
    intercept_ : ndarray, shape (K,)
        What is added; the mean is 0.
    n_iter_ : int
        The steps of L-BFGS. Each reads all rows about once.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import VectorScaling
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(50_000, 2))
    >>> y = (z * [1, 2] + [1, 0] + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> VectorScaling().fit(z, y).weight_.round(1)
    array([1., 2.])
    """

    def __init__(
        self, from_probs: bool = False, tol: float = 1e-7, max_iter: SupportsIndex = 1000
    ) -> None:
        self.from_probs = from_probs
        self.tol = tol
        self.max_iter = max_iter

    def _shape(self, k: int) -> tuple[int, ...]:
        return (k,)

    def _identity(self, k: int, gain: float) -> Doubles:
        return np.full(k, gain)

    def _new_logits(self, z: Array, weight: Doubles, intercept: Doubles) -> Array:
        return np.where(np.isneginf(z), z, z * weight + intercept)

    def _gradient(self, z: Array, slopes: Array) -> Doubles:
        terms: Doubles = np.where(slopes == 0, 0.0, slopes * z)
        return np.asarray(terms.sum(axis=0))


class _FullScaling(_LinearScaling):
    """New logits from all old ones."""

    off_diagonal_l2: float

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not 0 <= as_number(self.off_diagonal_l2, "off_diagonal_l2") < np.inf:
            raise ValueError(
                f"off_diagonal_l2 must be finite and not negative, got {self.off_diagonal_l2!r}"
            )

    def _shape(self, k: int) -> tuple[int, ...]:
        return (k, k)

    def _identity(self, k: int, gain: float) -> Doubles:
        return gain * np.eye(k)

    def _new_logits(self, z: Array, weight: Doubles, intercept: Doubles) -> Array:
        return z @ weight.T + intercept

    def _gradient(self, z: Array, slopes: Array) -> Doubles:
        result: Doubles = slopes.T @ z
        return result

    def _penalty(self, weight: Doubles) -> tuple[float, Doubles]:
        off = weight * (1 - np.eye(len(weight)))
        strength = float(self.off_diagonal_l2)
        return strength * float(np.square(off).sum()), 2 * strength * off


class MatrixScaling(_FullScaling):
    r"""Map the logits of a row by a matrix, and add a vector: :math:`W z + b`.

    The mean loss plus :math:`\lambda \sum_{i \ne j} W_{ij}^2` is minimised: without a penalty, K^2
    weights fit noise (Guo et al.; Kull et al., who call it off-diagonal regularisation).

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.
    off_diagonal_l2 : float, default 0.01
        The penalty's strength; 0 for none. It applies to the elements off the diagonal only.
    tol, max_iter
        As for `VectorScaling`.

    Attributes
    ----------
    weight_ : ndarray, shape (K, K)
        The matrix W.
    intercept_ : ndarray, shape (K,)
        The vector b; its mean is 0.
    n_iter_ : int
        The steps of L-BFGS. Each reads all rows about once.

    Notes
    -----
    Logits of -inf are a ValueError: every new logit depends on all old ones.

    References
    ----------
    Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017; Kull,
    Perello-Nieto, Kaengsepp, Silva Filho, Song & Flach, "Beyond temperature scaling", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import MatrixScaling
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(5_000, 3))
    >>> y = (2 * z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> MatrixScaling(off_diagonal_l2=1.0).fit(z, y).weight_.round(0) + 0.0
    array([[2., 0., 0.],
           [0., 2., 0.],
           [0., 0., 2.]])
    """

    def __init__(
        self,
        from_probs: bool = False,
        off_diagonal_l2: float = 0.01,
        tol: float = 1e-7,
        max_iter: SupportsIndex = 1000,
    ) -> None:
        self.from_probs = from_probs
        self.off_diagonal_l2 = off_diagonal_l2
        self.tol = tol
        self.max_iter = max_iter

    def _features(self, rows: Scored, part: slice) -> Array:
        z = super()._features(rows, part)
        bad = np.isneginf(z).any(axis=1)
        if bad.any():
            raise ValueError(
                f"MatrixScaling needs finite logits; row {part.start + int(bad.argmax())} has one "
                "of -inf"
            )
        return z


class DirichletCalibration(_FullScaling):
    r"""Map the log-probabilities of a row by a matrix, and add a vector: :math:`W \log p + b`.

    That is the form of calibrated probabilities if p has a Dirichlet distribution in each class.
    Unlike `MatrixScaling`, it does not depend on what the logits of a row have in common.

    Parameters
    ----------
    from_probs : bool, default False
        Whether rows are probabilities. It is never guessed.
    off_diagonal_l2, tol, max_iter
        As for `MatrixScaling`.

    Attributes
    ----------
    weight_, intercept_, n_iter_
        As of `MatrixScaling`.

    Notes
    -----
    Log-probabilities below -87 count as -87, those of probability 0 included.

    References
    ----------
    Kull, Perello-Nieto, Kaengsepp, Silva Filho, Song & Flach, "Beyond temperature scaling:
    obtaining well-calibrated multiclass probabilities with Dirichlet calibration", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.calibration import DirichletCalibration
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=5_000)
    >>> alpha = np.array([[4.0, 2, 1], [1, 3, 2], [2, 2, 5]])
    >>> p = np.stack([rng.dirichlet(alpha[c]) for c in y])
    >>> fitted = DirichletCalibration(from_probs=True, off_diagonal_l2=0).fit(p, y)
    >>> (fitted.weight_ - fitted.weight_[0]).round(0)[1:] + 0.0  # those of alpha - 1
    array([[-3.,  1.,  1.],
           [-2.,  0.,  4.]])
    """

    _bears_impossible_labels: ClassVar[bool] = True

    def __init__(
        self,
        from_probs: bool = False,
        off_diagonal_l2: float = 0.01,
        tol: float = 1e-7,
        max_iter: SupportsIndex = 1000,
    ) -> None:
        self.from_probs = from_probs
        self.off_diagonal_l2 = off_diagonal_l2
        self.tol = tol
        self.max_iter = max_iter

    def _features(self, rows: Scored, part: slice) -> Array:
        log_p: Array = _core.log_softmax(super()._features(rows, part), -1)
        return np.asarray(np.maximum(log_p, _LEAST_LOG_PROB))


def _warn(found: Minimum, name: str) -> None:
    warnings.warn(
        f"{name} has not converged after {found.n_iter} steps, at a mean loss of {found.value:g}; "
        "raise max_iter or tol, or the penalty: the classes may be separable",
        ConvergenceWarning,
        stacklevel=4,
    )

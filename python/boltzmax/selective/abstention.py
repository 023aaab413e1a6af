"""Answers with a guarantee: a class where the row is sure enough, else none."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import one_of
from boltzmax._lib.parameters import Parameters
from boltzmax._lib.rational import as_share
from boltzmax._lib.scored import Scored, read_scores, read_scores_and_labels
from boltzmax.selective.bounds import last_rank, starting_ranks
from boltzmax.selective.confidence import SCORES, confidence
from boltzmax.selective.curves import group_ends

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]

BOUNDS = ("clopper_pearson", "hoeffding", "conformal_risk_control")


class SelectiveClassifier(Parameters):
    """Answer with a class where the score reaches a threshold, else with -1.

    The threshold is the lowest one with a guarantee, found on labelled rows that the model was not
    trained on:

    - ``bound="clopper_pearson"``: with probability `confidence` over those rows, the share of wrong
      answers among the answered rows is at most `target_risk`. Exact binomial tails.
    - ``bound="hoeffding"``: the same by Hoeffding's inequality, which answers fewer rows.
    - ``bound="conformal_risk_control"``: the share of rows that are answered wrongly, among all
      rows, is at most `target_risk` on average over those rows. `confidence` does not matter.

    All assume that new rows are drawn from the same distribution.

    Parameters
    ----------
    estimator : object, optional
        A fitted classifier, whose `predict_log_proba`, `decision_function` or `predict_proba` turns
        what is passed to `fit` and `predict` into scores; it is not fitted again. By default these
        are logits themselves.
    target_risk : float, default 0.01
        Between 0 and 1; its decimal digits count.
    confidence : float, default 0.95
        Between 0 and 1.
    score : str, default "max_prob"
        How sure a row is: see `boltzmax.selective.confidence`.
    bound : {"clopper_pearson", "hoeffding", "conformal_risk_control"}
        The guarantee.
    from_probs : bool, default False
        Whether rows are probabilities instead of logits.

    Attributes
    ----------
    threshold_ : float
        Rows whose score is at least this are answered; +inf if there is no guarantee.
    guaranteed_risk_ : float
        `target_risk`; NaN if there is no threshold for which it can be guaranteed.
    guarantee_ : str
        Which risk that is, in words.
    coverage_, risk_ : float
        The share of answered rows in `fit`, and the share of wrong answers among them.
    classes_ : ndarray
        What is answered: those of the estimator, else the columns' numbers.

    Notes
    -----
    Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017. Their
    binary search tests log2(N) thresholds, and needs a stricter bound for each. Here thresholds are
    tested one after the other, from sure rows to less sure ones, until one fails (fixed sequences,
    as in Angelopoulos et al., "Learn then Test", 2021): if the risk does not fall as the coverage
    grows, the first threshold whose risk is too high passes with a probability of at most
    1 - confidence, and no correction is due. Up to four sequences, from N/16 rows on, share that
    probability. Rows of the same score stand together. Conformal risk control: Angelopoulos, Bates,
    Fisch, Lei & Schuster, ICLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax.selective import SelectiveClassifier
    >>> rng = np.random.default_rng(0)
    >>> logits = 6 * rng.normal(size=(4000, 5))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> model = SelectiveClassifier(target_risk=0.05).fit(logits[:2000], y[:2000])
    >>> answer = model.predict(logits[2000:])
    >>> answered = answer >= 0
    >>> bool((answer != y[2000:])[answered].mean() <= 0.05), bool(answered.mean() > 0.5)
    (True, True)
    """

    threshold_: float
    guaranteed_risk_: float
    guarantee_: str
    coverage_: float
    risk_: float
    classes_: Array

    def __init__(
        self,
        estimator: Any = None,
        target_risk: float = 0.01,
        confidence: float = 0.95,
        *,
        score: str = "max_prob",
        bound: str = "clopper_pearson",
        from_probs: bool = False,
    ) -> None:
        self.estimator = estimator
        self.target_risk = target_risk
        self.confidence = confidence
        self.score = score
        self.bound = bound
        self.from_probs = from_probs

    def fit(self, logits: ArrayLike, y: ArrayLike) -> Self:
        """Find the threshold.

        Parameters
        ----------
        logits : array_like, shape (N, K) or (N,)
            Logits of K classes, or of class 1 of two; what the estimator reads if there is one.
        y : array_like, shape (N,)
            The classes: columns of the logits, or some of the estimator's `classes_`.

        Raises
        ------
        ValueError
            For a row with NaN or without a finite maximum; a class that is unknown; an estimator
            with a class -1, or without a column of scores for each class. Nothing is changed then.

        Warns
        -----
        UserWarning
            If no threshold has the guarantee: then no row is answered.
        """
        target, certainty = as_share(self.target_risk, "target_risk"), self._confidence()
        one_of(self.bound, "bound", BOUNDS)
        rows, classes = self._read_labelled(logits, y)
        score = self._score_of(rows)
        if np.isnan(score).any():
            rows.check_finite()
        wrong = _answers(rows) != rows.labels
        self.classes_ = classes
        self.threshold_ = safe_threshold(score, wrong, target, 1 - certainty, self.bound)
        answered = score >= self.threshold_
        self.coverage_ = float(answered.mean())
        self.risk_ = float(wrong[answered].mean()) if answered.any() else np.nan
        self.guarantee_ = guarantee_in_words(self.bound, certainty)
        self.guaranteed_risk_ = float(target)
        if self.threshold_ == np.inf:
            self.guaranteed_risk_ = np.nan
            warnings.warn(
                f"no threshold has a risk of at most {self.target_risk} that these "
                f"{rows.n_rows} rows can guarantee ({self.guarantee_}); no row will be answered",
                stacklevel=2,
            )
        return self

    def predict(self, logits: ArrayLike) -> Array:
        """Return the class of each row, or -1 where it is not sure enough or has NaN.

        If the estimator's classes are not integers, the array has dtype object.
        """
        self._check_is_fitted("threshold_")
        rows = self._read(logits)
        if rows.n_classes != len(self.classes_):
            raise ValueError(
                f"logits have {rows.n_classes} classes, but those of fit had {len(self.classes_)}"
            )
        with np.errstate(invalid="ignore"):
            answered = self._score_of(rows) >= self.threshold_
        integers = self.classes_.dtype.kind in "iu"
        found = np.full(rows.n_rows, -1, np.int64 if integers else object)
        found[answered] = self.classes_[_answers(rows)[answered]]
        return found

    def _confidence(self) -> Fraction:
        return as_share(self.confidence, "confidence")

    def _score_of(self, rows: Scored) -> Doubles:
        one_of(self.score, "score", SCORES)
        return confidence(rows.array, self.score, from_probs=rows.from_probs)

    def _read(self, logits: ArrayLike) -> Scored:
        from_probs = self.from_probs
        if self.estimator is not None:
            logits, from_probs = _scores_of(self.estimator, logits)
        return read_scores(logits, from_probs=from_probs, least=0)

    def _read_labelled(self, logits: ArrayLike, y: ArrayLike) -> tuple[Scored, Array]:
        """Return the rows with their labels, and what is answered for each class."""
        rows = self._read(logits)
        classes = np.arange(rows.n_classes)
        if self.estimator is not None:
            classes = _classes_of(self.estimator, rows.n_classes)
            y = _places(classes, y)
        return read_scores_and_labels(rows.array, y, from_probs=rows.from_probs), classes


def safe_threshold(
    score: Doubles, wrong: NDArray[np.bool_], target: Fraction, delta: Fraction, bound: str
) -> float:
    """Return the lowest threshold with the guarantee, or +inf."""
    n = len(score)
    order = np.argsort(-score, kind="stable")
    ends, thresholds = group_ends(score[order])
    answered, errors = ends + 1, np.cumsum(wrong[order], dtype=np.int64)[ends]
    if bound == "conformal_risk_control":
        allowed = (n + 1) * target.numerator // target.denominator - 1
        last = int(np.searchsorted(errors, allowed, side="right")) - 1
    else:
        last = last_rank(answered, errors, *starting_ranks(n, target, delta, bound))
    return float(thresholds[last]) if last >= 0 else np.inf


def guarantee_in_words(bound: str, confidence: Fraction) -> str:
    """Return which risk is guaranteed."""
    if bound == "conformal_risk_control":
        return "wrong answers among all rows, on average"
    return f"wrong answers among the answered rows, with confidence {float(confidence):g}"


def _answers(rows: Scored) -> Ids:
    """Return the likeliest class of each row."""
    found = np.zeros(rows.n_rows, np.int64)
    for part in rows.blocks():
        found[part] = rows.logits(part).argmax(axis=1)
    return found


def _scores_of(estimator: Any, x: ArrayLike) -> tuple[ArrayLike, bool]:
    """Return an estimator's scores, and whether they are probabilities."""
    with np.errstate(all="ignore"):
        for method in ("predict_log_proba", "decision_function", "predict_proba"):
            if hasattr(estimator, method):
                return getattr(estimator, method)(x), method == "predict_proba"
    raise TypeError(
        "estimator must have predict_log_proba, decision_function or predict_proba, got "
        f"{type(estimator).__name__}"
    )


def _classes_of(estimator: Any, columns: int) -> Array:
    """Return an estimator's classes, of which each has a column of the scores."""
    classes = np.asarray(estimator.classes_)
    if len(classes) != columns:
        raise ValueError(
            f"the estimator's scores have {columns} columns, but it has {len(classes)} classes"
        )
    if classes.dtype.kind in "if" and (classes == -1).any():
        raise ValueError("a class of the estimator is -1, which would mean no answer; rename it")
    return classes


def _places(classes: Array, y: ArrayLike) -> Ids:
    """Return the place of each label among the classes."""
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"y must be one class per row, got shape {labels.shape}")
    try:
        places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    except TypeError:
        raise TypeError(
            f"y must be classes of the estimator, {classes.dtype}, got {labels.dtype}"
        ) from None
    unknown = classes[places] != labels
    if unknown.any():
        row = int(unknown.argmax())
        raise ValueError(
            f"y has {labels.tolist()[row]!r} in row {row}, which is no class of the estimator"
        )
    return places

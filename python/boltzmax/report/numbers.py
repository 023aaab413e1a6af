"""What a report says: errors, calibration, abstention, prediction sets and classes, as numbers.

What is fitted (a temperature, thresholds) is fitted on the rows 0, 2, 4, ..., and measured on the
rows 1, 3, 5, ... Rows are read in blocks, so that they may be a memory map.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.numbers import loss_dtype
from boltzmax._lib.scored import Scored, read_scores_and_labels
from boltzmax.arrays.row_stats import row_stats
from boltzmax.calibration.errors import ece
from boltzmax.calibration.interval import ece_interval
from boltzmax.calibration.plots import wilson
from boltzmax.calibration.scores import brier_score
from boltzmax.calibration.temperature import TemperatureScaling, scaled
from boltzmax.conformal.base import SetPredictor
from boltzmax.conformal.predictors import APS, LAC, RAPS
from boltzmax.selective.abstention import SelectiveClassifier
from boltzmax.selective.hierarchical import HierarchicalAbstention
from boltzmax.trees.tree import Tree

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]

LEVEL = 0.95  # of all intervals, and of the guarantee
STEPS = 9  # that `measure` tells `advance` about, at most
_SHOWN = 10  # confident errors


class Estimate(NamedTuple):
    """A number and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Answers:
    """The likeliest class of each row, the confidence in it, and whether it is right."""

    predicted: NDArray[np.int32]
    confidence: Array
    right: Bools


@dataclass(frozen=True)
class Quality:
    """How good probabilities are, and the answers they were measured on."""

    nll: float
    brier: float
    ece: Estimate
    answers: Answers


@dataclass(frozen=True)
class Abstention:
    """Answers where the confidence reaches a threshold: coverage and risk on other rows."""

    target_risk: float
    threshold: float  # +inf if there is none with the guarantee
    guaranteed_risk: float
    guarantee: str
    coverage: float
    risk: float


@dataclass(frozen=True)
class Sets:
    """Prediction sets: how often they contain the label, and `counts[s]` sets of s classes."""

    method: str
    threshold: float
    coverage: float
    mean_size: float
    counts: Ids


@dataclass(frozen=True)
class Nodes:
    """Answers with nodes of a tree: `shares[d]` of the rows get one at depth d."""

    guaranteed_risk: float
    guarantee: str
    threshold: float
    risk: float
    to_class: float  # the share of the rows that get a class, not an inner node
    shares: Doubles


@dataclass(frozen=True)
class ConfidentError:
    """A wrong answer."""

    row: int
    label: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Classes:
    """One element for each class.

    `worst` has the classes with rows, those first whose accuracy is lowest at the upper end of its
    interval: a class of few rows is not among the worst by chance. `mistaken_for` is -1 where no
    row of the class is answered wrongly.
    """

    rows: Ids
    accuracy: Doubles  # of the rows with this label
    precision: Doubles  # of the rows with this answer
    confidence: Doubles  # in this answer, the mean
    mistaken_for: Ids
    worst: Ids


@dataclass(frozen=True)
class Report:
    """All of it."""

    rows: int
    n_classes: int
    fitted_on: int
    measured_on: int
    accuracy: Estimate
    temperature: float
    before: Quality
    after: Quality
    abstention: Abstention
    alpha: float
    sets: tuple[Sets, ...]
    nodes: Nodes | None
    errors: tuple[ConfidentError, ...]
    classes: Classes
    notes: tuple[str, ...]


def measure(
    logits: ArrayLike,
    y: ArrayLike,
    *,
    risk: float,
    alpha: float,
    tree: Tree | None = None,
    advance: Callable[..., None] = lambda step, note="": None,
) -> Report:
    """Measure everything.

    Parameters
    ----------
    logits : array_like, shape (N, K) or (N,)
        At least two rows of logits; single numbers are those of class 1 of two.
    y : array_like of int, shape (N,)
        The labels.
    risk : float
        How many of the answered rows may be wrong, between 0 and 1.
    alpha : float
        How often a prediction set may lack the label, between 0 and 1.
    tree : Tree, optional
        Its leaves are the classes.
    advance : callable, optional
        Called as ``advance(1, note)`` after each of at most `STEPS` steps.

    Raises
    ------
    IndexError, TypeError, ValueError
        As from `boltzmax.calibration.ece`; rows with NaN are counted, and the first is named.
    """
    rows = read_scores_and_labels(logits, y, least=2)
    fit, test = halves(rows)
    assert fit.labels is not None
    with _noted() as notes:
        answers = answers_of(rows)
        advance(1, "answers")
        temperature = TemperatureScaling().fit(fit.array, fit.labels).temperature_
        advance(1, "temperature")
        before = quality_of(test, 1.0)
        advance(1, "calibration before")
        after = quality_of(test, temperature)
        advance(1, "calibration after")
        abstention = abstention_of(fit, test, risk)
        advance(1, "abstention")
        sets = []
        for kind in (LAC, APS, RAPS):
            sets.append(sets_of(kind(alpha), fit, test))
            advance(1, "prediction sets")
        nodes = None if tree is None else nodes_of(tree, fit, test, risk)
        advance(1, "classes")
    labels = _labels(rows)
    return Report(
        rows=rows.n_rows,
        n_classes=rows.n_classes,
        fitted_on=fit.n_rows,
        measured_on=test.n_rows,
        accuracy=share_of(int(answers.right.sum()), rows.n_rows),
        temperature=temperature,
        before=before,
        after=after,
        abstention=abstention,
        alpha=alpha,
        sets=tuple(sets),
        nodes=nodes,
        errors=confident_errors(answers, labels),
        classes=classes_of(answers, labels, rows.n_classes),
        notes=tuple(notes),
    )


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Collect warnings, each once, instead of showing them."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    notes += dict.fromkeys(str(warning.message) for warning in caught)


def halves(rows: Scored) -> tuple[Scored, Scored]:
    """Return every other row, from the first and from the second: files may be sorted by class."""
    first, second = (
        Scored(rows.array[start::2], False, _labels(rows)[start::2].copy(), None)
        for start in (0, 1)
    )
    return first, second


def share_of(count: int, total: int) -> Estimate:
    """Return a share with Wilson's interval."""
    share = count / total
    low, high = wilson(np.array([share]), np.array([float(total)]), LEVEL)
    return Estimate(share, float(low[0]), float(high[0]))


def answers_of(rows: Scored, temperature: float = 1.0) -> Answers:
    """Return the answers of all rows; a ValueError counts those that have none."""
    found = Answers(
        np.empty(rows.n_rows, np.int32),
        np.empty(rows.n_rows, loss_dtype(rows.array.dtype)),
        np.empty(rows.n_rows, np.bool_),
    )
    for part in rows.blocks():
        stats = row_stats(scaled(rows.logits(part), temperature), k=1, entropy=False)
        assert stats.argmax is not None
        assert stats.max_log_prob is not None
        if np.isnan(stats.max_log_prob).any():
            rows.check_finite()
        found.predicted[part] = stats.argmax
        np.exp(stats.max_log_prob, out=found.confidence[part])
        np.equal(stats.argmax, _labels(rows)[part], out=found.right[part])
    return found


def quality_of(rows: Scored, temperature: float) -> Quality:
    """Return how good the probabilities at a temperature are."""
    loss = brier = 0.0
    for part in rows.blocks():
        z, labels = scaled(rows.logits(part), temperature), _labels(rows)[part]
        found = row_stats(z, labels, k=0, entropy=False).target_log_prob
        assert found is not None
        loss -= float(found.sum(dtype=np.float64))
        brier += len(z) * brier_score(z, labels)
    answers = answers_of(rows, temperature)
    pairs = answers.confidence, answers.right
    low, high = ece_interval(*pairs, from_probs=True, confidence=LEVEL)
    error = Estimate(ece(*pairs, from_probs=True), low, high)
    return Quality(loss / rows.n_rows, brier / rows.n_rows, error, answers)


def abstention_of(fit: Scored, test: Scored, risk: float) -> Abstention:
    """Return the threshold from some rows, and what it does to others."""
    model = SelectiveClassifier(target_risk=risk, confidence=LEVEL).fit(fit.array, _labels(fit))
    answer = model.predict(test.array)
    answered = answer >= 0
    wrong = (answer != _labels(test))[answered]
    return Abstention(
        target_risk=risk,
        threshold=model.threshold_,
        guaranteed_risk=model.guaranteed_risk_,
        guarantee=model.guarantee_,
        coverage=float(answered.mean()),
        risk=float(wrong.mean()) if len(wrong) else np.nan,
    )


def sets_of(predictor: SetPredictor, fit: Scored, test: Scored) -> Sets:
    """Return the coverage and the sizes of prediction sets, which are not kept."""
    predictor.fit(fit.array, _labels(fit))
    counts = np.zeros(test.n_classes + 1, np.int64)
    hits = 0
    for part in test.blocks():
        sets = predictor.predict(test.array[part], first_row=part.start)
        counts += np.bincount(sets.sizes, minlength=len(counts))
        hits += int(sets.contain(_labels(test)[part]).sum())
    return Sets(
        method=type(predictor).__name__,
        threshold=predictor.threshold_,
        coverage=hits / test.n_rows,
        mean_size=float(counts @ np.arange(len(counts))) / test.n_rows,
        counts=counts,
    )


def nodes_of(tree: Tree, fit: Scored, test: Scored, risk: float) -> Nodes:
    """Return the answers with nodes of a tree."""
    model = HierarchicalAbstention(tree, target_risk=risk, confidence=LEVEL)
    model.fit(fit.array, _labels(fit))
    found = model.predict(test.array)
    wrong = ~is_below(tree, _labels(test), found)
    shares = np.bincount(tree.node_depth[found]) / test.n_rows
    return Nodes(
        guaranteed_risk=model.guaranteed_risk_,
        guarantee=model.guarantee_,
        threshold=model.threshold_,
        risk=float(wrong.mean()),
        to_class=float((found < tree.n_classes).mean()),
        shares=shares,
    )


def is_below(tree: Tree, leaves: Ids, nodes: Ids) -> Bools:
    """Return whether each leaf is below a node, or the node itself."""
    here = leaves.copy()
    found: Bools = leaves == nodes
    depth = tree.node_depth
    while len(climbing := np.flatnonzero(depth[here] > depth[nodes])):
        here[climbing] = tree.parent[here[climbing]]
        found[climbing] = here[climbing] == nodes[climbing]
    return found


def confident_errors(answers: Answers, labels: Ids) -> tuple[ConfidentError, ...]:
    """Return the wrong answers with the largest confidence, the largest first."""
    wrong = np.flatnonzero(~answers.right)
    order = np.argsort(-answers.confidence[wrong], kind="stable")[:_SHOWN]
    return tuple(
        ConfidentError(int(i), int(labels[i]), int(answers.predicted[i]), float(c))
        for i, c in zip(wrong[order], answers.confidence[wrong[order]], strict=True)
    )


def classes_of(answers: Answers, labels: Ids, n_classes: int) -> Classes:
    """Return what there is to say about each class."""

    def sums(of: NDArray[Any], values: Sequence[Any] | Array | None = None) -> Doubles:
        return np.bincount(of, values, n_classes).astype(np.float64)

    count, given = sums(labels), sums(answers.predicted)
    hits = sums(labels, answers.right)
    with np.errstate(all="ignore"):
        accuracy, precision = hits / count, hits / given
        confidence = sums(answers.predicted, answers.confidence) / given
        _, high = wilson(accuracy, count, LEVEL)
    occurs = np.flatnonzero(count)
    return Classes(
        rows=count.astype(np.int64),
        accuracy=accuracy,
        precision=precision,
        confidence=confidence,
        mistaken_for=_mistaken_for(answers, labels, n_classes),
        worst=occurs[np.argsort(high[occurs], kind="stable")],
    )


def _mistaken_for(answers: Answers, labels: Ids, n_classes: int) -> Ids:
    """Return the most frequent wrong answer to each class, or -1."""
    wrong = ~answers.right
    pairs, count = np.unique(
        labels[wrong] * n_classes + answers.predicted[wrong], return_counts=True
    )
    order = np.argsort(count, kind="stable")  # the last of a class stays
    found = np.full(n_classes, -1)
    found[pairs[order] // n_classes] = pairs[order] % n_classes
    return found


def _labels(rows: Scored) -> Ids:
    assert rows.labels is not None
    return rows.labels

"""Scores of labels and sets of classes against an oracle that sorts; every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
import boltzmax.testing
from boltzmax import _core
from boltzmax.conformal import APS, LAC, RAPS, SAPS, ClassConditional
from boltzmax.conformal.scorer import PREDICTION
from set_oracle import APS as APS_RULE
from set_oracle import LAC as LAC_RULE
from set_oracle import SAPS as SAPS_RULE
from set_oracle import all_scores, probabilities

Array = NDArray[Any]
RULES = [
    (LAC_RULE, 0.0, 0.0),
    (APS_RULE, 0.0, 0.0),
    (APS_RULE, 0.01, 5.0),
    (APS_RULE, 0.1, 0.0),
    (SAPS_RULE, 0.05, 0.0),
    (SAPS_RULE, 0.0, 0.0),
]
# Short rows go lane by lane; others have whole vectors and tails.
LENGTHS = [1, 2, 3, 7, 8, 16, 17, 24, 25, 33, 64, 65, 100, 257, 500]
PREDICTORS = [LAC(), APS(), RAPS(), SAPS(), APS(randomized=False)]


def rows_of(n: int, dtype: Any, seed: int, rows: int = 9) -> Array:
    """Rows with ties, -inf, a large offset, equal elements and sharp peaks among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, n)) * np.array([0.1, 1, 3, 10, 30, 1, 1, 0, 2])[:rows, None]
    x[5] = np.round(x[5])
    x[6] += 3000
    x[8, rng.random(n) < 0.4] = -np.inf
    x[8, n // 2] = 1.0
    return x.astype(dtype)


def scores_of(x: Array, rule: Any, labels: Array, u: Array) -> Array:
    found = np.empty(len(x))
    _core.label_scores(x, rule, np.ascontiguousarray(labels, np.int64), u, found)
    return found


def sets_of(x: Array, rule: Any, threshold: float, thresholds: Any, u: Array) -> Any:
    size = np.empty(len(x), np.int64)
    ids, probs = np.empty(x.size, np.int32), np.empty(x.size, x.dtype)
    total = _core.prediction_sets(x, rule, threshold, thresholds, u, size, ids, probs)
    return ids[:total], probs[:total], size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", LENGTHS)
def test_scores_and_sets_match_the_oracle(n: int, dtype: Any, isa: str) -> None:
    x = rows_of(n, dtype, n)
    rng = np.random.default_rng(n)
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    for rule in RULES:
        u = rng.random(len(x)) if rng.random() < 0.7 else np.ones(len(x))
        every = np.stack([scores_of(x, rule, np.full(len(x), c), u) for c in range(n)], axis=1)
        exact = all_scores(x, rule, u).astype(np.float64)
        np.testing.assert_allclose(every, exact, rtol=tolerance, atol=tolerance)
        # Sets follow from the scores, without exceptions: also at a score that is the threshold.
        thresholds = rng.choice(every.ravel(), n)
        thresholds[rng.random(n) < 0.3] = np.inf
        for threshold, by_class in (
            (float(rng.choice(every.ravel())), None),
            (1.0, None),
            (float(rng.random()), None),
            (np.inf, None),
            (np.inf, thresholds),
        ):
            ids, probs, size = sets_of(x, rule, threshold, by_class, u)
            wanted = every <= (threshold if by_class is None else by_class)
            np.testing.assert_array_equal(size, wanted.sum(axis=1))
            row, column = np.nonzero(wanted)
            np.testing.assert_array_equal(ids, column)
            p = probabilities(x)[row, column].astype(np.float64)
            tiny = float(np.finfo(dtype).tiny)
            np.testing.assert_allclose(probs, p, rtol=2 * tolerance, atol=tiny)


@pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
def test_long_rows_match_the_oracle(predictor: Any, isa: str) -> None:
    """Rows beyond a segment, and nearly constant ones."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 70_001)).astype(np.float32) * np.array([[1], [4], [0.01]], np.float32)
    u = np.array([0.3, 0.9, 0.5])
    rule = predictor._rule()
    for threshold in (0.5, 0.9, 0.999):
        ids, probs, size = sets_of(x, rule, threshold, None, u)
        for r, row in enumerate(x):
            part = slice(size[:r].sum(), size[: r + 1].sum())
            inside = np.zeros(row.size, bool)
            inside[ids[part]] = True
            if 0 < size[r] < row.size:
                edge = [
                    int(np.where(inside, row, np.inf).argmin()),
                    int(np.where(inside, -np.inf, row).argmax()),
                ]
                below = scores_of(x[[r, r]], rule, np.array(edge), u[[r, r]])
                assert below[0] <= threshold < below[1]
            np.testing.assert_allclose(probs[part], boltzmax.softmax(row)[ids[part]], rtol=1e-5)


def test_equal_elements(isa: str) -> None:
    """All are in the set or none."""
    x = np.zeros((2, 5000), np.float32)
    _, _, size = sets_of(x, (APS_RULE, 0.0, 0.0), 0.5, None, np.array([0.4, 0.6]))
    assert size.tolist() == [5000, 0]
    _, _, size = sets_of(x, (LAC_RULE, 0.0, 0.0), 1 - 1 / 5000, None, np.ones(2))
    assert size.tolist() == [5000, 5000]


@pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
def test_rows_without_probabilities(predictor: Any) -> None:
    """Their sets are full, so that the promise is kept; in `fit` they are errors."""
    x = np.random.default_rng(0).normal(size=(200, 30))
    y = x.argmax(axis=1)
    predictor.fit(x, y)
    x[0, 3], x[1], x[2, 5] = np.nan, -np.inf, np.inf
    sets = predictor.predict(x)
    assert sets.sizes[:3].tolist() == [30] * 3
    assert np.isnan(sets.probs[:90]).all()
    assert (sets.sizes[3:] < 30).any()
    with pytest.raises(ValueError, match="3 rows have not, the first is row 0"):
        predictor.fit(x, y)
    with pytest.raises(ValueError, match="the first is row 0"):
        predictor.p_values(x, y)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rows_of_16_bits_are_those_of_floats(name: str, isa: str) -> None:
    dtype = np.dtype(np.float16)
    if name == "bfloat16":
        dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    for n in (10, 300):
        x = np.random.default_rng(n).normal(size=(300, n)).astype(dtype)
        y = np.random.default_rng(1).integers(0, n, 300)
        sets = APS().fit(x, y).predict(x)
        wide = APS().fit(x.astype(np.float32), y).predict(x.astype(np.float32))
        np.testing.assert_array_equal(sets.ids, wide.ids)
        np.testing.assert_array_equal(sets.probs, wide.probs)


@pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
@pytest.mark.parametrize("n", [10, 700])
def test_batches_threads_and_layouts_do_not_matter(predictor: Any, n: int) -> None:
    x = np.random.default_rng(n).normal(size=(600, n)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, n, 600)
    predictor.fit(x, y)
    whole = predictor.predict(x)
    parts = [predictor.predict(x[a : a + 37], first_row=a) for a in range(0, 600, 37)]
    np.testing.assert_array_equal(whole.ids, np.concatenate([p.ids for p in parts]))
    np.testing.assert_array_equal(whole.probs, np.concatenate([p.probs for p in parts]))
    threads = boltzmax.get_num_threads()
    try:
        boltzmax.set_num_threads(3)
        many = predictor.predict(np.asfortranarray(x))
    finally:
        boltzmax.set_num_threads(threads)
    np.testing.assert_array_equal(whole.indptr, many.indptr)
    np.testing.assert_array_equal(whole.ids, many.ids)


def test_class_thresholds_of_long_rows(isa: str) -> None:
    x = (3 * np.random.default_rng(0).normal(size=(400, 200))).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 3, 400)
    with pytest.warns(UserWarning, match="197 of 200 classes have too few rows"):
        predictor = ClassConditional(APS(alpha=0.2)).fit(x, y)
    sets = predictor.predict(x)
    assert (sets.sizes >= 197).all()
    scorer = predictor._scoring
    u = scorer.uniform(PREDICTION, 0, 400)
    for c in range(3):
        within = scores_of(x, scorer.rule, np.full(400, c), u) <= predictor.thresholds_[c]
        np.testing.assert_array_equal(sets.contain(np.full(400, c)), within)

"""The reader of scores and labels, which calibration, abstention and conformal sets share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from boltzmax._lib.scored import read_scores, read_scores_and_labels


def read(logits: Any, y: Any = None, **options: Any) -> Any:
    if y is None:
        return read_scores(logits, **options)
    return read_scores_and_labels(logits, y, **options)


def test_logits_are_a_view() -> None:
    x = np.zeros((4, 3), np.float32)
    rows = read(x, [0, 1, 2, 0])
    assert np.shares_memory(rows.logits(slice(1, 3)), x)
    assert (rows.n_rows, rows.n_classes, rows.total_weight) == (4, 3, 4.0)


def test_columns_are_copied_in_blocks() -> None:
    x = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    assert read(x).logits(slice(1, 3)).tolist() == x[1:3].tolist()


def test_blocks_cover_all_rows() -> None:
    rows = read(np.zeros((10, 1 << 20)))
    blocks = list(rows.blocks())
    assert [b.start for b in blocks] == list(range(10))
    assert blocks[-1].stop == 10


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_number_is_the_logit_of_class_1(dtype: type) -> None:
    x = np.array([-2.0, 3.0], dtype)
    found = read(x, [True, False]).logits(slice(0, 2))
    assert found.tolist() == [[0, -2], [0, 3]]
    assert found.dtype == dtype


def test_logarithms_of_small_and_large_probabilities_keep_their_digits() -> None:
    found = read(np.array([1e-20, 1.0]), from_probs=True).logits(slice(0, 2))
    np.testing.assert_allclose(found, [[-1e-20, np.log(1e-20)], [-np.inf, 0]])


def test_a_probability_of_0_masks_a_class() -> None:
    found = read([[0.0, 0.25, 0.75]], from_probs=True).logits(slice(0, 1))
    np.testing.assert_allclose(found, [[-np.inf, np.log(0.25), np.log(0.75)]])


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        ([[0.5, 0.5], [2.0, 1.0]], "sum to 3 in row 1; logits need from_probs=False"),
        ([[0.5, 0.5], [-0.5, 1.5]], "down to -0.5 in row 1"),
        ([[0.5, 0.5], [np.nan, 1.0]], "in row 1"),
        ([0.5, 1.5], "got 1.5 in row 1"),
        ([0.5, np.nan], "got nan in row 1"),
    ],
)
def test_what_is_no_probability_is_refused(logits: Any, words: str) -> None:
    rows = read(logits, from_probs=True)
    with pytest.raises(ValueError, match=words):
        rows.logits(slice(0, 2))
    with pytest.raises(ValueError, match=words):
        rows.probabilities(slice(0, 2))


def test_rounded_probabilities_are_accepted() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(50), 20)
    assert read(p.astype(np.float16), from_probs=True).logits(slice(0, 20)).dtype == np.float32
    assert np.isfinite(read(np.round(p, 5) + 1e-9, from_probs=True).logits(slice(0, 20))).all()


def test_rows_without_probabilities_are_counted() -> None:
    x = np.zeros((6, 3))
    read(x).check_finite()
    x[2, 1], x[4] = np.nan, -np.inf
    x[5, 0] = np.inf
    with pytest.raises(ValueError, match=r"no NaN in each row; 3 rows have not, .* row 2$"):
        read(x).check_finite()
    with pytest.raises(ValueError, match=r"; 1 row has not, the first is row 2$"):
        read(x[:4]).check_finite()


@pytest.mark.parametrize(
    ("logits", "y", "options", "error", "words"),
    [
        (np.zeros((2, 3, 4)), [0, 0], {}, ValueError, r"got shape \(2, 3, 4\)"),
        (np.zeros((2, 0)), [0, 0], {}, ValueError, r"got shape \(2, 0\)"),
        (np.zeros((0, 3)), [], {}, ValueError, r"at least 1 row, got shape \(0, 3\)"),
        (np.zeros((2, 3)), [0, 3], {}, IndexError, "y 3 at position 1 is out of range"),
        (np.zeros((2, 3)), [0.0, 1.0], {}, TypeError, "y must be integers"),
        (np.zeros((2, 3)), [True, False], {}, TypeError, "y must be integers"),
        (np.zeros((2, 3)), [0], {}, ValueError, "y must have one class for each row"),
        (np.zeros(2), [0, 2], {}, IndexError, "y 2 at position 1"),
        (["a"], [0], {}, TypeError, "logits must be"),
        (np.zeros(2), [0, 1], {"sample_weight": [1, -1]}, ValueError, "got -1 in row 1"),
        (np.zeros(2), [0, 1], {"sample_weight": [1, np.inf]}, ValueError, "got inf in row 1"),
        (np.zeros(2), [0, 1], {"sample_weight": [0, 0]}, ValueError, "0 in every row"),
        (np.zeros(2), [0, 1], {"sample_weight": [1]}, ValueError, "one number per row"),
        (np.zeros(2), np.ma.array([0, 1]), {}, TypeError, "y is a masked array"),
    ],
)
def test_refusals(logits: Any, y: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read_scores_and_labels(logits, y, **options)


def test_weights() -> None:
    rows = read(np.zeros((3, 2)), [0, 1, 1], sample_weight=[1, 0, 2])
    assert rows.total_weight == 3.0
    assert rows.weight(slice(1, 3)).tolist() == [0.0, 2.0]
    assert read(np.zeros((3, 2)), [0, 1, 1]).weight(slice(1, 3)).tolist() == [1.0, 1.0]

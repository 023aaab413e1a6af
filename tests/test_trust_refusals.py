"""All that judges a classifier refuses bad logits, labels and weights with the same errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import boltzmax
import trust_calls
from boltzmax import calibration, conformal, selective
from boltzmax.calibration.registry import METHODS
from test_refusals import CLASSES, NAN, Values


def judges() -> Iterator[tuple[str, Callable[..., Any]]]:
    """All that read logits and labels to judge or mend a classifier, by name."""
    for name in (*trust_calls.OF_LABELS, "ece_interval", "reliability_curve"):
        yield name, getattr(calibration, name)
    for kind in METHODS.values():
        yield kind.__name__, kind().fit
    for made in (
        *(conformal.LAC(), conformal.APS(), conformal.RAPS(), conformal.SAPS()),
        *(conformal.ClassConditional(conformal.LAC()), selective.SelectiveClassifier()),
        conformal.ClusterConditional(conformal.LAC(), 2),
        selective.HierarchicalAbstention(boltzmax.Tree.balanced(CLASSES)),
    ):
        yield type(made).__name__, made.fit


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"y": [0, 3]}, IndexError, r"y 3 at position 1 is out of range for 3 classes"),
        ({"y": [-1, 0]}, IndexError, r"y -1 at position 0 is out of range for 3 classes"),
        ({"y": [0.0, 1.0]}, TypeError, r"y must be integers of shape \(2,\), got float64 .+"),
        ({"y": [0]}, ValueError, r"y must have one class for each row, shape \(2,\), got .+"),
        ({"logits": [[NAN, 0, 0], [0, 0, 0]]}, ValueError, r"logits must .+ first is row 0"),
        ({"logits": np.zeros((2, 1, 3))}, ValueError, r"logits must be \(rows, classes\), .+"),
        ({"logits": np.zeros((2, 0))}, ValueError, r"logits must be \(rows, classes\), .+"),
        ({"logits": np.zeros((0, 3)), "y": []}, ValueError, r"logits must have at least 1 row, .+"),
        ({"sample_weight": [1, -1]}, ValueError, r"sample_weight must be .+, got -1 in row 1"),
        ({"sample_weight": [0, 0]}, ValueError, r"sample_weight is 0 in every row"),
        ({"sample_weight": [1]}, ValueError, r"sample_weight .+"),
        ({"sample_weight": [1e308, 1e308]}, ValueError, r"sample_weight must sum to .+, got inf"),
    ],
)
def test_judges_refuse_alike(given: Values, error: type[Exception], words: str) -> None:
    scores = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    taken = 0
    for name, judge in judges():
        if given.keys() <= {"logits", "y", *inspect.signature(judge).parameters}:
            with pytest.raises(error) as found:
                judge(**({"logits": scores, "y": [0, 1]} | given))
            assert re.fullmatch(words, str(found.value)), f"{name}: {found.value}"
            taken += 1
    assert taken > 15

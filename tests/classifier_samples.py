"""What the tests of classifiers share; their data sets are fixtures of conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sklearn")

from scipy import sparse

from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier

Array = NDArray[Any]
Make = Callable[..., Any]

BOTH = pytest.mark.parametrize("make", [SoftmaxClassifier, HierarchicalSoftmaxClassifier])
SOLVERS = pytest.mark.parametrize("solver", ["lbfgs", "adam"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CONTAINERS = pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])


def coefficients(model: Any) -> Array:
    """Return the coefficients of a trained classifier, (units, D)."""
    return np.asarray(model.coef_ if hasattr(model, "coef_") else model.layer_.weight)

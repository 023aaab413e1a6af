"""Corner cases of the SciPy replacements: signed zeros, and axes beyond C integers."""

from __future__ import annotations

import numpy as np
import pytest

from boltzmax import special

scipy_special = pytest.importorskip("scipy.special")
NAMES = ("softmax", "log_softmax", "logsumexp")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_one_element_with_the_sign_of_zero(name: str, dtype: str) -> None:
    for shape in ((), (1,), (1, 1)):
        for zero in (0.0, -0.0):
            x = np.full(shape, zero, dtype)
            ours, peer = (getattr(m, name)(x) for m in (special, scipy_special))
            assert not np.signbit(ours).any()
            assert np.signbit(peer).any() == np.signbit(ours).any()


@pytest.mark.parametrize("name", NAMES)
def test_axes_beyond_the_integers_of_c(name: str) -> None:
    """An AxisError, where SciPy raises one of two other errors."""
    for axis in (10**10, -(10**30), (10**10,), (0, 10**30), np.int64(2**40), np.uint64(2**63)):
        for x in (np.zeros((2, 3)), [[0, 1]], np.zeros(2, np.longdouble), 1.0):
            with pytest.raises(np.exceptions.AxisError, match="is out of bounds for array of dim"):
                getattr(special, name)(x, axis=axis)

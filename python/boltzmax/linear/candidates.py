"""What a screen finds: for each row the classes that may be among its k likeliest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Candidates(NamedTuple):
    """The classes of each row whose upper bound reaches the row's k-th largest lower bound.

    So the k classes with the largest exact logits are among them. The candidates of row i are the
    elements from ``indptr[i]`` to ``indptr[i + 1]`` of the other arrays, by increasing id.
    """

    indptr: NDArray[np.int64]
    ids: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

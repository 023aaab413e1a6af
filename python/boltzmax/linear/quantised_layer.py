"""The full softmax layer with weights of few bits, which answers but does not learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from boltzmax import _core
from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.bad_rows import are_marked, refuse_bad_rows
from boltzmax._lib.files import FileName
from boltzmax._lib.output_layer import Array, Classes, read_min_prob
from boltzmax._lib.random import random_key
from boltzmax._lib.read_only import ReadOnlyLayer
from boltzmax.linear.quantised import QuantizedLinear


class QuantizedSoftmax(ReadOnlyLayer):
    """A softmax layer whose weights have few bits: what `LinearSoftmax.quantize` returns.

    It has the methods of `LinearSoftmax`. Those that train raise a TypeError.

    Parameters
    ----------
    linear : QuantizedLinear
        The weights and biases.
    dtype : {float32, float64}
        The dtype of hidden vectors and results.

    Attributes
    ----------
    linear : QuantizedLinear
    n_classes, n_features, nbytes : int
    dtype : numpy.dtype

    See Also
    --------
    TwoStageClassifier : answers of the exact weights.

    Examples
    --------
    >>> import numpy as np, boltzmax
    >>> layer = boltzmax.LinearSoftmax(1000, 64, seed=0)
    >>> small = layer.quantize(8)
    >>> small.nbytes < 0.4 * layer.weight.nbytes
    True
    >>> hidden = 5 * layer.weight[:3]
    >>> small.predict(hidden)
    array([0, 1, 2])
    >>> bool(abs(small.loss(hidden, [0, 1, 2]) - layer.loss(hidden, [0, 1, 2])) < 0.01)
    True
    """

    def __init__(self, linear: QuantizedLinear, dtype: DTypeLike = np.float32) -> None:
        if not isinstance(linear, QuantizedLinear):
            raise TypeError(f"linear must be a QuantizedLinear, got {type(linear).__name__}")
        self.linear, self.n_features = linear, linear.n_features
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64, got {self.dtype}")

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return self.linear.n_classes

    @property
    def nbytes(self) -> int:
        """The bytes of weights, biases and bounds."""
        return self.linear.nbytes

    def _log_prob(self, x: Array, classes: Classes) -> Array:
        return self.linear.log_prob(x.astype(np.float64), classes)

    @quietly
    def log_prob_all(self, hidden: ArrayLike) -> Array:
        """Return the log-probability of every class, (N, n_classes)."""
        x, is_bad = self._finite(hidden)
        scores = self.linear.logits(x).astype(self.dtype, copy=False)
        scores[is_bad] = np.nan
        return _core.log_softmax(scores, -1, out=scores)

    @quietly
    def topk(self, hidden: ArrayLike, k: int, *, min_prob: float = 0.0) -> tuple[Classes, Array]:
        """Return the k likeliest classes of each row, and their log-probabilities.

        See `LinearSoftmax.topk`.
        """
        count, least = check_count(k, "k", 1, self.n_classes), read_min_prob(min_prob)
        x, is_bad = self._finite(hidden)
        ids, log_probs = self.linear.topk(x, count)
        missing = (log_probs < least) | is_bad[:, None]
        ids[missing], log_probs[missing] = -1, -np.inf
        return ids, log_probs.astype(self.dtype, copy=False)

    @quietly
    def sample(
        self,
        hidden: ArrayLike,
        rng: int | np.random.Generator | None = None,
        *,
        errors: str = "raise",
    ) -> Classes:
        """Draw a class for each row, (N,): the one with the largest sum of logit and Gumbel noise.

        The noise depends on the key (`rng` or its next number), the row and the class. A row that
        is not finite is a ValueError that names it, or, with errors="mark", has the class -1.
        """
        marks, key = are_marked(errors), random_key(rng)
        x, is_bad = self._finite(hidden)
        if not marks:
            refuse_bad_rows(is_bad, is_bad.shape)
        found = self.linear._stored_winners(np.asarray(x, np.float64), key)
        ids = found.ids[found.indptr[:-1]]
        ids[is_bad] = -1
        return ids

    # ---- files ----

    def save(self, path: FileName) -> None:
        """Write the layer to one file, which `QuantizedLinear.load` reads, too."""
        self.linear.save(path)

    @classmethod
    def load(cls, path: FileName, *, dtype: DTypeLike = np.float32, verify: bool = True) -> Self:
        """Map what `save` wrote into memory, read-only.

        The file holds no `dtype`. See `QuantizedLinear.load` for `verify` and the errors.
        """
        return cls(QuantizedLinear.load(path, verify=verify), dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.linear, self.dtype)

    def __repr__(self) -> str:
        return f"QuantizedSoftmax({self.linear!r}, dtype={self.dtype})"

"""Mirostat: keep so many classes that the surprise of the drawn ones is near a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boltzmax import _core
from boltzmax._lib.arguments import quietly
from boltzmax.sampling.steps import Step, read_numbers

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST = float(np.finfo(np.float64).max)
_ZIPF_CLASSES = 100  # the likeliest ones, from which version 1 estimates the exponent


@dataclass(frozen=True, eq=False)
class Mirostat(Step):
    """Keep so many of the likeliest classes that draws have a surprise of `tau` bits on average.

    Each row has a number mu, at first 2 tau. After a draw with probability p, the error
    ``-log2(p) - tau`` times `eta` is subtracted from it. `Chain` keeps these numbers; there,
    Mirostat is the last step.

    Parameters
    ----------
    tau : float, default 5.0
        The aim, in bits: above 0.
    eta : float, default 0.1
        The rate at which mu is corrected: above 0.
    version : {2, 1}, default 2
        2 keeps the classes whose surprise is at most mu, and at least the likeliest one. 1
        estimates the exponent of Zipf's law from the 100 likeliest classes, and from it the number
        of classes for which the surprise is mu.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Notes
    -----
    S. Basu et al., "Mirostat: A neural text decoding algorithm that directly controls perplexity",
    ICLR 2021: algorithms 1 and 2.

    Examples
    --------
    >>> from boltzmax.sampling import Chain, Mirostat
    >>> chain = Chain([Mirostat(tau=0.5, eta=0.1)], rng=1)
    >>> int(chain([2.0, 0.0, -3.0]).kept)
    1
    >>> round(float(chain.mu), 3)
    1.05
    """

    tau: float = 5.0
    eta: float = 0.1
    version: int = 2

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("tau", "eta"):
            allowed = "positive and finite"
            number = read_numbers(getattr(self, name), name, allowed, math.ulp(0.0), _MOST)
            if not isinstance(number, float):
                raise TypeError(f"{name} must be a single number, got {number!r}")
            self._set(name, number)
        if isinstance(self.version, bool) or self.version not in (1, 2):
            raise ValueError(f"version must be 1 or 2, got {self.version!r}")

    @quietly
    def counts(self, logits: Array, mu: Floats) -> Ints:
        """Return how many classes of each row, of a matrix, are kept."""
        counts = self._within(logits, mu) if self.version == 2 else self._by_zipf(logits, mu)
        return np.maximum(counts, 1).astype(np.int64)

    def next_mu(self, mu: Floats, log_probs: Floats) -> Floats:
        """Return mu after draws; rows without one (NaN) keep theirs."""
        error = -log_probs / math.log(2.0) - self.tau
        return np.where(np.isnan(error), mu, mu - self.eta * error)

    @staticmethod
    def _within(logits: Array, mu: Floats) -> Ints:
        """Count the classes of a surprise of at most mu."""
        least = _core.logsumexp(logits, dtype=np.float64) - mu * math.log(2.0)
        return np.asarray(np.count_nonzero(logits >= least[:, None], axis=1), np.int64)

    @staticmethod
    def _by_zipf(logits: Array, mu: Floats) -> Ints:
        """Return the number of classes for which the surprise is mu, from Zipf's law."""
        classes = logits.shape[1]
        counts = np.ones(len(logits), np.int64)
        for r, row in enumerate(logits):
            k = min(_ZIPF_CLASSES, classes)
            likeliest = np.sort(np.partition(row, classes - k)[classes - k :])[::-1]
            likeliest = likeliest[np.isfinite(likeliest)].astype(np.float64)
            if len(likeliest) < 2:
                continue
            rank = np.arange(1, len(likeliest))
            t, b = np.log((rank + 1) / rank), likeliest[:-1] - likeliest[1:]
            exponent = (t * b).sum() / (t * t).sum()
            over = exponent - 1.0
            # over / (1 - classes^-over), and its limit at 0
            ratio = 1.0 / math.log(classes)
            if over != 0.0:
                ratio = over / -np.expm1(-over * math.log(classes))
            k_of_mu = np.power(ratio * np.exp2(mu[r]), np.divide(1.0, exponent))
            counts[r] = int(min(k_of_mu, classes)) if k_of_mu >= 1.0 else 1
        return counts

r"""How likely a class is among the first n different ones that are drawn: successive sampling.

Draws at the times of a Poisson process of rate 1 make the first draws of classes independent: that
of a class with probability q is at an exponential time of rate q. So a class is among the first n
if its time t comes before the n-th of the others' (Rosen, J. Stat. Planning and Inference 62, 1997,
on order sampling):

.. math:: \pi(q) = \int_0^\infty q e^{-q t} \, P(N_t < n) \, dt

where N_t counts the other classes drawn until t: a sum of independent events of the probabilities
:math:`p_j = 1 - e^{-q_j t}`. Its distribution is an inverse Fourier transform of
:math:`\prod_j (1 - p_j + p_j e^{i \theta})` (Hong, Computational Statistics & Data Analysis 59,
2013), and the integral is taken by Gauss and Legendre's rule in log t. No sum over subsets is
needed, and a product over classes takes classes of the same probability together.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]

MOST_GROUPS = 4096  # classes of more different probabilities are grouped
MOST_POINTS = 512  # above, inclusion probabilities are interpolated
_TINY = 1e-14  # tails of distributions are cut where they are less likely
_SMALL = 1 / 16  # logarithms of 1 + p (z - 1) are taken by their series for smaller p
_TERMS = 16
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_WIDEST = 1.5  # of a panel of those nodes, in log t


class Groups(NamedTuple):
    """Classes, those of the same or about the same probability together."""

    q: Floats  # their probabilities
    size: Floats  # how many classes; negative to take some out of another group
    low: float  # the smallest and the largest probability of a class
    high: float
    is_exact: bool = True  # whether no different probabilities are together

    @property
    def classes(self) -> float:
        """The number of classes."""
        return float(self.size.sum())

    def log_time_of(self, n: int) -> float:
        """Return log t by which the n likeliest classes have been drawn, but for _TINY.

        By the union bound: each of them is still to come with a probability of at most
        exp(-q t), where q is that of the n-th.
        """
        # What is taken out comes after what it is taken from, whose q may be rounded otherwise.
        order = np.argsort(-np.where(self.size > 0, self.q, self.q * (1 - 1e-6)))
        short = np.flatnonzero(np.cumsum(self.size[order]) < n - 0.5)
        q = float(self.q[order[short[-1] + 1 if len(short) else 0]])
        return math.log(math.log(n) - math.log(_TINY)) - math.log(q)

    def without(self, q: Floats, rest: float) -> Groups:
        """Return the groups without classes of probabilities q, relative to the `rest`."""
        size = np.concatenate([self.size, np.full(len(q), -1.0)])
        low, high = self.low / rest, min(self.high / rest, 1.0)
        return Groups(np.concatenate([self.q, q]) / rest, size, low, high, self.is_exact)


def group_classes(log_q: Floats) -> Groups:
    """Group classes: by their probabilities, or if there are too many, by ranges of these.

    A group has the mean probability of its classes. Ranges span at most a factor of
    1 + 2 log(max / min) / MOST_GROUPS.
    """
    drawn = log_q[log_q > -np.inf]
    if len(drawn) <= 16 * MOST_GROUPS:
        values, times = np.unique(drawn, return_counts=True)
        if len(values) <= MOST_GROUPS:
            q = np.exp(values)
            return Groups(q, times.astype(np.float64), float(q[0]), float(q[-1]))
    low, high = float(drawn.min()), float(drawn.max())
    scale = (MOST_GROUPS - 1) / max(high - low, 1e-300)
    place = ((drawn - low) * scale).astype(np.int64)
    size = np.bincount(place, minlength=MOST_GROUPS).astype(np.float64)
    mass = np.bincount(place, weights=np.exp(drawn), minlength=MOST_GROUPS)
    some = size > 0
    q = np.asarray(mass[some] / size[some])
    return Groups(q, size[some], math.exp(low), math.exp(high), False)


class Inclusion:
    """The logarithms of inclusion probabilities for n different classes.

    Max error 1e-9 for at most 512 different probabilities, 1e-6 for at most 4096, 1e-5 for more.

    Parameters
    ----------
    groups : Groups
        All classes that may be drawn, more than n.
    n : int
        The number of different classes, at least 1.
    """

    def __init__(self, groups: Groups, n: int) -> None:
        self._groups, self._n = groups, n
        single = np.unique(groups.q[groups.size > 0])
        self._is_exact = groups.is_exact and len(single) <= MOST_POINTS
        self._log_q = np.log(single)
        if not self._is_exact:
            self._log_q = np.linspace(math.log(groups.low), math.log(groups.high), MOST_POINTS)
        # Divided by q they hardly vary, except for the most likely classes.
        self._log_ratio = np.log(self._integrate(np.exp(self._log_q))) - self._log_q

    def of(self, log_q: Floats) -> Floats:
        """Return the logarithms of the inclusion probabilities of classes."""
        x, y = self._log_q, self._log_ratio
        if self._is_exact:
            k = np.clip(np.searchsorted(x, log_q), 1, max(len(x) - 1, 1)) - 1
            last = np.minimum(k + 1, len(x) - 1)
            ratio = np.where(np.abs(log_q - x[k]) < np.abs(log_q - x[last]), y[k], y[last])
        else:
            ratio = _interpolate(x, y, log_q)
        return np.minimum(log_q + ratio, 0.0)

    def _integrate(self, q: Floats) -> Floats:
        """Return the inclusion probabilities of classes of probabilities q."""
        low, high = self._transition()
        total = -np.expm1(-q * math.exp(low))  # P(N_t < n) is 1 before
        panels = max(3, math.ceil((high - low) / _WIDEST))
        width = (high - low) / panels
        for i in range(panels):
            t = np.exp(low + width * (i + 0.5 + 0.5 * _NODES))
            weights = 0.5 * width * _WEIGHTS * t
            total += _below(self._groups, self._n, t, weights, q)
        return np.minimum(total, 1.0)

    def _transition(self) -> tuple[float, float]:
        """Return log t between which the probability of N_t < n goes from 1 to 0.

        By Chernoff's bounds for the numbers of classes that were drawn, and that were not; and by
        the time when all of the n likeliest classes have been drawn. With the last, rounding errors
        of N_t < n do not add up to more than the probability of a very rare class.
        """
        q, size, n = self._groups.q, self._groups.size, self._n
        left = self._groups.classes - n + 1.0

        def is_before(s: float) -> bool:
            return _log_tail(n, float(-(size * np.expm1(-q * math.exp(s))).sum())) < math.log(_TINY)

        def is_after(s: float) -> bool:
            x = q * math.exp(s)
            few = _log_tail(n - 1, float(-(size * np.expm1(-x)).sum()), upper=False)
            many = _log_tail(left, float((size * np.exp(-x)).sum()))
            return min(few, many) < math.log(_TINY)

        latest = self._groups.log_time_of(n)
        return _last(is_before, -50.0, latest), _last(lambda s: not is_after(s), -50.0, latest)


def expected_draws(groups: Groups, n: int) -> float:
    """Return about how many draws it takes until there are n different classes."""

    def is_early(s: float) -> bool:
        return bool(-(groups.size * np.expm1(-groups.q * math.exp(s))).sum() < n - 0.5)

    return math.exp(_last(is_early, -50.0, groups.log_time_of(n)))


def _last(holds: object, low: float, high: float) -> float:
    """Return about the largest s at which a condition still holds."""
    assert callable(holds)
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return 0.5 * (low + high)


def _log_tail(k: float, mean: float, upper: bool = True) -> float:
    """Return a bound of log P(N >= k), or of log P(N <= k), by Chernoff; 0 on the other side."""
    if (mean >= k) is upper or mean <= 0.0:
        return -np.inf if mean <= 0.0 and upper else 0.0
    return k - mean - (k * math.log(k / mean) if k > 0 else 0.0)


def _below(groups: Groups, n: int, t: Floats, weights: Floats, q: Floats) -> Floats:
    """Return the sums over t of weights q exp(-q t) P(N_t < n), without a class of q in N_t."""
    is_small = groups.q * t[-1] <= _SMALL
    is_single = ~is_small & (groups.size == 1.0)
    several = ~is_small & ~is_single
    small, single, p = (_drawn(groups.q[some], t) for some in (is_small, is_single, several))
    series = [small**k @ groups.size[is_small] * ((-1) ** (k + 1) / k) for k in range(1, _TERMS)]
    size = groups.size[several]
    mean = single.sum(1) + p @ size + series[0]
    variance = (single * (1 - single)).sum(1) + (p * (1 - p)) @ size + series[0] + 2 * series[1]
    theta, cut = _angles(n, groups.classes, mean, np.maximum(variance, 0.0))
    z = np.exp(1j * theta) - 1.0
    log_phi = np.zeros(theta.shape, np.complex128)
    for coefficient in series[::-1]:
        log_phi = (log_phi + coefficient[:, None]) * z
    of_q = _drawn(q, t)
    out = np.zeros(len(q))
    for i in range(len(t)):
        phi = np.exp(log_phi[i] + np.log1p(z[i][:, None] * p[i]) @ size) * cut[i]
        phi *= np.multiply.reduce(1.0 + z[i][:, None] * single[i], axis=1)
        below = (phi[:, None] / (1.0 + z[i][:, None] * of_q[i])).sum(0)
        out += weights[i] * q * (1.0 - of_q[i]) * np.clip(below.real, 0.0, 1.0)
    return out


def _drawn(q: Floats, t: Floats) -> Floats:
    """Return the probabilities that classes have been drawn until t, (times, classes)."""
    return -np.expm1(-t[:, None] * q)


def _angles(n: int, classes: float, mean: Floats, variance: Floats) -> tuple[Floats, Complex]:
    r"""Return the angles of the Fourier transform for each t, and what to multiply by.

    .. math:: P(N < n) = \frac 1 M \sum_\theta \phi(\theta) \sum_{k = a}^{n - 1} e^{-i k \theta}

    where the M numbers from a on have nearly all of the probability. The characteristic function
    :math:`\phi` is below :math:`\exp(-\sigma^2 (1 - \cos \theta))`, which leaves few angles; and
    those on both sides of 0 have conjugate terms.
    """
    spread = np.sqrt(variance)
    period = np.minimum(classes + 1, np.ceil(20 * spread) + 60)
    period += 1 - period % 2  # odd: no angle is pi, where a factor may be 0
    start = np.maximum(0.0, np.round(mean - period / 2))
    start[period > classes] = 0.0
    far = np.minimum(2.0, 45.0 / np.maximum(variance - 0.25, 1e-9))
    count = np.minimum((period + 1) / 2, np.ceil(np.arccos(1 - far) * period / (2 * np.pi)) + 1)
    j = np.arange(int(count.max()))
    theta = 2 * np.pi * j / period[:, None]
    length = np.clip(n - start, 0.0, period)[:, None]
    # The geometric sum of `length` terms, by its middle.
    half = 0.5 * theta
    with np.errstate(all="ignore"):
        kernel = np.where(j == 0, length, np.sin(length * half) / np.sin(half))
    middle = start[:, None] + 0.5 * (length - 1)
    twice = np.where(j == 0, 1.0, 2.0) * (j < count[:, None])
    return theta, twice * kernel / period[:, None] * np.exp(-1j * theta * middle)


def _interpolate(x: Floats, y: Floats, at: Floats) -> Floats:
    """Interpolate y on an even grid x by cubics through four neighbouring points."""
    u = np.clip((at - x[0]) / (x[1] - x[0]), 0.0, len(x) - 1.0)
    k = np.clip(u.astype(np.int64), 1, len(x) - 3)
    f: Floats = u - k
    a, b, c, d = (y[k + i] for i in range(-1, 3))
    outer = f * (f - 1) / 6 * ((f + 1) * d - (f - 2) * a)
    inner = (f + 1) * (f - 2) / 2 * ((f - 1) * b - f * c)
    return np.asarray(outer + inner)

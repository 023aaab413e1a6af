"""What the softmax over drawn classes costs: bias and variance against that over all classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boltzmax._lib.arguments import check_count, quietly
from boltzmax._lib.random import random_generator
from boltzmax._lib.targets import NO_CLASS, Wanted, checked_targets
from boltzmax.linear.cross_entropy import linear_cross_entropy_with_grad
from boltzmax.linear.draws import Draws, Layer, Wishes, named_kind, read_draws, read_layer
from boltzmax.linear.partition import log_sums
from boltzmax.linear.queries import linear_logsumexp
from boltzmax.linear.sampled import sampled_softmax_loss_with_grad

Array = NDArray[Any]
Floats = NDArray[np.float64]

MEASURES = ("loss", "gradient", "log_z")
TITLES = {"loss": "loss", "gradient": "gradient", "log_z": "log Z"}


@dataclass(frozen=True)
class SamplingBiasReport(Sequence[dict[str, Any]]):
    """The rows of `sampling_bias_report`, as dictionaries; prints as a table.

    Attributes
    ----------
    rows : list of dict
        One for each sampler and number of candidates.
    loss : float
        The mean loss with all classes.
    log_z : float
        The mean logarithm of the sum over all classes.
    repeats : int
        The number of samples behind each row.
    """

    rows: list[dict[str, Any]]
    loss: float
    log_z: float
    repeats: int

    def __getitem__(self, i: Any) -> Any:
        """Return a row."""
        return self.rows[i]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over the rows."""
        return iter(self.rows)

    def __str__(self) -> str:
        """Return the table: bias, plus or minus its standard error, and standard deviation."""
        head = [
            "sampler",
            "n",
            *(f"{m} bias" if k == 0 else "sd" for m in MEASURES for k in (0, 1)),
        ]
        table = [head, *(self._cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(f"{c:>{w}}" for c, w in zip(r, widths, strict=True)) for r in table]
        title = (
            f"{self.repeats} samples each; with all classes: loss {self.loss:.6g}, "
            f"log Z {self.log_z:.6g}; gradients as a part of the full one"
        )
        return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])

    def _cells(self, row: Mapping[str, Any]) -> list[str]:
        cells = [str(row["sampler"]), str(row["n"])]
        for m in MEASURES:
            cells.append(f"{row[f'{m}_bias']:+.2g} ± {row[f'{m}_bias_error']:.1g}")
            cells.append(f"{row[f'{m}_sd']:.2g}")
        return cells

    def plot(self, axes: Any = None) -> Any:
        """Draw sizes of biases, with error bars, and standard deviations against n.

        Parameters
        ----------
        axes : three matplotlib axes, optional
            Where to draw loss, gradient and log Z; by default in a new figure.

        Returns
        -------
        array of three matplotlib axes
            Biases are lines with error bars, standard deviations dashed.
        """
        import matplotlib.pyplot as plt

        if axes is None:
            axes = plt.figure(figsize=(11, 3.6), layout="constrained").subplots(1, 3)
        counts = sorted({row["n"] for row in self.rows})
        names = list(dict.fromkeys(row["sampler"] for row in self.rows))
        for ax, measure in zip(axes, MEASURES, strict=True):
            for k, name in enumerate(names):
                rows = [row for row in self.rows if row["sampler"] == name]
                n = [row["n"] for row in rows]
                size = np.abs([row[f"{measure}_bias"] for row in rows])
                error = [row[f"{measure}_bias_error"] for row in rows]
                ax.errorbar(n, size, error, color=f"C{k}", marker="o", capsize=3, label=name)
                spread = [row[f"{measure}_sd"] for row in rows]
                ax.plot(n, spread, color=f"C{k}", linestyle="--", linewidth=1)
            ax.set(xscale="log", yscale="log", xlabel="candidates", title=TITLES[measure])
            ax.set_xticks(counts, map(str, counts))
            ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes[0].set_ylabel("size of the bias; standard deviation (dashed)")
        axes[0].legend()
        return axes


@quietly
def sampling_bias_report(
    hidden: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike,
    samplers: Any,
    n: Any = (64, 256, 1024),
    *,
    bias: ArrayLike | None = None,
    repeats: int = 32,
    rng: Any = None,
) -> SamplingBiasReport:
    r"""Measure how far the softmax over drawn classes is from that over all classes.

    For each sampler and number of candidates, `sampled_softmax_loss_with_grad` and the estimate of
    `log_partition_estimate` are computed from `repeats` samples, and compared with the values over
    all classes.

    Parameters
    ----------
    hidden : array_like, shape (N, D)
        One row for each target.
    weight : array_like, shape (V, D)
        One row for each class: those of a trained layer, since a new one has nearly equal classes.
    target : array_like of int, shape (N,)
        The class of each row.
    samplers : sequence or mapping
        Objects as in :mod:`boltzmax.candidates`; the keys of a mapping are names for the table.
    n : int or sequence of int, default (64, 256, 1024)
        Numbers of candidates.
    bias : array_like, shape (V,), optional
        Added to the logits.
    repeats : int, default 32
        Samples for each row of the table, at least 2.
    rng : int, numpy.random.Generator or None
        Random numbers; the same seed gives the same table.

    Returns
    -------
    SamplingBiasReport
        A sequence of dictionaries that prints as a table and has a method ``plot``. Each has
        ``sampler`` and ``n``, and three numbers for the mean loss (``loss``), its gradient with
        respect to `hidden` (``gradient``) and the mean estimate of :math:`\log Z` (``log_z``):

        - ``..._bias``: the mean over samples, minus the value over all classes. That of the
          gradient is the length of the difference as a part of the length of the full gradient,
          less the length that noise alone would have;
        - ``..._bias_error``: its standard error; a bias within two of them may be 0;
        - ``..._sd``: the standard deviation of one sample; that of the gradient is the root of the
          sum of the variances, as a part of the length of the full gradient.

    Raises
    ------
    TypeError
        If an argument has an unsupported dtype, or a sampler has no method `sample`.
    ValueError
        If shapes do not match, there are no rows or no samplers, or a number is out of range.
    IndexError
        If a target is not a class.

    See Also
    --------
    sampled_softmax_loss, log_partition_estimate

    Notes
    -----
    Takes the time and the memory of `linear_cross_entropy_with_grad` once, so a gradient of the
    size of `weight`.

    References
    ----------
    Rawat, Chen, Yu, Suresh & Kumar, "Sampled softmax with random Fourier features", NeurIPS 2019,
    section 3, bounds the bias of the gradient by the ratio of the softmax and the distribution of
    the sampler, https://arxiv.org/abs/1907.10747.

    Examples
    --------
    >>> import numpy as np
    >>> from boltzmax import sampling_bias_report
    >>> from boltzmax.candidates import UniformSampler
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(32, 8)), rng.normal(size=(2000, 8))
    >>> target = rng.integers(2000, size=32)
    >>> few, many = sampling_bias_report(hidden, weight, target, [UniformSampler(2000)],
    ...                                  [20, 200], rng=0)
    >>> few["loss_bias"] < many["loss_bias"] < 0      # the logarithm of a noisy sum is too small
    True
    """
    layer = read_layer(hidden, weight, bias)
    if len(layer.rows) != 1 or not layer.rows[0]:
        raise ValueError(f"hidden must be (N, D) with N > 0, got shape {layer.hidden.shape}")
    classes = checked_targets(target, Wanted(layer.rows, layer.n_classes), NO_CLASS)[0]
    named, counts = _named(samplers), [check_count(k, "n", 2) for k in np.atleast_1d(n)]
    if not counts:
        raise ValueError("n is empty")
    times = check_count(repeats, "repeats", 2)
    generator = random_generator(rng)
    full = _Sample.of_all(layer, classes)
    rows = []
    for name, sampler in named.items():
        for count in counts:
            spread = _Spread(full)
            for _ in range(times):
                spread.add(_Sample.drawn(layer, classes, sampler, count, generator))
            rows.append({"sampler": name, "n": count, **spread.row()})
    return SamplingBiasReport(rows, full.loss, float(full.log_z), times)


def _named(samplers: Any) -> dict[str, Any]:
    """Return the samplers by names: those given, or those of their types."""
    if isinstance(samplers, Mapping):
        named = {str(name): sampler for name, sampler in samplers.items()}
    else:
        named = {}
        if hasattr(samplers, "sample") or not isinstance(samplers, Iterable):
            samplers = [samplers]
        for sampler in samplers:
            base = name = type(sampler).__name__
            k = 1
            while name in named:
                k += 1
                name = f"{base} {k}"
            named[name] = sampler
    if not named:
        raise ValueError("samplers is empty")
    for sampler in named.values():
        if not hasattr(sampler, "sample") or isinstance(sampler, type):
            raise TypeError(
                f"a sampler must be an object with a method `sample`, got {named_kind(sampler)}"
            )
    return named


@dataclass(frozen=True)
class _Sample:
    """The three values that are compared."""

    loss: float
    gradient: Floats
    log_z: float  # the mean of all rows

    def of(self, measure: str) -> Floats:
        """Return one of the three as an array."""
        return np.atleast_1d(getattr(self, measure))

    @classmethod
    def of_all(cls, layer: Layer, target: NDArray[np.int64]) -> _Sample:
        """Return the values with all classes."""
        loss, d_hidden, _, _ = linear_cross_entropy_with_grad(
            layer.hidden, layer.weight, target, layer.bias
        )
        log_z = linear_logsumexp(layer.hidden, layer.weight, layer.bias)
        return cls(float(loss), d_hidden.astype(np.float64), log_z.mean(dtype=np.float64))

    @classmethod
    def drawn(
        cls, layer: Layer, target: NDArray[np.int64], sampler: Any, n: int, rng: Any
    ) -> _Sample:
        """Return the values from one sample."""
        every = np.ones(len(target), np.bool_)
        draws: Draws = read_draws(sampler, n, rng, layer, target, every, Wishes())
        gradient = sampled_softmax_loss_with_grad(
            layer.hidden, layer.weight, target, (draws.ids, draws.log_q), bias=layer.bias
        )
        log_z = log_sums(layer, draws)[0]
        return cls(float(gradient.loss), gradient.d_hidden.astype(np.float64), log_z.mean())


class _Spread:
    """Sums over samples of differences from the values with all classes, and of their squares."""

    def __init__(self, full: _Sample) -> None:
        self._full, self._count = full, 0
        self._sums = {m: np.zeros_like(full.of(m)) for m in MEASURES}
        self._squares = dict.fromkeys(MEASURES, 0.0)

    def add(self, sample: _Sample) -> None:
        """Add a sample."""
        self._count += 1
        for m in MEASURES:
            difference = sample.of(m) - self._full.of(m)
            self._sums[m] += difference
            self._squares[m] += float(np.square(difference).sum())

    def row(self) -> dict[str, float]:
        """Return bias, standard error of it and standard deviation of all three."""
        found = {}
        for m in MEASURES:
            mean = self._sums[m] / self._count
            size = float(np.square(mean).sum())
            variance = np.maximum(0.0, self._squares[m] - self._count * size) / (self._count - 1)
            sd, error = np.sqrt(variance), np.sqrt(variance / self._count)
            bias = float(mean.sum())
            if m == "gradient":
                length = float(np.linalg.norm(self._full.gradient)) or 1.0
                bias = np.sqrt(np.maximum(0.0, size - variance / self._count)) / length
                sd, error = sd / length, error / length
            values = {"bias": bias, "bias_error": error, "sd": sd}
            found.update({f"{m}_{what}": float(value) for what, value in values.items()})
        return found

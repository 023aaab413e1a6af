"""boltzmax.calibration beside yardsticks and peers, on one thread.

    python benchmarks/bench_calibration.py [temperature | errors | agreement ...]

Temperature scaling is compared with one logsumexp of the logits, and with scikit-learn and netcal
on a part of the rows; binned errors with np.histogram and np.sort of the confidences. ``agreement``
compares numbers with those of scikit-learn, netcal and torchmetrics, where definitions agree. Peers
that are not installed are left out.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import boltzmax
from boltzmax.calibration import TemperatureScaling, brier_score, ece, nll
from boltzmax.cli.timing import Task, interleave

Calls = dict[str, Callable[[], object]]

ROWS, CLASSES = 1_000_000, 100
PART = 50  # peers get one row of so many
CONFIDENCES = 10_000_000


def over_confident(rows: int, classes: int) -> tuple[Any, Any]:
    """Return logits that are 2.5 times as large as they should be, and labels."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((rows, classes), np.float32)
    y = np.empty(rows, np.int64)
    for at in range(0, rows, 100_000):  # the noise does not fit into memory at once
        part = z[at : at + 100_000]
        noise = -np.log(rng.standard_exponential(part.shape, np.float32))
        y[at : at + 100_000] = (part + noise).argmax(axis=1)
    z *= 2.5
    return z, y


def compare(title: str, calls: Calls, rounds: int, factors: dict[str, float] | None = None) -> None:
    """Print times, and ratios to the first call; `factors` scale those on a part of the rows."""
    times = interleave({name: Task(call) for name, call in calls.items()}, rounds=rounds)
    first = times[next(iter(calls))]
    print(title)
    for name, seconds in times.items():
        factor = (factors or {}).get(name, 1.0)
        ratio = factor * float(np.median(seconds / first))
        print(f"  {name:36} {1e3 * factor * float(np.median(seconds)):10.1f} ms {ratio:8.2f}x")


def peers_of_temperature(z: Any, y: Any) -> Calls:
    """Return the fits of scikit-learn and netcal, on a part of the rows."""
    part, labels = z[::PART], y[::PART]
    calls: Calls = {}
    try:
        from sklearn.calibration import _TemperatureScaling

        calls["scikit-learn"] = lambda: _TemperatureScaling().fit(part, labels)
    except ImportError:
        pass
    try:
        import torch
        from netcal.scaling import TemperatureScaling as Theirs  # type: ignore[import-not-found]

        torch.set_num_threads(1)
        p = boltzmax.softmax(part)
        calls["netcal"] = lambda: Theirs().fit(p, labels, tensorboard=False)
    except ImportError:
        pass
    return calls


def temperature() -> None:
    """Compare the fit of a temperature with reads of the logits."""
    z, y = over_confident(ROWS, CLASSES)
    fit = TemperatureScaling().fit(z, y)
    print(f"T = {fit.temperature_:.6f}, {fit.n_iter_} reads")
    peers = peers_of_temperature(z, y)
    calls: Calls = {
        "logsumexp": partial(boltzmax.logsumexp, z),
        "TemperatureScaling.fit": lambda: TemperatureScaling().fit(z, y),
        "nll": partial(nll, z, y),
        "ece": partial(ece, z, y),
        **peers,
    }
    compare(f"{ROWS:,} x {CLASSES} float32", calls, 5, dict.fromkeys(peers, float(PART)))


def errors() -> None:
    """Compare binned errors with a histogram and a sort of the confidences."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        p = rng.uniform(size=CONFIDENCES).astype(dtype)
        hit = np.less(rng.uniform(size=CONFIDENCES), p)
        calls: Calls = {
            "np.histogram": partial(np.histogram, p, 15, (0, 1)),
            "np.sort": partial(np.sort, p),
            "ece": partial(ece, p, hit, from_probs=True),
            "ece, equal mass": partial(ece, p, hit, from_probs=True, binning="equal_mass"),
        }
        compare(f"{CONFIDENCES:,} confidences, {np.dtype(dtype)}", calls, 3)


def agreement() -> None:
    """Print our numbers and those of peers."""
    z, y = over_confident(20_000, 10)
    p = boltzmax.softmax(z.astype(np.float64))
    print("ece", ece(p, y, from_probs=True), "nll", nll(z, y), "brier", brier_score(z, y))
    print("temperature", TemperatureScaling().fit(z, y).temperature_)
    try:
        from sklearn.calibration import _TemperatureScaling
        from sklearn.metrics import log_loss

        theirs = _TemperatureScaling().fit(z.astype(float), y)
        print("scikit-learn: nll", log_loss(y, p), "temperature", 1 / theirs.beta_)
    except ImportError:
        pass
    try:
        from netcal.metrics import ECE  # type: ignore[import-not-found]
        from netcal.scaling import TemperatureScaling as Theirs

        scaling = Theirs()
        scaling.fit(p, y, tensorboard=False)
        print("netcal: ece", ECE(15).measure(p, y), "temperature", 1 / scaling.temperature)
    except ImportError:
        pass
    try:
        import torch
        from torchmetrics.functional.classification import (  # type: ignore[import-not-found]
            multiclass_calibration_error,
        )

        for norm, ours in (("l1", 1), ("l2", 2), ("max", "max")):
            found = multiclass_calibration_error(
                torch.tensor(p), torch.tensor(y), 10, n_bins=15, norm=norm
            )
            print("torchmetrics:", norm, float(found), ece(p, y, from_probs=True, norm=ours))
    except ImportError:
        pass


SUITES = {"temperature": temperature, "errors": errors, "agreement": agreement}


def main() -> None:
    """Run the suites that were asked for, or all."""
    boltzmax.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or SUITES:
        SUITES[name]()


if __name__ == "__main__":
    main()

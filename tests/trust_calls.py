"""Calls of all public functions and classes that judge the probabilities of a classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

import boltzmax
from boltzmax import calibration, conformal, ood, priors, selective
from boltzmax.calibration.registry import METHODS

Array = npt.NDArray[Any]
Calls = Iterator[tuple[str, Callable[[], Any]]]

MODULES: tuple[ModuleType, ...] = (calibration, conformal, ood, priors, selective)
# Results, base classes, plots, and what needs a classifier of scikit-learn.
WITHOUT_SCORES = {
    *("Bins", "CalibrationMap", "Interval", "ReliabilityCurve", "RiskCoverage", "SizeStrata"),
    *("PredictionSets", "plot_reliability", "plot_risk_coverage", "plot_set_sizes"),
    *("CalibratedClassifier", "calibrated"),
}
OF_LABELS = ("nll", "brier_score", "ece", "mce", "ace", "ks_error", "smooth_ece")
SCORES = ("max_prob", "margin", "entropy", "energy", "max_logit", "doctor")


def public() -> set[str]:
    """The public names of the modules that compute."""
    return {name for module in MODULES for name in module.__all__} - WITHOUT_SCORES


def metrics(z: Array, y: Array) -> Calls:
    for name in (*OF_LABELS, "reliability_curve"):
        for weight in (None, np.ones(len(y))):
            yield name, partial(getattr(calibration, name), z, y, sample_weight=weight)
    for kind in ("classwise", "marginal"):
        yield "ece", partial(calibration.ece, z, y, kind=kind, norm=2, debias=True)
        yield "ece", partial(calibration.ece, z, y, kind=kind, binning="equal_mass")
    yield "ece_interval", partial(calibration.ece_interval, z, y, n_resamples=5)
    yield "sharpness", partial(calibration.sharpness, z)


def scores(z: Array) -> Calls:
    for name in ("energy_score", "max_logit", "max_prob", "entropy", "gen"):
        yield name, partial(getattr(ood, name), z)
    for score in SCORES:
        yield "confidence", partial(selective.confidence, z, score)
    uniform = np.full(z.shape[1], 1 / max(1, z.shape[1]))
    yield "adjust_priors", partial(priors.adjust_priors, z, uniform, uniform)
    yield "estimate_priors", partial(priors.estimate_priors, z, uniform, tol=1.0)


def of_scores(score: Array, loss: Array) -> Calls:
    for name in ("risk_coverage_curve", "aurc", "augrc", "e_aurc"):
        yield name, partial(getattr(selective, name), score, loss)
    yield "coverage_at_risk", partial(selective.coverage_at_risk, score, loss, 0.1)
    yield "auroc", partial(ood.auroc, score, loss)
    yield "fpr_at_tpr", partial(ood.fpr_at_tpr, score, loss)


def fitted(made: Any, z: Array, y: Array, methods: tuple[str, ...]) -> None:
    """Fit, and call methods of rows."""
    made.fit(z, y)
    for method in methods:
        getattr(made, method)(z)
    if hasattr(made, "p_values"):
        made.p_values(z, y)


def estimators(z: Array, y: Array) -> Calls:
    for kind in METHODS.values():
        quick = kind()
        if hasattr(quick, "tol"):
            quick.set_params(tol=1e-2)
        yield kind.__name__, partial(fitted, quick, z, y, ("transform", "predict_proba"))
    simple = (conformal.LAC, conformal.APS, conformal.RAPS, conformal.SAPS)
    for made in (
        *(kind(0.3) for kind in simple),
        conformal.ClassConditional(conformal.APS(0.3)),
        conformal.ClusterConditional(conformal.LAC(0.3), 2),
        selective.SelectiveClassifier(target_risk=0.5),
        selective.SelectiveClassifier(target_risk=0.5, bound="hoeffding"),
        selective.HierarchicalAbstention(boltzmax.Tree.balanced(max(1, z.shape[1])), 0.5),
    ):
        yield type(made).__name__, partial(fitted, made, z, y, ("predict",))


def of_sets(k: int) -> Calls:
    sets = conformal.PredictionSets(np.array([0, 1, 1]), np.array([k - 1]), np.ones(1), k)
    y = np.array([k - 1, 0])
    for name in ("coverage", "size_stratified_coverage"):
        yield name, partial(getattr(conformal, name), sets, y)
    yield "covgap", partial(conformal.covgap, sets, y, 0.1)
    yield "mean_set_size", partial(conformal.mean_set_size, sets)


def everything(z: Array, y: Array) -> Calls:
    yield from metrics(z, y)
    yield from scores(z)
    yield from estimators(z, y)
    yield from of_scores(z[:, 0], y.astype(float))
    yield from of_sets(3)


def refusals(z: Array, y: Array) -> Calls:
    """The same calls with labels out of range, or an array that is no matrix."""

    def refused(call: Callable[[], Any]) -> None:
        with contextlib.suppress(TypeError, ValueError, IndexError):
            call()
            raise AssertionError(f"{call} is accepted")

    for name, call in (*metrics(z, y + 1000), *estimators(z, y + 1000)):
        if name != "sharpness":
            yield name, partial(refused, call)
    for name, call in scores(z[np.newaxis]):
        yield name, partial(refused, call)

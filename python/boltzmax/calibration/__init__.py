"""Calibration of classifiers: how honest their probabilities are, and maps that mend them.

All of it reads logits, or probabilities with ``from_probs=True``, with the labels of rows that the
classifier was not trained on. Rows are read in blocks, so that they may be a memory map; nothing as
large as the logits is allocated but results of their shape.

- `base`: the contract of calibration maps
- `binary`: maps of one probability: Platt, beta, isotonic, histogram
- `binning`: bins of probabilities
- `classes`: bins of the probabilities of each class
- `descent`: L-BFGS
- `ensemble`: `EnsembleTemperatureScaling`
- `errors`: calibration errors
- `estimator`: what is taken from scikit-learn
- `events`: probabilities of events, and whether they happened
- `interval`: confidence intervals of the calibration error
- `isotonic`: isotonic regression
- `logistic`: logistic regression
- `moments`: derivatives of the loss by the temperature
- `plots`: reliability diagrams
- `registry`: the maps by their names
- `scaling`: vector, matrix and Dirichlet
- `scores`: log-likelihood, Brier's score, sharpness
- `smooth`: the smooth calibration error
- `temperature`: `TemperatureScaling`
- `wrapper`: classifiers with calibrated probabilities
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.calibration.base import CalibrationMap
from boltzmax.calibration.binary import (
    BetaCalibration,
    HistogramBinning,
    IsotonicCalibration,
    PlattScaling,
)
from boltzmax.calibration.binning import Bins
from boltzmax.calibration.ensemble import EnsembleTemperatureScaling
from boltzmax.calibration.errors import ace, ece, ks_error, mce
from boltzmax.calibration.interval import Interval, ece_interval
from boltzmax.calibration.plots import ReliabilityCurve, plot_reliability, reliability_curve
from boltzmax.calibration.scaling import DirichletCalibration, MatrixScaling, VectorScaling
from boltzmax.calibration.scores import brier_score, nll, sharpness
from boltzmax.calibration.smooth import smooth_ece
from boltzmax.calibration.temperature import TemperatureScaling
from boltzmax.calibration.wrapper import CalibratedClassifier, calibrated

__all__ = [
    "BetaCalibration",
    "Bins",
    "CalibratedClassifier",
    "CalibrationMap",
    "DirichletCalibration",
    "EnsembleTemperatureScaling",
    "HistogramBinning",
    "Interval",
    "IsotonicCalibration",
    "MatrixScaling",
    "PlattScaling",
    "ReliabilityCurve",
    "TemperatureScaling",
    "VectorScaling",
    "ace",
    "brier_score",
    "calibrated",
    "ece",
    "ece_interval",
    "ks_error",
    "mce",
    "nll",
    "plot_reliability",
    "reliability_curve",
    "sharpness",
    "smooth_ece",
]

show_in(globals())

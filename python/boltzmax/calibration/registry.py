"""All calibration maps, by the names that `calibrated` knows them by."""

from __future__ import annotations

from boltzmax.calibration.base import CalibrationMap
from boltzmax.calibration.binary import (
    BetaCalibration,
    HistogramBinning,
    IsotonicCalibration,
    PlattScaling,
)
from boltzmax.calibration.ensemble import EnsembleTemperatureScaling
from boltzmax.calibration.scaling import DirichletCalibration, MatrixScaling, VectorScaling
from boltzmax.calibration.temperature import TemperatureScaling

METHODS: dict[str, type[CalibrationMap]] = {
    "temperature": TemperatureScaling,
    "ensemble_temperature": EnsembleTemperatureScaling,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "dirichlet": DirichletCalibration,
    "platt": PlattScaling,
    "beta": BetaCalibration,
    "isotonic": IsotonicCalibration,
    "histogram": HistogramBinning,
}

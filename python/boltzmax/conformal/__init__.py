"""Prediction sets that contain the right class with a chosen probability: conformal prediction.

A predictor is fitted on rows of logits that the model was not trained on, and their labels. The set
that it predicts for a new row contains the row's label with probability at least 1 - alpha, for any
model and any distribution, if the new row is exchangeable with those rows.

- `base`: what all predictors share
- `groups`: one threshold for each class, or for each cluster of classes
- `measures`: coverage and sizes of sets
- `predictors`: the scores
- `scorer`: what a fit takes from the parameters, and the scores and sets of rows
- `sets`: the result, in compressed rows
"""

from __future__ import annotations

from boltzmax._lib.public import show_in
from boltzmax.conformal.groups import ClassConditional, ClusterConditional
from boltzmax.conformal.measures import (
    SizeStrata,
    coverage,
    covgap,
    mean_set_size,
    plot_set_sizes,
    size_stratified_coverage,
)
from boltzmax.conformal.predictors import APS, LAC, RAPS, SAPS
from boltzmax.conformal.sets import PredictionSets

__all__ = [
    "APS",
    "LAC",
    "RAPS",
    "SAPS",
    "ClassConditional",
    "ClusterConditional",
    "PredictionSets",
    "SizeStrata",
    "coverage",
    "covgap",
    "mean_set_size",
    "plot_set_sizes",
    "size_stratified_coverage",
]

show_in(globals())

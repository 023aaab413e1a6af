"""Classifiers for scikit-learn on these kernels: a flat softmax, and a tree of choices.

They need scikit-learn 1.6 or later: ``pip install "boltzmax[demo]"``. They pass its
`check_estimator`, so they work in pipelines, parameter searches and cross-validation.
"""

from __future__ import annotations

from boltzmax._lib.public import show_in

try:
    from boltzmax.sklearn.flat import SoftmaxClassifier
    from boltzmax.sklearn.tree import HierarchicalSoftmaxClassifier
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
        raise
    raise ImportError(
        'boltzmax.sklearn needs scikit-learn, 1.6 or later: pip install "boltzmax[demo]"',
        name=error.name,
    ) from error

__all__ = ["HierarchicalSoftmaxClassifier", "SoftmaxClassifier"]

show_in(globals())

"""Pickles and files that earlier code wrote: they name modules that have moved since, and still load.

The files in ``data/`` were made by ``python tests/test_old_files.py`` with the code before its
modules moved into packages.  They stay as they are: what today's code writes is tested with it.
"""

from __future__ import annotations

import copy
import pickle
import pickletools
import re
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.cuda
import boltzmax.special

DATA = Path(__file__).parent / "data"
FEATURES = np.random.default_rng(0).standard_normal((30, 3))
LABELS = np.arange(30) % 4
NAMES = np.array(["ant", "bee", "cat", "dog"])[LABELS]
HIDDEN = FEATURES.astype(np.float32)




def functions() -> dict[str, Any]:
    """Every public function: a pickle holds its name alone."""
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in (boltzmax, boltzmax.cuda, boltzmax.special)
        for name in getattr(module, "__all__", ("softmax", "log_softmax", "logsumexp"))
        if isinstance(getattr(module, name), (FunctionType, BuiltinFunctionType))
    }


def trees() -> dict[str, Any]:
    return {
        "named": boltzmax.Tree.from_paths(["a/x", "a/y", "b/z"]),
        "huffman": boltzmax.Tree.huffman([5, 1, 2, 9]),
        "class": boltzmax.Tree,
    }


def layers() -> dict[str, Any]:
    """A layer, what it says, and what is returned in classes of its module's own."""
    layer = boltzmax.HierarchicalSoftmax(boltzmax.Tree.balanced(5), 3, seed=1)
    layer.adagrad_step(HIDDEN, LABELS, lr=0.5)
    return {
        "layer": layer,
        "log_prob": layer.log_prob_all(HIDDEN),
        "gradient": layer.loss_with_grad(HIDDEN[:2], LABELS[:2]),
        "top": layer.topk_visited(HIDDEN[:2], 2),
        "stats": boltzmax.row_stats(FEATURES, LABELS % 3, k=2),
    }


def cuda() -> dict[str, Any]:
    tree = boltzmax.Tree.balanced(4)
    weight, bias = np.ones((tree.n_units, 2)), np.zeros(tree.n_units)
    return {
        "layer": boltzmax.cuda.HierarchicalSoftmax(tree, weight, bias),
        "class": boltzmax.cuda.DeviceArray,
    }


def classifiers() -> dict[str, Any]:
    """Classifiers of every solver, with what they say: new, fitted at once, fitted in parts."""
    from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier

    made: dict[str, Any] = {"new": SoftmaxClassifier(l2=0.5), "new tree": _tree_classifier()}
    for name, model in {
        "lbfgs": SoftmaxClassifier(solver="lbfgs"),
        "adam": SoftmaxClassifier(solver="adam", max_iter=2, random_state=0),
        "tree": _tree_classifier(max_iter=2),
        "tree lbfgs": _tree_classifier(solver="lbfgs"),
    }.items():
        model.fit(FEATURES, NAMES)
        made[name] = (model, model.predict_proba(FEATURES))
    for kind in (SoftmaxClassifier, HierarchicalSoftmaxClassifier):
        model = kind(solver="adam", random_state=0)
        model.partial_fit(FEATURES, NAMES, classes=np.unique(NAMES))
        made[f"{kind.__name__} in parts"] = (model, model.predict_proba(FEATURES))
    return made


def _tree_classifier(**options: Any) -> Any:
    from boltzmax.sklearn import HierarchicalSoftmaxClassifier

    return HierarchicalSoftmaxClassifier(random_state=0, **options)


def write_all() -> None:
    """Write the files: once, by the code that they are to remember."""
    import joblib

    DATA.mkdir(exist_ok=True)
    for make in (functions, trees, layers, cuda, classifiers):
        (DATA / f"{make.__name__}.pickle").write_bytes(pickle.dumps(make(), protocol=4))
    joblib.dump(classifiers(), DATA / "classifiers.joblib", compress=3)
    trees()["named"].save(DATA / "tree.npz")
    layers()["layer"].save(DATA / "layer.npz")


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = pickle.loads((DATA / f"{name}.pickle").read_bytes())
    return loaded


if __name__ == "__main__":
    write_all()

"""Pickles and files from earlier code, which name modules that have since moved, still load.

``python tests/test_old_files.py`` wrote the files in ``data/`` before the modules moved into
packages.  They must not be regenerated; other tests cover what the current code writes.
"""

from __future__ import annotations

import importlib
import pickle
import pickletools
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax._moved
import boltzmax.cuda
import boltzmax.special

PUBLIC = ("boltzmax.cuda", "boltzmax.sklearn", "boltzmax.special")
DATA = Path(__file__).parent / "data"
FEATURES = np.random.default_rng(0).standard_normal((30, 3))
LABELS = np.arange(30) % 4
NAMES = np.array(["ant", "bee", "cat", "dog"])[LABELS]
HIDDEN = FEATURES.astype(np.float32)


def functions() -> dict[str, Any]:
    """Every public function: a pickle holds only its name."""
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
    """A layer, its results, and results in classes of its module."""
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
    """Classifiers of every solver and their predictions: new, fitted, fitted in parts."""
    from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier

    made: dict[str, Any] = {"new": SoftmaxClassifier(l2=0.5), "new tree": _tree_classifier()}
    for name, model in {
        "lbfgs": SoftmaxClassifier(solver="lbfgs"),
        "adam": SoftmaxClassifier(solver="adam", max_iter=2, random_state=0),
        "tree": _tree_classifier(max_iter=2),
        "tree lbfgs": _tree_classifier(solver="lbfgs"),
    }.items():
        with warnings.catch_warnings(action="ignore"):  # two iterations do not converge
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
    """Write the files: once, with the old code."""
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


def agree(got: Any, expected: Any) -> None:
    """Check that two values are of one kind and equal, up to the last digits of floats."""
    assert type(got) is type(expected)
    if isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(got, expected)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-5)
    elif isinstance(expected, tuple):
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            agree(a, b)
    else:
        assert got == expected


def test_functions() -> None:
    for name, function in load("functions").items():
        module, _, attribute = name.rpartition(".")
        assert function is getattr(sys.modules[module], attribute), name


def test_trees() -> None:
    agree(load("trees"), trees())
    assert boltzmax.Tree.load(DATA / "tree.npz") == trees()["named"]


def test_layers() -> None:
    loaded, now = load("layers"), layers()
    assert loaded.keys() == now.keys()
    for name in ("gradient", "top", "log_prob"):
        agree(loaded[name], now[name])
    agree(vars(loaded["stats"]).keys(), vars(now["stats"]).keys())
    for field, value in vars(now["stats"]).items():
        agree(getattr(loaded["stats"], field), value)
    of_file = boltzmax.HierarchicalSoftmax.load(DATA / "layer.npz")
    for layer in (loaded["layer"], of_file):
        agree(layer.log_prob_all(HIDDEN), loaded["log_prob"])
        layer.adagrad_step(HIDDEN, LABELS, lr=0.5)


def test_layer_for_devices() -> None:
    loaded, now = load("cuda"), cuda()
    assert loaded["class"] is now["class"]
    assert type(loaded["layer"]) is type(now["layer"])
    for name in ("tree", "weight", "bias"):
        agree(getattr(loaded["layer"], name), getattr(now["layer"], name))


@pytest.mark.parametrize("file", ["classifiers.pickle", "classifiers.joblib"])
def test_classifiers(file: str) -> None:
    pytest.importorskip("sklearn", minversion="1.6")
    joblib = pytest.importorskip("joblib")
    read = joblib.load if file.endswith(".joblib") else lambda path: pickle.loads(path.read_bytes())
    loaded, now = read(DATA / file), classifiers()
    assert loaded.keys() == now.keys()
    for name, made in now.items():
        model = loaded[name]
        if not isinstance(made, tuple):
            assert type(model) is type(made)
            assert model.get_params() == made.get_params()
            continue
        assert type(model[0]) is type(made[0])
        agree(model[0].predict_proba(FEATURES), model[1])
        if "in parts" in name:
            model[0].partial_fit(FEATURES, NAMES)


def test_public_objects_are_pickled_by_public_name() -> None:
    """So modules can move again without aliases."""
    made = [functions(), trees(), cuda()]
    if find_spec("sklearn"):
        from boltzmax.sklearn import SoftmaxClassifier

        made.append({"new": SoftmaxClassifier(), "new tree": _tree_classifier()})
    for value in made:
        for module in modules_in(pickle.dumps(value, 2)):
            assert module in ("boltzmax", *PUBLIC), module


def modules_in(pickled: bytes) -> set[str]:
    """Return the modules of this package that a pickle of protocol 2 names."""
    found = {
        argument.split()[0]
        for code, argument, _ in pickletools.genops(pickled)
        if code.name == "GLOBAL"
    }
    return {name for name in found if name.partition(".")[0] == "boltzmax"}


def test_old_modules_export_the_public_objects() -> None:
    names = [path.stem for path in Path(boltzmax._moved.__file__).parent.glob("_*.py")]
    for name in sorted({*names} - {"__init__"}):
        if name.startswith("_sklearn") and not find_spec("sklearn"):
            continue
        module = importlib.import_module(f"boltzmax.{name}")
        for attribute in module.__all__:
            value = getattr(module, attribute)
            assert value is getattr(sys.modules[value.__module__], attribute), (name, attribute)


if __name__ == "__main__":
    write_all()

"""Losses, row statistics and trees on inputs of every kind; damaged files and trees."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boltzmax
import boltzmax.testing
import fuzzing
import loss_samples
import tree_samples
import ulp
from boltzmax import HierarchicalSoftmax, LinearSoftmax, Tree

Array = npt.NDArray[Any]
FLOATS = ("float32", "float64", "float16", "bfloat16")

pytest.importorskip("ml_dtypes")


@st.composite
def logits_of(draw: st.DrawFn) -> Array:
    """Rows of moderate numbers of any dtype and layout."""
    shape = (*draw(st.lists(st.integers(1, 5), max_size=2)), draw(fuzzing.SIDES.filter(bool)))
    rng = np.random.default_rng(draw(fuzzing.SEEDS))
    x = draw(st.sampled_from([0.1, 3, 20])) * rng.standard_normal(shape) + rng.uniform(-20, 20)
    dtype = ulp.dtype_of(draw(st.sampled_from(FLOATS)))
    return draw(fuzzing.laid_out(x.round(1).astype(dtype)))


@given(logits_of(), st.data())
def test_cross_entropy(logits: Array, data: st.DataObject) -> None:
    """The loss and the rows of the gradient match the definition."""
    rng = np.random.default_rng(data.draw(fuzzing.SEEDS))
    k, rows = logits.shape[-1], logits.shape[:-1]
    soft = data.draw(st.booleans(), label="soft")
    target: Array = rng.dirichlet(np.ones(k), rows) if soft else rng.integers(k, size=rows)
    if not soft and data.draw(st.booleans(), label="ignored"):
        target = np.where(rng.random(rows) < 0.3, -100, target)
    options: dict[str, Any] = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "weight": st.just(rng.uniform(0.1, 2, k)),
                "sample_weight": st.just(rng.uniform(0.1, 2, rows)),
                "label_smoothing": st.sampled_from([0.1, 1.0]),
                "z_loss": st.sampled_from([1e-4, 0.1]),
                "softcap": st.sampled_from([1.0, 30.0]),
                "temperature": st.sampled_from([0.3, 2.0]),
                "reduction": st.just("sum"),
            },
        ),
        label="options",
    )
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        expected = loss_samples.cross_entropy(wide, target, options)
    half = logits.dtype.itemsize == 2
    tolerance = 1e-10 if logits.dtype.itemsize == 8 else 3e-5
    # The loss is a difference of numbers as large as the scores.
    size = (1 + np.abs(wide).max() / options.get("temperature", 1.0)) ** (1 + ("z_loss" in options))
    size *= 4 * (target.size if options.get("reduction") == "sum" else 1)
    for isa in boltzmax.available_isas():
        fuzzing.seen["cross_entropy"] += 1
        with boltzmax.testing.use_isa(isa):
            loss, gradient = boltzmax.cross_entropy_with_grad(logits, target, **options)
            alone = boltzmax.cross_entropy(logits, target, **options)
        if np.isnan(expected):
            assert np.isnan(loss)
            continue
        assert float(loss) == pytest.approx(expected, rel=tolerance, abs=tolerance * size)
        assert float(alone) == pytest.approx(float(loss), rel=tolerance, abs=tolerance * size)
        assert gradient.shape == logits.shape
        if not {"z_loss", "softcap"} & set(options):
            # Adding a constant to a row changes nothing.
            total = np.abs(gradient.astype(np.float64).sum(-1))
            bound = np.abs(gradient.astype(np.float64)).sum(-1) * (2e-2 if half else tolerance)
            assert (total <= bound + 1e-6 * half + 1e-9).all()


@given(logits_of(), st.data())
def test_row_stats(logits: Array, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(fuzzing.SEEDS))
    target = rng.integers(logits.shape[-1], size=logits.shape[:-1])
    k = data.draw(st.integers(1, 70))
    temperature = data.draw(st.sampled_from([1.0, 0.4, 3.0]))
    for isa in boltzmax.available_isas():
        fuzzing.seen["row_stats"] += 1
        with boltzmax.testing.use_isa(isa):
            rtol = 1e-10 if logits.dtype == np.float64 else 3e-5
            loss_samples.check_row_stats(logits, target, k, temperature, rtol)


# ---- trees


@st.composite
def parents(draw: st.DrawFn) -> list[int]:
    """The parents of a tree, or nearly so."""
    n = draw(st.integers(1, 24))
    inner = draw(st.integers(0, 12))
    first = n if inner else 0
    found = [draw(st.integers(first, n + inner - 1)) for _ in range(n + inner - 1)] + [-1]
    for _ in range(draw(st.integers(0, 2))):
        found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(-2, len(found) + 1))
    return found


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    seed, n = draw(fuzzing.SEEDS), draw(st.integers(2, 40))
    counts = np.random.default_rng(seed).zipf(1.5, n).astype(float)
    kind = draw(st.sampled_from(["huffman", "balanced", "two_level", "random"]))
    if kind == "huffman":
        return Tree.huffman(counts, draw(st.integers(2, 5)))
    if kind == "balanced":
        return Tree.balanced(n, draw(st.integers(2, 5)))
    return Tree.two_level(counts) if kind == "two_level" else random_tree(seed, n)


def random_tree(seed: int, n: int) -> Tree:
    """Repeatedly join two to four random nodes, until one remains."""
    rng = np.random.default_rng(seed)
    parent, open_nodes = [-1] * n, list(range(n))
    while len(open_nodes) > 1:
        rng.shuffle(open_nodes)
        taken = int(rng.integers(1, 5))
        for node in open_nodes[:taken]:
            parent[node] = len(parent)
        open_nodes = [*open_nodes[taken:], len(parent)]
        parent.append(-1)
    return Tree.from_parents(parent)


def is_tree(parent: list[int]) -> bool:
    """Whether all nodes, of which there are two at least, hang below the one root."""
    n = len(parent)
    if n < 2 or parent.count(-1) != 1 or not all(-1 <= above < n for above in parent):
        return False
    reached = {parent.index(-1)}
    for _ in range(n):
        reached |= {node for node, above in enumerate(parent) if above in reached}
    return len(reached) == n


@given(parents())
def test_any_parents(parent: list[int]) -> None:
    """They give a tree whose probabilities sum to 1, or a ValueError where they are none."""
    fuzzing.seen["trees"] += 1
    tree, error = fuzzing.attempt(lambda: Tree.from_parents(parent), ValueError)
    assert (error is None) == is_tree(parent), error
    if error is not None:
        return
    layer = tree_samples.layer_on(tree, 3)
    hidden, _ = tree_samples.rows_for(layer, 2)
    total = np.exp(layer.log_prob_all(hidden).astype(float)).sum(-1)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert Tree.from_parents(tree.parent) == tree


def are_leaves(paths: list[str], sep: str) -> bool:
    """Whether there is a path, none is empty in parts, and none is that of another's ancestor."""
    if not sep or not paths or any(path.endswith(sep) for path in paths):
        return False
    parts = [tuple(path.split(sep)) for path in paths]
    return len({*parts}) == len(parts) and not any(
        "" in one or (one != other and other[: len(one)] == one) for one in parts for other in parts
    )


@given(st.lists(st.text("ab/ \0é", max_size=6), max_size=8), st.sampled_from(["/", "a", "", "//"]))
def test_any_paths(paths: list[str], sep: str) -> None:
    fuzzing.seen["trees"] += 1
    tree, error = fuzzing.attempt(lambda: Tree.from_paths(paths, sep), ValueError)
    assert (error is None) == are_leaves(paths, sep), error
    if error is not None:
        return
    assert tree.n_classes == len(paths)
    assert tree.render()


@given(trees(), st.data())
def test_layers(tree: Tree, data: st.DataObject) -> None:
    """Every method of a layer, against the reference."""
    features = data.draw(st.sampled_from([1, 3, 8, 17]))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    layer = tree_samples.layer_on(tree, features, dtype, data.draw(st.booleans()))
    hidden, target = tree_samples.rows_for(layer, data.draw(st.integers(1, 4)))
    expected = tree_samples.all_log_probs(layer, hidden)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-11}
    k = data.draw(st.integers(1, tree.n_classes))
    for isa in boltzmax.available_isas():
        fuzzing.seen["layers"] += 1
        with boltzmax.testing.use_isa(isa):
            every = layer.log_prob_all(hidden)
            np.testing.assert_allclose(every, expected, **close)
            own = np.take_along_axis(every, target[:, None], 1)[:, 0]
            np.testing.assert_array_equal(layer.log_prob(hidden, target), own)
            ids, best = layer.topk(hidden, k)
            np.testing.assert_array_equal(best, np.take_along_axis(every, ids, 1))
            np.testing.assert_array_equal(best, -np.sort(-every, axis=1)[:, :k])
            loss, _ = tree_samples.gradient(layer, hidden, target, np.ones(len(hidden)))[:2]
            assert float(layer.loss(hidden, target)) == pytest.approx(loss.mean(), rel=1e-4)


# ---- files


LOADS = {"tree": Tree.load, "layer": HierarchicalSoftmax.load, "full": LinearSoftmax.load}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("files")
    layer = tree_samples.layer_on(Tree.from_paths(tree_samples.PATHS), 2)
    full = LinearSoftmax(3, 2, seed=0)
    for learner in (layer, full):
        learner.adagrad_step(*tree_samples.rows_for(learner, 5), 0.1)
    layer.save(folder / "layer")
    layer.tree.save(folder / "tree")
    full.save(folder / "full")
    return {"folder": folder} | {name: (folder / name).read_bytes() for name in LOADS}


def member(array: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


ARRAYS = st.one_of(
    st.builds(np.asarray, st.lists(st.integers(-3, 30), max_size=30)),
    st.builds(
        lambda seed, shape, kind: np.asarray(20 * np.random.default_rng(seed).random(shape), kind),
        fuzzing.SEEDS,
        st.lists(st.integers(0, 20), max_size=3),
        st.sampled_from(["f4", "f8", ">f4", "i4", ">i4", "i8", "u1", "f2", "c8", "?", "U3", "O"]),
    ),
)


@st.composite
def edits(draw: st.DrawFn, data: bytes) -> bytes:
    """Change, remove and insert bytes."""
    edited = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(edited)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "end"]))
        if kind == "set" and at < len(edited):
            edited[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del edited[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            edited[at:at] = draw(st.binary(max_size=16))
        else:
            del edited[at:]
    return bytes(edited)


@st.composite
def members(draw: st.DrawFn, data: bytes) -> bytes:
    """A valid archive in which some arrays are replaced, damaged or missing."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in draw(st.lists(st.sampled_from(sorted(parts)), min_size=1, max_size=2, unique=True)):
        kind = draw(st.sampled_from(["array", "bytes", "none"]))
        if kind == "none":
            del parts[name]
        else:
            parts[name] = draw(ARRAYS.map(member)) if kind == "array" else draw(edits(parts[name]))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return stream.getvalue()


@given(st.sampled_from(sorted(LOADS)), st.data())
def test_hostile_files(files: dict[str, Any], kind: str, data: st.DataObject) -> None:
    """Loading gives a usable object or a ValueError with a reason, and nothing else."""
    fuzzing.seen["files"] += 1
    sound = files[kind]
    path: Path = files["folder"] / "hostile"
    path.write_bytes(data.draw(st.one_of(edits(sound), members(sound))))
    loaded, error = fuzzing.attempt(lambda: LOADS[kind](path), ValueError)
    if error is not None:
        return
    if isinstance(loaded, Tree):
        assert loaded.render()
        assert [loaded.leaf_path(c)[-1] for c in range(loaded.n_classes)] == [
            *range(loaded.n_classes)
        ]
    else:
        hidden, target = tree_samples.rows_for(loaded, 3)
        assert loaded.log_prob(hidden, target).shape == (3,)
        loaded.adagrad_step(hidden, target, 0.1)

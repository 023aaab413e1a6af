"""Trees and layers in files and pickles, intact and damaged."""

from __future__ import annotations

import copy
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boltzmax import HierarchicalSoftmax, Tree
from tree_samples import PATHS, TREES, chain, layer_on, rows_for

Arrays = dict[str, Any]

TREE = Tree.from_paths(PATHS)
TREE_KIND = "boltzmax tree, version 1"
LAYER_KIND = "boltzmax hierarchical softmax, version 1"


def learned(**options: Any) -> HierarchicalSoftmax:
    layer = layer_on(TREE, **options)
    layer.adagrad_step(*rows_for(layer, 5), 0.1)
    return layer


def same(a: HierarchicalSoftmax, b: HierarchicalSoftmax) -> bool:
    """Whether two layers are equal, including Adagrad's sums, which affect later steps."""
    pair = [copy.deepcopy(x) for x in (a, b)]
    for layer in pair:
        layer.adagrad_step(*rows_for(a, 5, seed=9), 0.1)
    return a.tree == b.tree and all(
        (x is None) == (y is None) and (x is None or (x.dtype == y.dtype and (x == y).all()))
        for x, y in (
            (a.weight, b.weight),
            (a.bias, b.bias),
            (pair[0].weight, pair[1].weight),
        )
    )


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
def test_trees_round_trip(tree: Tree, tmp_path: Path) -> None:
    file = tmp_path / "tree.npz"
    tree.save(file)
    assert Tree.load(file) == tree
    assert Tree.load(str(file)) == tree
    assert pickle.loads(pickle.dumps(tree)) == copy.deepcopy(tree) == copy.copy(tree) == tree
    assert [p.name for p in tmp_path.iterdir()] == ["tree.npz"]


def test_names_round_trip(tmp_path: Path) -> None:
    names = ["", "ä/ß", "\ud800", "a\0b\n", '"']
    tree = Tree.from_parents([4, 4, 4, 4, -1], names=names)
    tree.save(tmp_path / "t")  # no suffix is added
    assert Tree.load(tmp_path / "t").names == tree.names
    deep = chain(20_000)
    assert pickle.loads(pickle.dumps(deep)) == deep


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_round_trip(dtype: str, bias: bool, tmp_path: Path) -> None:
    for layer in (layer_on(TREE, dtype=dtype, bias=bias), learned(dtype=dtype, bias=bias)):
        layer.save(tmp_path / "layer")
        loaded = HierarchicalSoftmax.load(tmp_path / "layer")
        for other in (loaded, pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
            assert same(layer, other)
            before = layer.weight.copy()
            other.sgd_step(*rows_for(layer, 3), 0.1)  # can be trained on, and shares no memory
            np.testing.assert_array_equal(layer.weight, before)
    assert layer_on(TREES["one"]).weight.shape == (0, 7)
    layer_on(TREES["one"]).save(tmp_path / "one")
    assert HierarchicalSoftmax.load(tmp_path / "one").tree == TREES["one"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
def test_an_interrupted_save(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned().save(tmp_path / "old")
    old = (tmp_path / "old").read_bytes()
    write = np.savez

    def interrupted(file: Any, **arrays: Any) -> None:
        write(file, **dict(list(arrays.items())[:1]))
        raise error

    monkeypatch.setattr(np, "savez", interrupted)
    for name in ("old", "new"):
        for thing in (TREE, learned()):
            with pytest.raises(error):
                thing.save(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == old


@pytest.mark.parametrize(
    ("thing", "stride"), [(TREE, 9), (learned(n_features=1), 25)], ids=["tree", "layer"]
)
def test_damaged_files(thing: Any, stride: int, tmp_path: Path) -> None:
    """A flipped bit in every byte or three, and truncation: the same object or a ValueError."""
    file, load = tmp_path / "file", type(thing).load
    thing.save(file)
    data = file.read_bytes()
    wrong = []

    def attempt(damaged: bytes, what: str) -> None:
        file.write_bytes(damaged)
        try:
            loaded = load(file)
        except ValueError:
            return
        except Exception as error:
            wrong.append(f"{what}: {error!r}")
            return
        if not (loaded == thing if isinstance(thing, Tree) else same(loaded, thing)):
            wrong.append(f"{what}: something else is read")

    for bit in range(0, 8 * len(data), stride):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        attempt(bytes(flipped), f"bit {bit} of {8 * len(data)}")
    for length in range(0, len(data), 7):
        attempt(data[:length], f"first {length} bytes")
    assert not wrong, "\n".join([f"{len(wrong)} of them", *wrong[:5]])


def npy(array: Any, shape: str | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=True)
    data = stream.getvalue()
    if shape is None:
        return data
    old = repr(np.shape(array)).encode()
    new = data.replace(old, shape.encode(), 1)
    return new.replace(b" " * (len(new) - len(data)) + b"\n", b"\n", 1)


def change(**arrays: Any) -> Callable[[Arrays], Arrays]:
    return lambda good: good | arrays


def drop(name: str) -> Callable[[Arrays], Arrays]:
    return lambda good: {k: v for k, v in good.items() if k != name}


PARENT = TREE.parent
BAD_TREES = {
    "no kind": drop("kind"),
    "other kind": change(kind="boltzmax tree, version 2"),
    "layer's kind": change(kind=LAYER_KIND),
    "kind is an array": change(kind=[TREE_KIND]),
    "kind is a number": change(kind=1),
    "no parents": drop("parent"),
    "int64": change(parent=PARENT.astype(np.int64)),
    "big endian": change(parent=PARENT.astype(">i4")),
    "float": change(parent=PARENT.astype(float)),
    "object": change(parent=PARENT.astype(object)),
    "matrix": change(parent=PARENT[None]),
    "scalar": change(parent=PARENT[0]),
    "empty": change(parent=PARENT[:0]),
    "cycle": change(parent=np.array([3, -1, 3, 2], np.int32)),
    "two roots": change(parent=np.array([-1, -1], np.int32)),
    "out of range": change(parent=np.array([2**31 - 1, -1], np.int32)),
    "other order": change(parent=np.array([1, 2, -1, 1], np.int32), names=[]),
    "names are numbers": change(names=np.frombuffer(b"[1, 2]", np.uint8)),
    "too few names": change(names=np.frombuffer(b'["a"]', np.uint8)),
    "no json": change(names=np.frombuffer(b"[", np.uint8)),
    "no unicode": change(names=np.frombuffer(b'["\xff"]', np.uint8)),
    "a dict": change(names=np.frombuffer(b"{}", np.uint8)),
    "deep json": change(names=np.frombuffer(b"[" * 200_000, np.uint8)),
    "names as floats": change(names=np.array([np.nan, 1e300])),
    "names as text": change(names=np.array("[]")),
    "names as complex": change(names=np.array([1j])),
    "names as records": change(names=np.zeros(2, "i4,f8")),
}


def pack(file: Path, arrays: Arrays) -> None:
    contents = " ".join(sorted(set(arrays) - {"kind", "contents"}))
    arrays = {"contents": contents} | arrays
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", array if isinstance(array, bytes) else npy(array))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spoil", BAD_TREES.values(), ids=BAD_TREES.keys())
def test_hostile_trees(spoil: Callable[[Arrays], Arrays], tmp_path: Path) -> None:
    good = {"kind": TREE_KIND} | TREE.to_arrays()
    pack(tmp_path / "t", good)
    assert Tree.load(tmp_path / "t") == TREE
    pack(tmp_path / "t", spoil(good))
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / 't'))} is damaged or not"):
        Tree.load(tmp_path / "t")


@pytest.mark.parametrize("shape", ["(10000000000,)", "(999999999999999,)", "(-1,)", "(2**80,)"])
def test_declared_shapes(shape: str, tmp_path: Path) -> None:
    pack(tmp_path / "t", {"kind": TREE_KIND, "parent": npy(PARENT, shape)})
    with pytest.raises(ValueError, match="damaged"):
        Tree.load(tmp_path / "t")


UNITS = TREE.n_units
BAD_LAYERS = {
    "tree's kind": change(kind=TREE_KIND),
    "no weights": drop("weight"),
    "no tree": drop("tree_parent"),
    "vector": change(weight=np.zeros(UNITS, np.float32)),
    "float16": change(weight=np.zeros((UNITS, 3), np.float16)),
    "integers": change(weight=np.zeros((UNITS, 3), np.int32)),
    "big endian": change(weight=np.zeros((UNITS, 3), ">f4")),
    "too few": change(weight=np.zeros((UNITS - 1, 3), np.float32)),
    "too many": change(weight=np.zeros((UNITS + 1, 3), np.float32)),
    "no features": change(weight=np.zeros((UNITS, 0), np.float32)),
    "other tree": change(tree_parent=np.array([1, -1], np.int32)),
    "short bias": change(bias=np.zeros(UNITS - 1, np.float32)),
    "other bias": change(bias=np.zeros(UNITS)),
    "2-d bias": change(bias=np.zeros((UNITS, 1), np.float32)),
    "short squares": change(squares=np.zeros(1)),
    "float squares": change(squares=np.zeros(UNITS, np.float32)),
    "negative squares": change(squares=np.full(UNITS, -1.0)),
    "another array": change(extra=np.zeros(UNITS)),
    "another array of the tree": change(tree_extra=np.zeros(UNITS)),
    "pickles": change(bias=np.zeros(UNITS, object)),
    "no magic number": change(bias=b"\0NUMPY"),
    "nothing at all": change(squares=b""),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spoil", BAD_LAYERS.values(), ids=BAD_LAYERS.keys())
def test_hostile_layers(spoil: Callable[[Arrays], Arrays], tmp_path: Path) -> None:
    learned().save(tmp_path / "l")
    with np.load(tmp_path / "l") as file:
        good = dict(file)
    pack(tmp_path / "l", spoil(good))
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / 'l'))} is damaged or not"):
        HierarchicalSoftmax.load(tmp_path / "l")


@pytest.mark.parametrize("load", [Tree.load, HierarchicalSoftmax.load])
def test_arrays_of_another_kind_are_not_read(load: Callable[[Any], Any], tmp_path: Path) -> None:
    """The kind is read first, and the list of arrays before the arrays."""
    huge = npy(np.zeros(3), "(10000000000000,)")  # would be an error of its own
    pack(tmp_path / "f", {"kind": "other", "parent": huge})
    with pytest.raises(ValueError, match=r"it says that it is something else$"):
        load(tmp_path / "f")
    kind = TREE_KIND if load == Tree.load else LAYER_KIND
    pack(tmp_path / "f", {"kind": kind, "contents": "parent weight", "parent": huge})
    with pytest.raises(ValueError, match=r"its arrays are not those that it lists$"):
        load(tmp_path / "f")


def test_fortran_order_in_files(tmp_path: Path) -> None:
    layer = learned()
    layer.save(tmp_path / "l")
    with np.load(tmp_path / "l") as file:
        good = dict(file)
    pack(tmp_path / "l", good | {"weight": np.asfortranarray(layer.weight)})
    assert same(HierarchicalSoftmax.load(tmp_path / "l"), layer)


@pytest.mark.parametrize("load", [Tree.load, HierarchicalSoftmax.load])
def test_other_files(load: Callable[[Any], Any], tmp_path: Path) -> None:
    for data in (b"", b"text", pickle.dumps(TREE), npy(PARENT), b"PK\x05\x06" + b"\0" * 18):
        (tmp_path / "f").write_bytes(data)
        with pytest.raises(ValueError, match=r"damaged|not the file"):
            load(tmp_path / "f")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")

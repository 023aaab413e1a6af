"""Quantised layers in files: mapped into memory, checked, and refused if damaged."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from boltzmax import QuantizedLinear
from boltzmax._lib.mapped import write_mapped
from quantised_samples import FORMS

Array = NDArray[Any]

WEIGHT = np.random.default_rng(0).standard_normal((37, 20))
BIAS = np.random.default_rng(1).standard_normal(37)
HIDDEN = np.random.default_rng(2).standard_normal((3, 20))


def answers(layer: QuantizedLinear) -> list[bytes]:
    parts = (layer.logits(HIDDEN), *layer.intervals(HIDDEN), *layer.candidates(HIDDEN, 2))
    return [part.tobytes() for part in parts]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("verify", [True, False])
def test_layers_survive_files_and_pickles(form: str, verify: bool, tmp_path: Path) -> None:
    layer = QuantizedLinear(WEIGHT, BIAS, **FORMS[form])
    layer.save(tmp_path / "layer.npz")
    loaded = QuantizedLinear.load(tmp_path / "layer.npz", verify=verify)
    assert answers(loaded) == answers(layer)
    assert answers(pickle.loads(pickle.dumps(loaded))) == answers(layer)
    assert repr(loaded) == repr(layer)
    assert loaded.nbytes == layer.nbytes
    assert (loaded.dequantize() == layer.dequantize()).all()
    loaded.save(tmp_path / "layer.npz")  # over the file that is mapped
    assert answers(loaded) == answers(layer)


def test_arrays_are_maps_at_multiples_of_64(tmp_path: Path) -> None:
    QuantizedLinear(WEIGHT).save(tmp_path / "layer.npz")
    loaded = QuantizedLinear.load(tmp_path / "layer.npz")
    for name in ("codes", "scale", "error", "norm", "bias"):
        array = getattr(loaded, f"_{name}")
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0
    with np.load(tmp_path / "layer.npz", allow_pickle=False) as npz:
        assert (npz["codes"] == loaded._codes).all()


def refuses(path: Path, verify: bool = True) -> None:
    with pytest.raises(ValueError, match=r"layer\.npz is damaged or not a boltzmax quantised"):
        QuantizedLinear.load(path, verify=verify)


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    """Any byte but those that only fill up, date or describe an entry."""
    path = tmp_path / "layer.npz"
    layer = QuantizedLinear(WEIGHT[:3, :5], bits=4)
    layer.save(path)
    whole, expected = path.read_bytes(), answers_of_small(layer)
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        for verify in (True, False):
            try:
                loaded = QuantizedLinear.load(path, verify=verify)
            except ValueError:
                continue
            found = answers_of_small(loaded)
            assert not verify or found == expected, place
    for length in (0, 1, 30, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refuses(path)
        refuses(path, verify=False)


def answers_of_small(layer: QuantizedLinear) -> list[bytes]:
    return [part.tobytes() for part in layer.intervals(HIDDEN[:, :5])]


def test_hostile_arrays_are_refused(tmp_path: Path) -> None:
    """They never reach compiled code, checked or not."""
    path = tmp_path / "layer.npz"
    layer = QuantizedLinear(WEIGHT)
    good = layer._arrays()

    def form(**changed: int) -> Array:
        names = ("classes", "features", "bits", "group", "seed", "floats")
        values = dict(zip(names, map(int, good["form"]), strict=True)) | changed
        return np.array(list(values.values()), np.int64)

    bad: dict[str, Array | None] = {}
    tries: list[dict[str, Array | None]] = [
        {"form": form(classes=38 + 16)},
        {"form": form(classes=-1)},
        {"form": form(classes=2**62)},
        {"form": form(features=21)},
        {"form": form(features=2**62, seed=0)},
        {"form": form(bits=4)},
        {"form": form(bits=3)},
        {"form": form(bits=16, group=8)},
        {"form": form(group=7)},
        {"form": form(group=-8)},
        {"form": form(seed=-2)},
        {"form": np.zeros(6)},
        {"form": np.zeros((2, 3), np.int64)},
        {"codes": good["codes"][:, :-1]},
        {"codes": good["codes"].view(np.int8)},
        {"codes": np.asfortranarray(good["codes"])},
        {"scale": good["scale"].astype(np.float64)},
        {"error": None},
        {"more": np.zeros(1)},
        {"search": np.zeros(3)},
    ]
    for bad in tries:
        arrays = {name: array for name, array in {**good, **bad}.items() if array is not None}
        write_mapped(path, QuantizedLinear._kind, arrays)
        refuses(path)
        refuses(path, verify=False)
    for name, number in (("scale", -1.0), ("error", np.nan), ("norm", -0.5), ("bias", np.inf)):
        spoiled = good[name].copy()
        spoiled.flat[3] = number
        write_mapped(path, QuantizedLinear._kind, {**good, name: spoiled})
        refuses(path)
    write_mapped(path, "another kind", good)
    refuses(path)


@pytest.mark.parametrize("spoil", ["compressed", "twice", "text", "objects"])
def test_other_archives_are_refused(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "layer.npz"
    layer = QuantizedLinear(WEIGHT)
    header = {"kind": layer._kind, "contents": " ".join(sorted(layer._arrays()))}
    if spoil == "compressed":
        np.savez_compressed(path, **header, **layer._arrays())
    elif spoil == "objects":
        np.savez(path, **header, **{**layer._arrays(), "bias": np.array([object()], object)})
    elif spoil == "text":
        path.write_text("PK text")
    else:
        layer.save(path)
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("codes.npy", b"")
    refuses(path)
    refuses(path, verify=False)
    with pytest.raises(FileNotFoundError):
        QuantizedLinear.load(tmp_path / "none.npz")


def test_weights_are_read_tile_by_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float32)
    np.save(tmp_path / "weight.npy", weight)
    mapped = np.load(tmp_path / "weight.npy", mmap_mode="r")
    monkeypatch.setattr("boltzmax.linear.quantised._TILE", 2**12)
    layer = QuantizedLinear(mapped, bits=4)
    monkeypatch.undo()
    assert layer._codes.tobytes() == QuantizedLinear(weight, bits=4)._codes.tobytes()


def test_maps_of_another_byte_order_are_not_copied(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((60_000, 64)).astype(">f4")
    np.save(tmp_path / "weight.npy", weight)
    mapped = np.load(tmp_path / "weight.npy", mmap_mode="r")
    tracemalloc.start()
    layer = QuantizedLinear(mapped)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < layer.nbytes + weight.nbytes / 2
    assert layer._codes.tobytes() == QuantizedLinear(weight)._codes.tobytes()

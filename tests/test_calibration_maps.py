"""The contract of calibration maps, checked on every map in the registry."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
import calibration_oracle as oracle
from boltzmax import calibration
from boltzmax.calibration import CalibrationMap, nll
from boltzmax.calibration.estimator import NotFittedError
from boltzmax.calibration.registry import METHODS

SHAPES = {"single": None, "two": 2, "four": 4}
NOT_OF_SHIFTED = {"matrix"}  # what a row's logits have in common matters


def rows(shape: str, n: int = 600, dtype: Any = np.float64, seed: int = 0) -> tuple[Any, Any]:
    """Logits that are 2.5 times as large as they should be, and labels."""
    k = SHAPES[shape]
    z, y = oracle.over_confident(n, k or 2, seed=seed, dtype=dtype)
    return (z[:, 1] - z[:, 0] if k is None else z), y


def new(name: str, **options: Any) -> CalibrationMap:
    return METHODS[name](**options)


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_registry_has_all_public_maps() -> None:
    public = {
        c
        for n in calibration.__all__
        if isinstance(c := getattr(calibration, n), type) and issubclass(c, CalibrationMap)
    }
    assert public - {CalibrationMap} == set(METHODS.values())


def test_held_out_loss_falls(name: str, shape: str) -> None:
    fitted = new(name).fit(*rows(shape, 3000))
    z, y = rows(shape, 3000, seed=1)
    p = fitted.predict_proba(z)
    assert p.shape == (3000, SHAPES[shape] or 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    before = nll(z, y)
    if name == "isotonic":  # its probabilities may be 0
        p = (p + 1e-4) / (1 + p.shape[1] * 1e-4)
    assert nll(p, y, from_probs=True) < before - 0.1


def test_probabilities_are_those_of_the_new_logits(name: str, shape: str) -> None:
    z, y = rows(shape)
    fitted = new(name).fit(z, y)
    new_logits, p = fitted.transform(z), fitted.predict_proba(z)
    assert new_logits.shape == z.shape
    if new_logits.ndim == 1:
        new_logits = np.stack([np.zeros(len(z)), new_logits], axis=1)
        new_logits = np.clip(new_logits, -800, 800)
    np.testing.assert_allclose(boltzmax.softmax(new_logits), p, rtol=1e-9, atol=1e-15)


def test_single_numbers_are_two_classes(name: str) -> None:
    x, y = rows("single")
    both = np.stack([np.zeros(len(x)), x], axis=1)
    if name in ("vector", "matrix"):
        both = both - both.mean(axis=1, keepdims=True)  # what single numbers cannot tell apart
        both = np.stack([np.zeros(len(x)), x], axis=1)
    a, b = new(name).fit(x, y).predict_proba(x), new(name).fit(both, y).predict_proba(both)
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(name: str, dtype: Any) -> None:
    z, y = rows("four", dtype=dtype)
    fitted = new(name).fit(z, y)
    wanted = np.float64 if dtype == np.float64 else np.float32
    p = fitted.predict_proba(z)
    assert p.dtype == fitted.transform(z).dtype == wanted
    exact = new(name).fit(z.astype(np.float64), y).predict_proba(z.astype(np.float64))
    tolerance = {np.float16: 2e-3, np.float32: 5e-4, np.float64: 0}[dtype]
    np.testing.assert_allclose(p, exact, atol=tolerance)


def test_bfloat16(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    z, y = rows("four")
    narrow = z.astype(ml_dtypes.bfloat16)
    p = new(name).fit(narrow, y).predict_proba(narrow)
    wide = narrow.astype(np.float32)
    np.testing.assert_allclose(p, new(name).fit(wide, y).predict_proba(wide), atol=1e-5)


def test_layouts(name: str, tmp_path: Path) -> None:
    z, y = rows("four", dtype=np.float32)
    wanted = new(name).fit(z, y).predict_proba(z)
    np.save(tmp_path / "z.npy", z)
    for same in (
        np.asfortranarray(z),
        np.load(tmp_path / "z.npy", mmap_mode="r"),
        np.repeat(z, 2, axis=1)[:, ::2],
        z.astype(">f4"),
    ):
        found = new(name).fit(same, y.astype(np.uint8)).predict_proba(same)
        np.testing.assert_array_equal(found, wanted)


def test_blocks_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = rows("four")
    wanted = new(name).fit(z, y).predict_proba(z)
    monkeypatch.setattr("boltzmax._lib.scored._BLOCK_BYTES", 1000)
    monkeypatch.setattr("boltzmax.calibration.events._GROUP_BYTES", 10_000)
    np.testing.assert_allclose(new(name).fit(z, y).predict_proba(z), wanted, rtol=1e-5, atol=1e-9)


def test_probabilities_in_place_of_logits(name: str, shape: str) -> None:
    z, y = rows(shape)
    both = np.stack([np.zeros(len(z)), z], axis=1) if z.ndim == 1 else z
    p = boltzmax.softmax(both)
    log_p = np.log(p)
    given = p[:, 1] if z.ndim == 1 else p
    found = new(name, from_probs=True).fit(given, y).predict_proba(given)
    same = log_p[:, 1] - log_p[:, 0] if z.ndim == 1 else log_p
    if name in ("vector", "matrix") and z.ndim == 1:
        same = log_p  # two features, not one
    wanted = new(name).fit(same, y).predict_proba(same)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_what_the_logits_of_a_row_have_in_common_does_not_matter(name: str) -> None:
    z, y = rows("four")
    shift = np.random.default_rng(0).normal(scale=3, size=(len(z), 1))
    if name in {*NOT_OF_SHIFTED, "vector"}:
        shift[:] = 3.0
    a = new(name).fit(z, y).predict_proba(z)
    b = new(name).fit(z + shift, y).predict_proba(z + shift)
    np.testing.assert_allclose(a, b, atol=5e-3 if name == "histogram" else 2e-5)


def test_weights_are_repetitions(name: str) -> None:
    z, y = rows("four")
    w = np.random.default_rng(0).integers(0, 3, len(y))
    again = np.repeat(np.arange(len(y)), w)
    a = new(name).fit(z, y, sample_weight=w).predict_proba(z)
    b = new(name).fit(z[again], y[again]).predict_proba(z)
    np.testing.assert_allclose(a, b, atol=2e-5)


def test_rows_of_weight_0_do_not_count(name: str) -> None:
    z, y = rows("four")
    w = np.ones(len(y))
    w[::3] = 0
    kept = w > 0
    a = new(name).fit(z, y, sample_weight=w).predict_proba(z)
    b = new(name).fit(z[kept], y[kept]).predict_proba(z)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_masked_classes_stay_impossible(name: str) -> None:
    z, y = rows("four")
    z = np.concatenate([z, np.full((len(z), 1), -np.inf)], axis=1)
    if name == "matrix":
        with pytest.raises(ValueError, match=r"finite logits; row 0 has one of -inf"):
            new(name).fit(z, y)
        return
    p = new(name).fit(z, y).predict_proba(z)
    assert np.isfinite(p).all()
    assert p[:, 4].max() < 5e-3
    if name in ("temperature", "ensemble_temperature", "vector"):
        assert p[:, 4].max() == 0


def test_classes_without_rows(name: str) -> None:
    z, y = rows("four")
    kept = y != 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a search for an intercept of -inf
        fitted = new(name).fit(z[kept], y[kept])
    p = fitted.predict_proba(z)
    assert np.isfinite(p).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["right", "wrong", "constant", "one row", "one class"])
def test_degenerate_rows(name: str, kind: str) -> None:
    """At most a warning, and valid probabilities."""
    z, y = rows("four", 50)
    if kind == "right":
        y = z.argmax(axis=1)
    elif kind == "wrong":
        y = z.argmin(axis=1)
    elif kind == "constant":
        z = np.zeros_like(z)
    elif kind == "one row":
        z, y = z[:1], y[:1]
    else:
        z, y = z[:, :1], np.zeros(50, int)
    p = new(name).fit(z, y).predict_proba(z)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-9)


def test_a_call_that_raises_changes_nothing(name: str) -> None:
    z, y = rows("four")
    fitted = new(name).fit(z, y)
    before = fitted.predict_proba(z)
    for bad_z, bad_y in (
        (np.where(np.arange(4) == 1, np.nan, z[:, :4]), y),
        (z, y + 1),
        (z[:, :2], y % 2 * 5),
        (np.zeros((0, 4)), []),
    ):
        with pytest.raises((ValueError, IndexError)):
            fitted.fit(bad_z, np.asarray(bad_y, int))
    np.testing.assert_array_equal(fitted.predict_proba(z), before)


def test_refusals(name: str) -> None:
    z, y = rows("four")
    fitted = new(name)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        fitted.predict_proba(z)
    fitted.fit(z, y)
    with pytest.raises(ValueError, match=r"must be \(rows, 4\), got shape \(600, 3\)"):
        fitted.transform(z[:, :3])
    with pytest.raises(ValueError, match=r"must be \(rows, 4\), got shape \(600,\)"):
        fitted.predict_proba(z[:, 0])
    z[5, 2] = np.nan
    for call in (fitted.transform, fitted.predict_proba):
        with pytest.raises(ValueError, match="1 row has not, the first is row 5"):
            call(z)
    with pytest.raises(ValueError, match="from_probs must be True or False"):
        new(name, from_probs=np.zeros(2)).fit(z, y)


def test_files(name: str, shape: str, tmp_path: Path) -> None:
    z, y = rows(shape, dtype=np.float32)
    fitted = new(name).fit(z, y)
    path = tmp_path / "map.npz"
    fitted.save(path)
    again = type(fitted).load(path)
    assert again.get_params() == fitted.get_params()
    np.testing.assert_array_equal(again.predict_proba(z), fitted.predict_proba(z))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(fitted)).transform(z), fitted.transform(z)
    )
    other = next(m for m in METHODS.values() if m is not type(fitted))
    with pytest.raises(ValueError, match="is damaged or not a boltzmax"):
        other.load(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        type(fitted).load(path)


def test_files_of_another_size_are_refused(name: str, tmp_path: Path) -> None:
    from boltzmax._lib.files import write_npz

    fitted = new(name).fit(*rows("four"))
    arrays = {n: np.asarray(getattr(fitted, n)) for n in type(fitted)._state()}
    largest = max(arrays, key=lambda n: arrays[n].size)
    path = tmp_path / "map.npz"
    bad = -arrays["temperature_"] if largest == "n_features_in_" else arrays[largest][:-1]
    for key, value in ((largest, bad), (largest, arrays[largest] * np.nan), ("more", np.zeros(1))):
        key = "temperature_" if largest == "n_features_in_" and key == largest else key
        write_npz(path, type(fitted)._kind(), {"parameters": "{}", **arrays, key: value})
        with pytest.raises(ValueError, match="is damaged or not"):
            type(fitted).load(path)


def test_names_of_columns(name: str) -> None:
    pandas = pytest.importorskip("pandas")
    z, y = rows("four")
    frame = pandas.DataFrame(z, columns=list("abcd"))
    fitted = new(name).fit(frame, y)
    assert list(fitted.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(fitted.predict_proba(frame), new(name).fit(z, y).predict_proba(z))
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(frame[list("dcba")])

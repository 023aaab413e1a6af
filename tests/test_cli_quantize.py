"""``python -m boltzmax quantize``, and ``text --quantize``."""

from __future__ import annotations

import re

import numpy as np
import pytest

from boltzmax import QuantizedLinear
from boltzmax.cli import main, quantize
from boltzmax.linear.two_stage import Interval


@pytest.fixture(name="layer")
def _layer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((300, 24)).astype(np.float32), rng.standard_normal(300)
    np.save("w.npy", w)
    np.save("b.npy", b)
    return w, b


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ([], {}),
        (["--bits", "4", "--bias", "b.npy"], {"bits": 4}),
        (["--group", "16", "--rotate"], {"scheme": "per_group", "group": 16, "rotate": True}),
    ],
)
def test_the_file_is_the_layer(layer, options, made, capsys):
    w, b = layer
    assert main(["quantize", "w.npy", "out.npz", *options]) == 0
    assert "300 classes of 24" in capsys.readouterr().out
    got = QuantizedLinear.load("out.npz")
    want = QuantizedLinear(w, b if "--bias" in options else None, **made)
    x = w[:5]
    np.testing.assert_array_equal(got.logits(x), want.logits(x))
    assert got.nbytes == want.nbytes


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_the_check_counts(layer, dtype, capsys):
    w, _ = layer
    np.save("w.npy", w.astype(dtype) * dtype(1.1))
    assert main(["quantize", "w.npy", "out.npz", "--bias", "b.npy", "--check"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"bounds that are wrong\W+0\b", output)
    assert float(re.search(r"([\d.]+)% of rows", output)[1]) > 50
    assert 10 <= float(re.search(r"prove them\W+([\d.]+) a row", output)[1]) < 40


def test_the_check_fails_where_bounds_are_wrong(layer, capsys, monkeypatch):
    real = QuantizedLinear.log_partition
    monkeypatch.setattr(
        QuantizedLinear, "log_partition", lambda self, h: tuple(x + 1000 for x in real(self, h))
    )
    monkeypatch.setattr(quantize.TwoStageClassifier, "log_partition", exact_partition(layer[0]))
    assert main(["quantize", "w.npy", "out.npz", "--check"]) == 2
    assert "bounds do not contain the exact value" in capsys.readouterr().err


def exact_partition(w):
    def log_partition(_, hidden, width):
        exact = np.log(np.exp(hidden.astype(float) @ w.T).sum(axis=1))
        return Interval(exact - width / 2, exact + width / 2)

    return log_partition


def test_errors(layer, failure, capsys):
    w, _ = layer
    assert "missing.npy" in failure("quantize", "missing.npy", "out.npz")
    with open("text.npy", "w", encoding="utf-8") as file:
        file.write("no array")
    assert "is no .npy file" in failure("quantize", "text.npy", "out.npz")
    np.savez("two.npz", w)
    assert "is no .npy file" in failure("quantize", "two.npz", "out.npz")
    w[7, 3] = np.nan
    np.save("w.npy", w)
    assert main(["quantize", "w.npy", "out.npz"]) == 2
    assert "row 7" in capsys.readouterr().err
    np.save("w.npy", w[0])
    assert main(["quantize", "w.npy", "out.npz"]) == 2
    assert "weight must be" in capsys.readouterr().err


@pytest.mark.parametrize("bits", ["8", "4"])
def test_text_compares(bits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the cat sat on the mat . " * 100, encoding="utf-8")
    assert main(["text", "--file", "text.txt", "--epochs", "1", "--quantize", bits]) == 0
    output = capsys.readouterr().out.partition(f"layers with weights of {bits} bits")[2]
    for layer in ("full", "tree"):
        row = rf"{layer}\W+(float32|\d bits)\W+([\d.]+)\W+([\d,]+)\W+([\d.]+)"
        before, after = re.findall(row, output)
        assert (before[0], after[0]) == ("float32", f"{bits} bits")
        assert float(after[3]) == pytest.approx(float(before[3]), rel=0.1)

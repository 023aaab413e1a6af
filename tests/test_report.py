"""``python -m boltzmax report``: its numbers, its page and its files."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boltzmax
from boltzmax.calibration import TemperatureScaling, brier_score, ece, ece_interval, nll
from boltzmax.cli import main
from boltzmax.conformal import APS, LAC, RAPS, coverage, mean_set_size
from boltzmax.report.numbers import is_below, measure
from boltzmax.selective import HierarchicalAbstention, SelectiveClassifier
from conftest import Fail, RunPython
from report_samples import sample, write

Array = np.ndarray[Any, Any]

pytest.importorskip("matplotlib")

FIT, TEST = slice(0, None, 2), slice(1, None, 2)


# ---- numbers ----


def test_the_numbers_are_those_of_the_library() -> None:
    """Fitted on rows 0, 2, ..., measured on rows 1, 3, ..."""
    z, y = sample()
    found = measure(z, y, risk=0.05, alpha=0.2)
    assert (found.rows, found.fitted_on, found.measured_on) == (3001, 1501, 1500)
    assert found.accuracy.value == (z.argmax(axis=1) == y).mean()
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high

    scaling = TemperatureScaling().fit(z[FIT], y[FIT])
    assert found.temperature == pytest.approx(scaling.temperature_, rel=1e-6)
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    for quality, logits in (found.before, z[TEST]), (found.after, scaling.transform(z[TEST])):
        assert quality.nll == pytest.approx(nll(logits, y[TEST]), rel=1e-5)
        assert quality.brier == pytest.approx(brier_score(logits, y[TEST]), rel=1e-5)
        assert quality.ece.value == pytest.approx(ece(logits, y[TEST]), abs=1e-5)
        assert quality.ece[1:] == pytest.approx(ece_interval(logits, y[TEST]), abs=1e-4)
    assert found.after.ece.value < found.before.ece.value / 2

    model = SelectiveClassifier(target_risk=0.05).fit(z[FIT], y[FIT])
    answer = model.predict(z[TEST])
    assert found.abstention.threshold == model.threshold_
    assert found.abstention.coverage == (answer >= 0).mean()
    assert found.abstention.risk == (answer != y[TEST])[answer >= 0].mean()
    for sets, predictor in zip(found.sets, (LAC(0.2), APS(0.2), RAPS(0.2)), strict=True):
        expected = predictor.fit(z[FIT], y[FIT]).predict(z[TEST])
        assert sets.coverage == coverage(expected, y[TEST])
        assert sets.mean_size == pytest.approx(mean_set_size(expected))
        assert (sets.counts == np.bincount(expected.sizes, minlength=6)).all()


def test_errors_and_classes() -> None:
    """All rows count, those that were fitted on too."""
    z = np.array([[9, 0, 0, 0], [8, 0, 1, 0], [0, 1, 9, 0], [0, 3, 0, 0], [5, 0, 0, 0]], "f8")
    y = np.array([0, 1, 1, 1, 2])
    found = measure(z, y, risk=0.1, alpha=0.1)
    assert [(e.row, e.label, e.predicted) for e in found.errors] == [
        (2, 1, 2),
        (1, 1, 0),
        (4, 2, 0),
    ]
    assert found.errors[0].confidence == pytest.approx(boltzmax.softmax(z)[2, 2])
    c = found.classes
    assert c.rows.tolist() == [1, 3, 1, 0]
    np.testing.assert_allclose(c.accuracy, [1, 1 / 3, 0, np.nan])
    np.testing.assert_allclose(c.precision, [1 / 3, 1, 0, np.nan])
    assert c.confidence[1] == pytest.approx(boltzmax.softmax(z)[3, 1])
    assert c.mistaken_for.tolist()[0] == -1
    assert c.mistaken_for.tolist()[2:] == [0, -1]
    # One wrong row of class 2 tells less than two of three in class 1.
    assert c.worst.tolist() == [1, 2, 0]


def test_nodes_of_a_tree() -> None:
    z, y = sample()
    tree = boltzmax.Tree.from_paths(["a/x", "a/y", "b/x", "b/y/u", "c"])
    found = measure(z, y, risk=0.05, alpha=0.1, tree=tree).nodes
    assert found is not None
    model = HierarchicalAbstention(tree, target_risk=0.05).fit(z[FIT], y[FIT])
    nodes = model.predict(z[TEST])
    below = np.array([v in tree.leaf_path(c) for v, c in zip(nodes, y[TEST], strict=True)])
    below |= nodes == y[TEST]
    below |= nodes == tree.root
    assert (is_below(tree, y[TEST], nodes) == below).all()
    assert found.risk == (~below).mean()
    assert found.to_class == (nodes < tree.n_classes).mean()
    assert found.shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_every_dtype(dtype: str) -> None:
    z, y = sample(300)
    found = measure(z.astype(dtype), y, risk=0.1, alpha=0.1)
    assert found.accuracy.value > 0.7
    assert np.isfinite(found.after.nll)


def test_single_numbers_are_two_classes() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(scale=3, size=400)
    y = (x + rng.logistic(size=400) > 0).astype(int)
    one = measure(x, y, risk=0.1, alpha=0.1)
    two = measure(np.stack([0 * x, x], axis=1), y, risk=0.1, alpha=0.1)
    assert one.n_classes == 2
    assert one.accuracy == two.accuracy
    assert one.after.nll == pytest.approx(two.after.nll, rel=1e-6)
    assert one.before.ece.value == pytest.approx(two.before.ece.value, rel=1e-6)


@pytest.mark.parametrize("kind", ["two rows", "one class", "all right", "all wrong", "constant"])
def test_degenerate_data_give_a_page(kind: str, folder: Path) -> None:
    z, y = sample(40, 3)
    if kind == "two rows":
        z, y = z[:2], y[:2]
    elif kind == "one class":
        z, y = z[:, :1], 0 * y
    elif kind == "constant":
        z = 0 * z
    else:
        y = (z.argmax(axis=1) + (kind == "all wrong")) % 3
    assert main([*write(z, y), "--json", "r.json"]) == 0
    assert check_page(Path("report.html").read_text(encoding="utf-8"))
    assert json.loads(Path("r.json").read_text())["rows"] == len(z)


def test_the_file_is_not_loaded() -> None:
    """Blocks of 8 MB and their copies, not the whole of it."""
    z, y = sample(200_000, 40)
    tracemalloc.start()
    try:
        measure(z, y, risk=0.05, alpha=0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * z.nbytes  # 32 MB
    assert peak < 80e6


# ---- the page ----


class Page(HTMLParser):
    """Collects what is wrong with a page, and its tables."""

    VOID = ("meta", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: set[str] = set()
        self.images = 0
        self.tables = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "th" and given.get("scope") not in ("col", "row"):
            self.wrong.append("a head without scope")
        if given.get("role") == "img":
            self.images += 1
            if not given.get("aria-label"):
                self.wrong.append("a figure without words")
        self.tables += tag == "table"
        for name in ("src", "href", "xlink:href", "action"):
            if not (given.get(name) or "#").startswith(("#", "data:,")):
                self.wrong.append(f"from elsewhere: {given[name]}")
        if (name := given.get("id")) is not None:
            if name in self.ids:
                self.wrong.append(f"id {name} twice")
            self.ids.add(name)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if self.open.pop() != tag:
            self.wrong.append(f"</{tag}> is not where it belongs")


def check_page(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.wrong == []
    assert page.open == []
    assert page.images == 4
    assert "url(http" not in text
    assert "@import" not in text
    # Every reference within the page has its target.
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text)) <= page.ids
    return page


@pytest.fixture
def written(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The page and the summary of a run with names that are markup."""
    z, y = sample(1200)
    Path("names.txt").write_text("<b>&\n[red]x\n:smile:\ntrüb\n'q\" \n", encoding="utf-8")
    Path("tree.txt").write_text("a/x\na/y\nb/x\nb/y\nc\n", encoding="utf-8")
    options = ["--classes", "names.txt", "--tree", "tree.txt", "--risk", "0.1", "--out", "new"]
    assert main([*write(z, y), *options]) == 0
    return (folder / "new" / "report.html").read_text(encoding="utf-8"), capsys.readouterr().out


def test_the_page_stands_alone(written: tuple[str, str]) -> None:
    page, _ = written
    assert check_page(page).tables == 6
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "prefers-color-scheme: dark" in page
    assert "default-src 'none'" in page
    assert "held out" in page
    for colour in range(2, 8):
        assert f"#01020{colour}" not in page, "a colour that stands for a variable"


def test_the_summary(written: tuple[str, str]) -> None:
    _, summary = written
    for words in (
        *("accuracy", "negative log-likelihood", "Brier", "ECE", "held out", "T = 2"),
        *("at most 0.1 wrong answers among the answered rows, with confidence 0.95", "uncertain"),
        *("LAC", "APS", "RAPS", "Most confident errors", "Worst classes", "root: uncertain"),
        *("[red]x", ":smile:", "report.html"),
    ):
        assert words in summary, words


def test_names_may_have_any_characters_but_the_end_of_a_line(folder: Path) -> None:
    """Also those at which Python's `splitlines` splits; they are markup nowhere."""
    names = ["<script>alert(1)</script>", "a\x0cb", "c\u2028d", "</title>", "\x1b[31m"]
    text = "\ufeff" + "\r\n".join(names)
    Path("names.txt").write_bytes(text.encode())
    assert main([*write(*sample(100)), "--classes", "names.txt", "--json", "r.json"]) == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert check_page(page)
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert json.loads(Path("r.json").read_text())["classes"]["name"][0] == names[0]


def test_json_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is all that is printed; numbers that are not finite are null."""
    z, y = sample(100)
    assert main([*write(z, y), "--json", "-", "--risk", "0.001"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 100
    assert set(found["before"]) == {"nll", "brier", "ece"}
    assert found["before"]["ece"]["low"] <= found["before"]["ece"]["value"]
    assert found["abstention"]["threshold"] is None
    assert found["abstention"]["coverage"] == 0
    assert any("no threshold has a risk of at most 0.001" in note for note in found["notes"])
    assert found["classes"]["name"] == list("01234")
    assert sum(found["sets"][0]["counts"]) == 50


def test_the_digits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without files: the trouble can be seen, and most of it is mended."""
    pytest.importorskip("sklearn")
    assert main(["report", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["temperature"] > 2
    assert found["before"]["ece"]["low"] > found["after"]["ece"]["high"] / 2
    assert found["before"]["ece"]["value"] > 2 * found["after"]["ece"]["value"]
    assert 0.3 < found["abstention"]["coverage"] < 1
    assert "an over-trained model" in Path("report.html").read_text(encoding="utf-8")


# ---- other packages ----


@pytest.mark.parametrize("module", ["sklearn.datasets", "matplotlib.figure"])
def test_what_to_install(
    module: str, folder: Path, failure: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert 'is missing: pip install "boltzmax[demo]"' in failure("report")
    assert list(folder.iterdir()) == []


def test_other_commands_do_not_load_what_the_report_needs(run_python: RunPython) -> None:
    code = "import sys, boltzmax.cli; print([m for m in ('sklearn', 'scipy') if m in sys.modules])"
    assert run_python(code).stdout == "[]\n"

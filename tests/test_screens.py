"""Screens: their bounds contain the exact logits, and what follows from the bounds."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import boltzmax
from boltzmax import (
    ClusteredLinear,
    LowRankLinear,
    QuantizedLinear,
    TwoStageClassifier,
    low_rank,
    prune,
)
from boltzmax.screens import screen as screens
from screen_samples import HOSTILE, SCREENS, exact_logits, hostile

all_screens = pytest.mark.parametrize("make", SCREENS.values(), ids=SCREENS.keys())
all_layers = pytest.mark.parametrize("name", HOSTILE)


@pytest.fixture
def _small_tiles(monkeypatch):
    """Several tiles and blocks, even in small problems."""
    monkeypatch.setattr(screens, "TILE", 48)
    monkeypatch.setattr(screens, "ROWS", 4)


def log_sum(logits):
    """The logsumexp of exact logits, rounded once."""
    with mpmath.workdps(60):
        return np.array(
            [
                float(mpmath.log(sum(mpmath.exp(mpmath.mpf(float(s))) for s in row)))
                for row in logits
            ]
        )


@all_layers
@all_screens
@pytest.mark.usefixtures("isa", "strict")
def test_intervals_contain_the_exact_logits(make, name):
    w, x, b = hostile(name)
    screen = make(w, b)
    exact = exact_logits(x, w, b)
    lower, upper = screen.intervals(x)
    assert lower.dtype == upper.dtype == np.float64
    assert lower.shape == upper.shape == exact.shape
    assert (lower <= exact).all()
    assert (exact <= upper).all()


@all_screens
def test_intervals_of_some_classes(make):
    w, x, b = hostile("normal")
    screen, exact = make(w, b), exact_logits(x, w, b)
    for first, last in ((0, 150), (3, 20), (16, 17), (149, 150), (7, 7)):
        lower, upper = screen.intervals(x, first, last)
        assert lower.shape == (len(x), last - first)
        assert (lower <= exact[:, first:last]).all()
        assert (exact[:, first:last] <= upper).all()


@all_layers
@all_screens
@pytest.mark.usefixtures("_small_tiles", "strict")
def test_candidates_contain_the_largest_logits(make, name):
    w, x, b = hostile(name)
    screen, exact = make(w, b), exact_logits(x, w, b)
    for k in {1, min(3, len(w)), len(w)}:
        found = screen.candidates(x, k)
        assert found.indptr[0] == 0
        assert found.indptr[-1] == len(found.ids)
        for r in range(len(x)):
            some = slice(found.indptr[r], found.indptr[r + 1])
            ids = found.ids[some]
            assert (np.diff(ids) > 0).all()
            assert (found.lower[some] <= exact[r, ids]).all()
            assert (exact[r, ids] <= found.upper[some]).all()
            # All that are as large as the k-th, too.
            border = np.sort(exact[r])[-k]
            assert set(np.flatnonzero(exact[r] >= border)) <= set(ids)


@all_screens
@pytest.mark.usefixtures("_small_tiles", "strict")
@pytest.mark.parametrize(
    "name", ["normal", "equal rows", "zeros", "one class", "no rows", "shuffled"]
)
def test_log_partition_contains_the_exact_one(make, name):
    w, x, b = hostile(name)
    exact = log_sum(exact_logits(x, w, b))
    lower, upper = make(w, b).log_partition(x)
    assert lower.shape == upper.shape == (len(x),)
    assert (lower <= exact).all()
    assert (exact <= upper).all()


@all_screens
@pytest.mark.usefixtures("_small_tiles", "strict")
def test_a_split_has_every_class_once(make):
    w, x, b = hostile("normal")
    screen, exact = make(w, b), exact_logits(x, w, b)
    upper = screen.intervals(x)[1]
    threshold = np.quantile(upper, [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0, 0.7], axis=1).diagonal()
    above, rest_lower, rest_upper = screen.split(x, threshold)
    for r in range(len(x)):
        ids = above.ids[above.indptr[r] : above.indptr[r + 1]]
        rest = np.delete(exact[r], ids)
        total = log_sum([rest])[0] if len(rest) else -np.inf
        assert rest_lower[r] <= total <= rest_upper[r]
        assert not np.delete(upper[r] > threshold[r] + 1e-9, ids).any()
        assert (upper[r, ids] > threshold[r] - 1e-9).all()
    everything = screen.split(x, np.full(len(x), -np.inf))
    assert (np.diff(everything.above.indptr) == len(w)).all()
    assert (everything.upper == -np.inf).all()


@all_screens
@pytest.mark.usefixtures("_small_tiles", "isa", "strict")
def test_winners_contain_the_winner(make):
    w, x, b = hostile("normal")
    exact = exact_logits(x, w, b)
    for key in range(5):
        found = make(w, b).winners(x, key, first_row=17)
        best, keys = boltzmax.gumbel_topk(exact, 1, rng=key, first_row=17)
        for r in range(len(x)):
            some = slice(found.indptr[r], found.indptr[r + 1])
            assert best[r, 0] in found.ids[some]
            at = found.ids[some] == best[r, 0]
            noise = keys[r, 0] - exact[r, best[r, 0]]
            assert found.noise[some][at] == pytest.approx(noise, abs=1e-12)


@all_screens
def test_bad_arguments(make):
    w, x, b = hostile("normal")
    screen = make(w, b)
    for bad in (np.nan, np.inf):
        spoilt = x.copy()
        spoilt[3, 2] = bad
        calls = [
            lambda h: screen.intervals(h),
            lambda h: screen.candidates(h, 1),
            lambda h: screen.log_partition(h),
            lambda h: screen.split(h, np.zeros(len(x))),
            lambda h: screen.winners(h, 1),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"row 3"):
                call(spoilt)
    with pytest.raises(ValueError, match="hidden must be"):
        screen.candidates(x[:, :-1], 1)
    for k in (0, 151):
        with pytest.raises(ValueError, match="k must be"):
            screen.candidates(x, k)
    for make_bad, message in (
        (lambda: make(np.where(np.arange(150)[:, None] == 7, np.nan, w), b), "row 7"),
        (lambda: make(w[0], b), "weight must be"),
        (lambda: make(w, b[:-1]), "bias"),
        (lambda: make(w[:0], b[:0]), "weight must be"),
    ):
        with pytest.raises(ValueError, match=message):
            make_bad()
    with pytest.raises(TypeError):
        make(w.astype(str), b)


APPROXIMATE = [name for name in SCREENS if name != "plain"]


@pytest.mark.parametrize("name", APPROXIMATE)
@pytest.mark.usefixtures("_small_tiles", "strict")
def test_the_approximate_layer(name):
    w, x, b = hostile("normal")
    layer = SCREENS[name](w, b)
    logits = layer.logits(x)
    assert logits.dtype == np.float32
    lower, upper = layer.intervals(x)
    assert (lower <= logits * (1 + 1e-6 * np.sign(logits)) + 1e-6).all()
    assert (logits <= upper + 1e-6 + 1e-6 * np.abs(upper)).all()
    exact = exact_logits(x, w, b)
    assert (np.abs(logits - exact).max(axis=1) <= layer.error_bound(x)).all()
    total = np.log(np.exp(logits.astype(float)).sum(axis=1))
    np.testing.assert_allclose(layer.logsumexp(x), total, rtol=1e-5)
    target = np.arange(len(x)) * 11 % len(w)
    own = logits[np.arange(len(x)), target]
    np.testing.assert_allclose(layer.log_prob(x, target), own - total, rtol=1e-4, atol=1e-5)
    ids, log_probs = layer.topk(x, 5)
    np.testing.assert_allclose(np.take_along_axis(logits, ids, 1), -np.sort(-logits)[:, :5])
    np.testing.assert_allclose(
        log_probs, np.take_along_axis(logits, ids, 1) - total[:, None], rtol=1e-4, atol=1e-5
    )
    assert 0 < layer.nbytes < 10 * w.nbytes
    with pytest.raises(IndexError, match="150"):
        layer.log_prob(x, np.full(len(x), 150))


# ---- one kind each


def test_low_rank_is_the_best_approximation():
    w = hostile("normal")[0]
    left, sizes, right = np.linalg.svd(w.astype(float), full_matrices=False)
    for rank in (1, 4, 17):
        layer = low_rank(w, rank)
        best = (left[:, :rank] * sizes[:rank]) @ right[:rank]
        np.testing.assert_allclose(layer.left @ layer.right, best, atol=2e-5)
    x = hostile("normal")[1]
    widths = [np.subtract(*low_rank(w, rank).intervals(x)[::-1]).mean() for rank in (2, 8, 14, 17)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 1e-4 < 1 < widths[0]


def test_rank_is_checked():
    for rank in (0, 6):
        with pytest.raises(ValueError, match="rank must be"):
            LowRankLinear(np.eye(5), rank=rank)


def test_the_part_of_a_row_outside_the_space_is_all_that_counts():
    """Vectors inside the space of low rank have narrow bounds, whatever the weights leave out."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((60, 10)) @ np.diag([5.0] * 3 + [0.5] * 7)
    layer = low_rank(w, 3)
    x = (rng.standard_normal((4, 3)) @ layer.right).astype(np.float32)
    lower, upper = layer.intervals(x)
    assert (upper - lower).max() < 1e-3
    assert np.subtract(*layer.intervals(rng.standard_normal((4, 10)))[::-1]).min() > 0.01


def test_classes_go_to_the_nearest_centre():
    w = hostile("normal")[0]
    layer = ClusteredLinear(w, n_clusters=9, seed=3)
    away = np.linalg.norm(w[:, None] - layer.centers[None], axis=2)
    np.testing.assert_allclose(
        away[np.arange(len(w)), layer.assignment], away.min(axis=1), rtol=1e-5
    )
    again = ClusteredLinear(w, n_clusters=9, seed=3)
    assert (again.assignment == layer.assignment).all()
    spread = away.min(axis=1).mean()
    assert spread < np.linalg.norm(w - w.mean(axis=0), axis=1).mean()
    with pytest.raises(ValueError, match="n_clusters must be"):
        ClusteredLinear(w, n_clusters=151)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_pruning_removes_the_smallest(ratio):
    rng = np.random.default_rng(1)
    w = rng.standard_normal((20, 12)).astype(np.float32)
    sizes = {
        "magnitude": np.abs(w),
        "row": np.repeat(np.linalg.norm(w, axis=1)[:, None], 12, axis=1),
        "block": np.repeat(np.linalg.norm(w.reshape(20, 3, 4), axis=2), 4, axis=1),
    }
    for method, size in sizes.items():
        dense = prune(w, ratio, method, block=4).dequantize()
        kept = dense != 0
        runs = {"magnitude": 1, "row": 12, "block": 4}[method]
        assert (~kept).sum() == int(ratio * (w.size // runs)) * runs
        assert (dense[kept] == w[kept]).all()
        if 0 < kept.sum() < w.size:
            assert size[~kept].max() <= size[kept].min() + 1e-6


def test_pruning_at_the_edges():
    w = np.float32([[1, -1, 1], [1, 2, 1]])
    np.testing.assert_array_equal(prune(w, 0.5).dequantize(), [[0, 0, 0], [1, 2, 1]])
    last = prune(np.arange(1.0, 11).reshape(2, 5), 0.5, "block", block=3)
    np.testing.assert_array_equal(last.dequantize(), [[0, 0, 0, 0, 0], [6, 7, 8, 9, 10]])
    alone = prune(w, 1.0, "row", bias=[3.0, -4.0])
    np.testing.assert_array_equal(alone.logits([[1.0, 2.0, 3.0]]), [[3.0, -4.0]])
    for ratio in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="ratio must be"):
            prune(w, ratio)
    with pytest.raises(ValueError, match="method must be"):
        prune(w, 0.5, "rows")
    with pytest.raises(ValueError, match="block must be"):
        prune(w, 0.5, "block", block=0)


def test_a_screen_of_fewer_weights_takes_less_memory():
    w = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    assert prune(w, 0.9).nbytes < 0.4 * w.nbytes
    assert prune(w, 0.9, "row").nbytes < 0.2 * w.nbytes
    assert low_rank(w, 16).nbytes < 0.4 * w.nbytes
    assert ClusteredLinear(w).nbytes < 0.2 * w.nbytes
    assert QuantizedLinear(w).nbytes < 0.4 * w.nbytes


def test_a_memory_map_is_read(tmp_path):
    w, x, b = hostile("normal")
    np.save(tmp_path / "w.npy", w)
    mapped = np.load(tmp_path / "w.npy", mmap_mode="r")
    for make in SCREENS.values():
        for got, want in zip(make(mapped, b).intervals(x), make(w, b).intervals(x), strict=True):
            np.testing.assert_array_equal(got, want)
    assert TwoStageClassifier(mapped, b).topk(x, 1).certified.all()

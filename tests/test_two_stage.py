"""Two stages: answers are those of exact arithmetic wherever they are certified."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

import boltzmax
from boltzmax import ClusteredLinear, QuantizedLinear, TwoStageClassifier, low_rank, prune
from boltzmax.linear import narrowing
from boltzmax.screens import exact
from boltzmax.screens import screen as screens
from screen_samples import HOSTILE, SCREENS, exact_logits, exact_order, hostile

all_screens = pytest.mark.parametrize("make", SCREENS.values(), ids=SCREENS.keys())
all_layers = pytest.mark.parametrize("name", HOSTILE)


@pytest.fixture
def _small_tiles(monkeypatch):
    monkeypatch.setattr(screens, "TILE", 48)
    monkeypatch.setattr(screens, "ROWS", 4)


def log_sum(logits):
    with mpmath.workdps(60):
        return float(mpmath.log(sum(mpmath.exp(mpmath.mpf(float(s))) for s in logits)))


@all_layers
@all_screens
@pytest.mark.usefixtures("_small_tiles", "strict")
def test_certified_answers_are_exact(make, name):
    w, x, b = hostile(name)
    layer = TwoStageClassifier(w, b, screen=make)
    orders = [exact_order(row, w, b) for row in x]
    for k in {1, min(4, len(w)), len(w)}:
        top = layer.topk(x, k, log_probs=False)
        assert top.certified.all()
        assert top.log_probs is None
        for r, order in enumerate(orders):
            np.testing.assert_array_equal(top.ids[r], order[:k])
            assert (k if x[r].any() else 0) <= top.rescored[r] <= len(w)
        few = layer.topk(x, k, certify=False, log_probs=False)
        for r in np.flatnonzero(few.certified):
            np.testing.assert_array_equal(few.ids[r], orders[r][:k])
        assert (few.rescored <= k + max(4 * k, 64)).all()
    np.testing.assert_array_equal(layer.predict(x), [order[0] for order in orders])


@pytest.mark.usefixtures("isa", "strict")
def test_every_instruction_set():
    rng = np.random.default_rng(4)
    for width in (1, 7, 8, 9, 31, 64, 100):
        w = rng.standard_normal((200, width)).astype(np.float32)
        b, x = rng.standard_normal(200).astype(np.float32), rng.standard_normal((5, width))
        top = TwoStageClassifier(w, b).topk(x, 3)
        for r, row in enumerate(x.astype(np.float32)):
            np.testing.assert_array_equal(top.ids[r], exact_order(row, w, b)[:3])
        assert top.certified.all()


@all_screens
@pytest.mark.parametrize("name", ["normal", "equal rows", "zeros", "one class", "shuffled"])
def test_log_probabilities_are_bounded(make, name):
    w, x, b = hostile(name)
    layer = TwoStageClassifier(w, b, screen=make)
    k = min(4, len(w))
    ids, (lower, upper), _, _ = layer.topk(x, k)
    for r, logits in enumerate(exact_logits(x, w, b)):
        log_probs = logits[ids[r]] - log_sum(logits)
        assert (lower[r] <= log_probs).all()
        assert (log_probs <= upper[r] + 1e-15).all()
    assert (upper <= 0).all()


@all_screens
@pytest.mark.parametrize("name", ["normal", "equal rows", "zeros", "one class", "no rows"])
@pytest.mark.parametrize("width", [None, 10.0, 1e-3, 1e-9])
def test_log_partition(make, name, width):
    w, x, b = hostile(name)
    bounds = TwoStageClassifier(w, b, screen=make).log_partition(x, width)
    assert bounds.lower.shape == (len(x),)
    for low, high, logits in zip(*bounds, exact_logits(x, w, b), strict=True):
        assert low <= log_sum(logits) <= high
        assert width is None or high - low <= width


def test_few_classes_narrow_a_peaked_partition(monkeypatch):
    rng = np.random.default_rng(5)
    w = rng.standard_normal((60_000, 32)).astype(np.float32)
    x = (3 * rng.standard_normal((8, 32))).astype(np.float32)
    layer = TwoStageClassifier(w)
    computed = []
    real = exact.ExactWeights.scores

    def counted(self, x, indptr, ids):
        computed.append(len(ids))
        return real(self, x, indptr, ids)

    monkeypatch.setattr(exact.ExactWeights, "scores", counted)
    lower, upper = layer.log_partition(x, 1e-3)
    assert ((upper - lower) <= 1e-3).all()
    assert sum(computed) < 0.1 * len(x) * len(w)
    want = boltzmax.linear_logsumexp(x, w.astype(float))
    assert ((lower <= want + 1e-11) & (want <= upper + 1e-11)).all()


def test_all_classes_narrow_what_nothing_else_does(monkeypatch):
    monkeypatch.setattr(narrowing, "_TRIES", 0)
    w, x, b = hostile("normal")
    lower, upper = TwoStageClassifier(w, b).log_partition(x, 1e-9)
    for low, high, logits in zip(lower, upper, exact_logits(x, w, b), strict=True):
        assert low <= log_sum(logits) <= high <= low + 1e-9


def test_spread_rows_take_one_product(monkeypatch):
    """Where too many classes would be rescored, a float32 product answers, whose errors are known.

    A row of zeros, and one peak that the sample of classes does not have, are among them.
    """
    rng = np.random.default_rng(15)
    w, b = rng.standard_normal((20_000, 32), dtype=np.float32), rng.standard_normal(20_000)
    b = b.astype(np.float32)
    x = rng.standard_normal((24, 32), dtype=np.float32) / 8
    x[5], x[16] = 0, w[777] * 2
    layer = TwoStageClassifier(w, b)
    rescored, real = [], exact.ExactWeights.scores

    def counted(self, x, indptr, ids):
        rescored.append(len(ids))
        return real(self, x, indptr, ids)

    monkeypatch.setattr(exact.ExactWeights, "scores", counted)
    monkeypatch.delattr(exact.ExactLinear, "_product")
    lower, upper = layer.log_partition(x, 1e-3)
    assert ((upper - lower) <= 1e-3).all()
    assert sum(rescored) < 0.1 * len(x) * len(w)
    want = boltzmax.linear_logsumexp(x, w.astype(float), b)
    assert ((lower <= want + 1e-12) & (want <= upper + 1e-12)).all()


# ---- draws


@all_screens
@pytest.mark.usefixtures("_small_tiles", "strict")
@pytest.mark.parametrize("name", ["normal", "equal rows", "zeros", "one class", "no rows", "sizes"])
def test_draws_are_those_of_the_exact_logits(make, name):
    w, x, b = hostile(name)
    layer = TwoStageClassifier(w, b, screen=make)
    for key in range(4):
        want = boltzmax.gumbel_topk(exact_logits(x, w, b), 1, rng=key)[0][:, 0]
        np.testing.assert_array_equal(layer.sample(x, key), want)


@pytest.mark.parametrize("make", [QuantizedLinear, ClusteredLinear])
def test_draws_have_the_distribution_of_the_softmax(make):
    rng = np.random.default_rng(6)
    w, b = rng.standard_normal((40, 6)).astype(np.float32), rng.standard_normal(40)
    x, draws = rng.standard_normal(6), 40_000
    layer = TwoStageClassifier(w, b.astype(np.float32), screen=make)
    counts = np.bincount(layer.sample(np.tile(x, (draws, 1)), 11), minlength=40)
    p = boltzmax.softmax(exact_logits(x[None].astype(np.float32), w, b.astype(np.float32))[0])
    assert stats.chisquare(counts, draws * p).pvalue > 1e-3


def test_the_same_key_draws_the_same():
    w, x, b = hostile("normal")
    layer = TwoStageClassifier(w, b)
    np.testing.assert_array_equal(layer.sample(x, 3), layer.sample(x, 3))
    generator = np.random.default_rng(0)
    drawn = {tuple(layer.sample(x, generator)) for _ in range(4)}
    assert len(drawn) == 4
    for bad in (-1, 2**64):
        with pytest.raises(ValueError, match="rng must be"):
            layer.sample(x, bad)
    with pytest.raises(TypeError, match="rng must be"):
        layer.sample(x, "seed")


# ---- what cannot be decided


def undecidable():
    """Different classes whose sums differ by less than the rounding of doubles."""
    rng = np.random.default_rng(7)
    n = exact.MOST_COMPARED + 100
    w = np.ones((n, 3), np.float32)
    w[:, 1] = -1
    w[:, 2] = rng.permutation(n) + 1
    return w, np.float32([[1e30, 1e30, 1.0]])


def test_what_is_not_proven_is_not_certified(monkeypatch):
    w, x = undecidable()
    layer = TwoStageClassifier(w, screen=SCREENS["nothing kept"])
    top = layer.topk(x, 2, log_probs=False)
    assert not top.certified.any()
    assert (top.rescored == len(w)).all()
    # Few enough to be compared, they are.
    monkeypatch.setattr(exact, "MOST_COMPARED", len(w))
    top = layer.topk(x, 2, log_probs=False)
    assert top.certified.all()
    np.testing.assert_array_equal(top.ids[0], exact_order(x[0], w, None)[:2])


def test_equal_classes_count_as_one():
    w = np.ones((5 * exact.MOST_COMPARED, 2), np.float32)
    top = TwoStageClassifier(w).topk([[1.0, 2.0]], 3)
    np.testing.assert_array_equal(top.ids, [[0, 1, 2]])
    assert top.certified.all()


def test_ties_of_different_classes():
    w = np.float32([[1, 2, 0], [2, 1, 0], [0, 0, 3], [3, 0, 0], [1, 1, 1]])
    top = TwoStageClassifier(w).topk([[0.1, 0.1, 0.1]], 5, log_probs=False)
    np.testing.assert_array_equal(top.ids, [[0, 1, 2, 3, 4]])
    assert top.certified.all()


# ---- arguments


@all_screens
def test_bad_rows_are_named(make):
    w, x, b = hostile("normal")
    layer = TwoStageClassifier(w, b, screen=make)
    for bad in (np.nan, -np.inf, 1e300):
        spoilt = x.astype(float)
        spoilt[4, 0] = bad
        for call in (
            lambda h: layer.topk(h, 2),
            lambda h: layer.predict(h),
            lambda h: layer.sample(h, 0),
            lambda h: layer.log_partition(h),
            lambda h: layer.log_partition(h, 0.1),
        ):
            with pytest.raises(
                ValueError, match="hidden must be finite in float32, but row 4 is not"
            ):
                call(spoilt)


def test_bad_arguments():
    w, x, b = hostile("normal")
    layer = TwoStageClassifier(w, b)
    for k in (0, 151):
        with pytest.raises(ValueError, match="k must be from 1 to 150"):
            layer.topk(x, k)
    for width in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="width must be"):
            layer.log_partition(x, width)
    with pytest.raises(ValueError, match=r"\(N, 17\)"):
        layer.topk(x[:, 1:], 1)
    with pytest.raises(ValueError, match="keep_exact must be one of"):
        TwoStageClassifier(w, keep_exact="disk")
    with pytest.raises(TypeError, match="screen must be"):
        TwoStageClassifier(w, screen=8)
    with pytest.raises(TypeError, match="no Screen"):
        TwoStageClassifier(w, screen=lambda w, b: w)
    with pytest.raises(ValueError, match="149 classes of 17 features"):
        TwoStageClassifier(w, screen=QuantizedLinear(w[1:]))
    with pytest.raises(ValueError, match="weight must be finite in float32, but row 3 is not"):
        TwoStageClassifier(np.where(np.arange(150)[:, None] == 3, np.inf, w))


def test_the_screen_must_be_of_these_weights():
    w, _, b = hostile("normal")
    for screen in (QuantizedLinear(w + 1, b), low_rank(w, 17), prune(w, 0.1, bias=b + 3)):
        with pytest.raises(ValueError, match="other weights"):
            TwoStageClassifier(w, b, screen=screen)
    with pytest.raises(ValueError, match="weight has numbers that float32 rounds"):
        TwoStageClassifier(w.astype(float) + 1e-9, b, screen=QuantizedLinear(w, b))
    with pytest.raises(ValueError, match="bias has numbers that float32 rounds"):
        TwoStageClassifier(w, b.astype(float) + 1e-9, screen=QuantizedLinear(w, b))
    TwoStageClassifier(w.astype(float), b.astype(float), screen=QuantizedLinear(w, b))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "bfloat16"])
def test_every_dtype(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(8)
    w, x = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((50, 6), (4, 6)))
    top = TwoStageClassifier(w).topk(x, 3)
    for r, row in enumerate(x):
        want = exact_order(row.astype(np.float32), w.astype(np.float32), None)[:3]
        np.testing.assert_array_equal(top.ids[r], want)


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base if isinstance(array, np.ndarray) else None
    return array is not None


def test_weights_in_a_file(tmp_path):
    w, x, b = hostile("normal")
    path = tmp_path / "weight.npy"
    np.save(path, w)
    want = TwoStageClassifier(w, b).topk(x, 3)
    for given in (path, str(path), np.load(path, mmap_mode="r")):
        for place in ("mmap", "memory"):
            layer = TwoStageClassifier(given, b, keep_exact=place)
            assert is_mapped(layer._exact.weight) == (place == "mmap")
            np.testing.assert_array_equal(layer.topk(x, 3).ids, want.ids)
    for content in (b"", b"something else", path.read_bytes()[:-1]):
        damaged = tmp_path / "damaged.npy"
        damaged.write_bytes(content)
        for place in ("mmap", "memory"):
            with pytest.raises(ValueError, match=r"damaged\.npy is no \.npy file"):
                TwoStageClassifier(damaged, b, keep_exact=place)
    np.save(path, w.astype(float))
    for given in (w, path):
        with pytest.raises(ValueError, match="float32 in C order"):
            TwoStageClassifier(given, b, keep_exact="mmap")
    assert TwoStageClassifier(path, b).topk(x, 3).certified.all()


# ---- exact comparisons


def test_exact_logits_are_within_their_errors():
    for name in HOSTILE:
        w, x, b = hostile(name)
        weights = exact.ExactWeights(w, b)
        ids = np.tile(np.arange(len(w)), len(x))
        scores, errors = weights.scores(x, np.arange(len(x) + 1) * len(w), ids)
        want = exact_logits(x, w, b).ravel()
        assert (np.abs(scores - want) <= errors).all()
        sizes = np.abs(x.astype(float)) @ np.abs(w.astype(float)).T + (
            0 if b is None else np.abs(b)
        )
        assert (errors <= 2e-15 * sizes.ravel() * (1 + w.shape[1] / 64)).all()


def test_the_order_of_noisy_logits():
    w = np.ones((4, 2), np.float32)
    weights = exact.ExactWeights(w, None)
    noise = np.array([0.0, math.ulp(0.0), 0.0, -1.0])
    order = weights.in_order(np.ones(2, np.float32), np.arange(4), noise)
    np.testing.assert_array_equal(order, [1, 0, 2, 3])


# ---- the choice of a screen


def test_the_smallest_screen_that_is_fast_enough():
    rng = np.random.default_rng(9)
    w, x = rng.standard_normal((3000, 32)).astype(np.float32), rng.standard_normal((4, 32))
    layer = TwoStageClassifier(w)
    want = layer.topk(x, 5).ids
    trials = layer.fit_budget(x, 1e9, k=5)
    assert {trial.name for trial in trials} == {"8 bits", "4 bits", "bfloat16", "low rank"}
    assert trials[0].nbytes == min(trial.nbytes for trial in trials) == layer.screen.nbytes
    assert all(trial.seconds > 0 and 5 <= trial.rescored <= 3000 for trial in trials)
    np.testing.assert_array_equal(layer.topk(x, 5).ids, want)
    trials = layer.fit_budget(x, 0.0, screens={"few": ClusteredLinear, "many": QuantizedLinear})
    assert trials[0].seconds == min(trial.seconds for trial in trials)
    assert isinstance(
        layer.screen, {"few": ClusteredLinear, "many": QuantizedLinear}[trials[0].name]
    )


def test_a_failed_choice_changes_nothing():
    w, x, b = hostile("normal")
    layer = TwoStageClassifier(w, b)
    before = layer.screen
    for screens_tried, error, message in (
        ({}, ValueError, "at least one"),
        (
            {"good": QuantizedLinear, "other": lambda w, b: QuantizedLinear(w + 1, b)},
            ValueError,
            "other",
        ),
        ({"bad": lambda w, b: w}, TypeError, "no Screen"),
    ):
        with pytest.raises(error, match=message):
            layer.fit_budget(x, 1.0, screens=screens_tried)
        assert layer.screen is before
    with pytest.raises(ValueError, match="target_latency must be"):
        layer.fit_budget(x, -1.0)


def test_threads_change_no_bit(threads):
    rng = np.random.default_rng(10)
    w = rng.standard_normal((60_000, 48)).astype(np.float32)
    x = 2 * rng.standard_normal((9, 48))
    layer = TwoStageClassifier(w)
    found = []
    for count in (1, 2, 5):
        threads(count)
        top = layer.topk(x, 7)
        bounds = layer.log_partition(x, 1e-3)
        found.append([top.ids, *top.log_probs, top.rescored, *bounds, layer.sample(x, 3)])
    for other in found[1:]:
        for got, want in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(got, want)

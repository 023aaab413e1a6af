"""Totals of rows that come in parts: the same bits for any parts, in any order, on every ISA."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import boltzmax
import boltzmax.testing
from boltzmax.losses.parts import PART, empty_parts, merge_parts, parts_of, read_parted_loss
from boltzmax.variants.exact_totals import (
    Normalizer,
    empty_sums,
    empty_totals,
    merge_sums,
    merge_totals,
    rounded_sums,
    sums_of,
    totals_of,
)
from boltzmax.variants.leaders import leaders_of, merge_leaders

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.usefixtures("strict")

N = 3001


def cuts(n: int) -> Iterator[list[slice]]:
    """Ways to divide a row: whole, in halves, unevenly, in many parts."""
    for edges in ([], [n // 2], [1, 2, n - 1], [*range(97, n, 97)]):
        yield [slice(a, b) for a, b in zip([0, *edges], [*edges, n], strict=True)]


def total_of(x: Array, parts: list[slice], t: float, rng: np.random.Generator) -> Array:
    """The total of rows from parts that are merged in a random tree."""
    each = [totals_of(x[:, part], part.start, t) for part in parts]
    while len(each) > 1:
        other = each.pop(int(rng.integers(len(each))))
        merge_totals(each[int(rng.integers(len(each)))], other, t)
    return each[0]


def results(x: Array, totals: Array, t: float) -> tuple[bytes, ...]:
    rows = Normalizer(totals, t)
    arrays = (rows.argmax, rows.lse, rows.log_sum, rows.softmax(x), rows.log_softmax(x))
    return tuple(np.ascontiguousarray(a).tobytes() for a in arrays)


# Scale and offset of normal numbers: usual rows, long tails, large offsets, and scores beyond those
# that the reduction of fast exponentials allows.
ROWS = [(1.0, 0.0), (30.0, 0.0), (300.0, 1e3), (1.0, 1e6), (10.0, -3e7), (3.0, 2e9), (1e17, 0.0)]


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3e-3])
@pytest.mark.parametrize(("scale", "offset"), ROWS)
def test_bits_depend_on_nothing_but_the_row(
    scale: float, offset: float, temperature: float, dtype: np.dtype[Any]
) -> None:
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):  # float16 has infinities then
        x = (rng.normal(size=(2, N)) * scale + offset).astype(dtype)
    x[0, 7] = -np.inf
    x[1, 100:300] = x[1].max()  # ties
    want = None
    for isa in boltzmax.available_isas():
        with boltzmax.testing.use_isa(isa):
            for parts in cuts(N):
                got = results(x, total_of(x, parts, temperature, rng), temperature)
                want = want or got
                assert got == want, (isa, len(parts))


def test_long_rows_and_threads_change_no_bit(threads: Callable[[int], None]) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 200_003)).astype(np.float32)
    threads(1)
    want = totals_of(x).tobytes()
    threads(2)
    assert totals_of(x).tobytes() == want
    halves = totals_of(x[:, :70_001])
    merge_totals(halves, totals_of(x[:, 70_001:], 70_001))
    assert results(x, halves, 1.0) == results(x, totals_of(x), 1.0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("scale", "offset"), ROWS[:4])
def test_errors(scale: float, offset: float, temperature: float) -> None:
    """0.51 ULP of float32 and 3 of float64, against long double, whose terms may underflow."""
    with np.errstate(under="ignore"):
        check_errors(scale, offset, temperature)


def check_errors(scale: float, offset: float, temperature: float) -> None:
    for name, ulps in (("float32", 0.51), ("float64", 3.0)):
        dtype = np.dtype(name)
        x = (np.random.default_rng(2).normal(size=(4, N)) * scale + offset).astype(dtype)
        wide = x.astype(np.longdouble)
        distance = (wide - wide.max(axis=1, keepdims=True)) / np.longdouble(temperature)
        terms = np.exp(distance)
        is_max = distance == 0
        others = np.where(is_max, 0, terms).sum(axis=1) + (is_max.sum(axis=1) - 1)
        total, log_sum = 1 + others[:, None], np.log1p(others)
        rows = Normalizer(totals_of(x, 0, temperature), temperature)
        assert np.abs(rows.log_sum / log_sum - 1).max() < 8 * 2.0**-52
        p = terms / total
        is_normal = p > np.finfo(dtype).tiny
        error = np.abs(rows.softmax(x) / p - 1)[is_normal].max() / np.finfo(dtype).eps
        # A score of 10^6 that is divided by a temperature has lost digits where x - max is rounded.
        assert error < ulps * (1 if offset < 1e6 else 6), name
        log_p = rows.log_softmax(x.astype(np.float64))
        want = distance - log_sum[:, None]
        assert np.abs(log_p - want).max() < 4 * 2.0**-52 * max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1e-3])
def test_large_scores_keep_their_differences(temperature: float) -> None:
    """Neighbours up to |x / T| = 2^59, whose exponentials take ln 2 to 128 bits."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(6)
    for _ in range(200):
        q = rng.choice([-1.0, 1.0]) * 2.0 ** rng.uniform(19, 59)
        x = float(q * temperature)
        below = float(np.nextafter(x, -np.inf))
        with mpmath.workprec(300):
            distance = (mpmath.mpf(below) - mpmath.mpf(x)) / mpmath.mpf(temperature)
            want = float(mpmath.log1p(mpmath.exp(distance)))
        total = totals_of(np.array([[below, x]]), 0, temperature)
        got = Normalizer(total, temperature).log_sum[0]
        assert got == pytest.approx(want, rel=1e-15)
    x = 2.0**60  # beyond, only the maximum counts
    assert Normalizer(totals_of(np.array([[x, np.nextafter(x, 0.0)]]))).log_sum[0] == 0.0


def test_small_rests_are_not_lost() -> None:
    """As `boltzmax.logsumexp`, of which log1p of the rest is left."""
    x = np.array([[0.0, -40.0], [0.0, -600.0], [0.0, -744.0], [0.0, -900.0]])
    got = Normalizer(totals_of(x)).log_sum
    with np.errstate(under="ignore"):
        assert np.allclose(got, np.exp(x[:, 1]), rtol=1e-15, atol=0.0)
    assert (Normalizer(totals_of(x)).log_softmax(x)[:, 0] == -got).all()


def test_probabilities_of_one_class_and_of_equal_ones_are_exact() -> None:
    x = np.array([[0.3], [1e9], [-7.1]])
    assert (Normalizer(totals_of(x)).softmax(x) == 1.0).all()
    x = np.full((1, 1024), 0.123)
    assert (Normalizer(totals_of(x)).softmax(x) == 2.0**-10).all()


def test_special_rows(dtype: np.dtype[Any]) -> None:
    """As `softmax` and `log_softmax` have them, whichever part the special number is in."""
    inf, nan = np.inf, np.nan
    x = np.array(
        [[nan, 0, 1, 2], [inf, 0, 1, -inf], [-inf] * 4, [-inf, 0, -inf, 1], [inf, inf, 0, nan]]
    ).astype(dtype)
    for split in range(5):
        totals = totals_of(x[:, :split])
        merge_totals(totals, totals_of(x[:, split:], split))
        rows = Normalizer(totals)
        assert np.array_equal(np.isnan(rows.softmax(x)), np.isnan(boltzmax.softmax(x)))
        with np.errstate(invalid="ignore"):
            got, want = rows.log_softmax(x), boltzmax.log_softmax(x)
        assert np.array_equal(np.isnan(got), np.isnan(want))
        assert np.array_equal(np.isneginf(got), np.isneginf(want))
        with np.errstate(invalid="ignore"):
            lse = boltzmax.logsumexp(x, axis=-1).astype(np.float64)
        assert np.allclose(rows.lse, lse, rtol=1e-2, equal_nan=True)


def test_empty_parts_change_nothing() -> None:
    x = np.ones((2, 3))
    totals = empty_totals(2)
    merge_totals(totals, totals_of(x[:, :0]))
    assert np.isneginf(Normalizer(totals).lse).all()
    merge_totals(totals, totals_of(x))
    assert totals.tobytes() == totals_of(x).tobytes()
    assert pickle.loads(pickle.dumps(totals)).tobytes() == totals.tobytes()


def test_argmax_is_the_first() -> None:
    x = np.array([[0.0, 5.0, 1.0, 5.0, 5.0]])
    late = totals_of(x[:, 3:], 3)
    merge_totals(late, totals_of(x[:, :3]))
    assert late["argmax"][0] == 1
    assert late["count"][0] == 3


@pytest.mark.parametrize("size", [1.0, 1e-300, 1e300])
def test_sums_with_signs_are_exact(size: float) -> None:
    """Sums whose large terms cancel, against Python's integers."""
    from fractions import Fraction

    rng = np.random.default_rng(3)
    with np.errstate(under="ignore"):
        half = rng.normal(size=500) * 10.0 ** rng.uniform(-12, 0, 500) * size
    x = rng.permutation(np.concatenate([half, -half, [1e-10 * size]]))[None]
    want = float(sum(map(Fraction, x[0])))
    sums = empty_sums(1)
    for part in np.array_split(x, 7, axis=1):
        merge_sums(sums, sums_of(part))
    assert rounded_sums(sums)[0][0] == pytest.approx(want, rel=1e-15)
    special = sums_of(np.array([[1.0, -np.inf], [np.nan, 0.0]]))
    assert np.array_equal(rounded_sums(special)[0], [-np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 0.01}])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_losses_from_parts(options: dict[str, float], offset: float) -> None:
    rng = np.random.default_rng(4)
    x, target = rng.normal(size=(20, 50)) * 3 + offset, rng.integers(0, 50, 20)
    loss = read_parted_loss(
        (20,), np.dtype(np.float64), target, 50, ignore_index=-100, temperature=0.8,
        reduction="mean", sample_weight=None, empty="nan", with_grad=True,
        **{"label_smoothing": 0.0, "z_loss": 0.0, **options},
    )  # fmt: skip
    parts = empty_parts(20)
    assert parts.dtype == PART
    for at in (slice(30, 50), slice(0, 30)):
        merge_parts(parts, loss.parts(x[:, at], at.start), 0.8)
    want, gradient = boltzmax.cross_entropy_with_grad(x, target, temperature=0.8, **options)
    assert loss.reduce(loss.losses(parts)) == pytest.approx(want, rel=1e-14)
    slopes = loss.slopes(x, 0, parts, loss.reduce.scale())
    assert np.abs(slopes - gradient).max() < 1e-13 * np.abs(gradient).max()


def test_the_slope_of_a_confident_row_keeps_its_digits() -> None:
    x = np.array([[40.0, 0.0]], np.float32)
    loss = read_parted_loss(
        (1,), np.dtype(np.float32), [0], 2, ignore_index=-100, label_smoothing=0.0, z_loss=0.0,
        temperature=1.0, reduction="sum", sample_weight=None, empty="nan", with_grad=True,
    )  # fmt: skip
    slopes = loss.slopes(x, 0, parts_of(x, 0, 1.0, np.array([0])), np.ones(1))
    assert slopes[0, 0] == pytest.approx(-np.exp(-40.0), rel=1e-6)


def test_leaders_of_parts_are_those_of_the_row() -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 6, (30, 40)).astype(np.float32)  # with many ties
    want = boltzmax.row_stats(x, k=9, entropy=False).top_ids
    leaders = leaders_of(x[:, 25:], 25, 9)
    merge_leaders(leaders, leaders_of(x[:, :3], 0, 9))
    merge_leaders(leaders, leaders_of(x[:, 3:25], 3, 9))
    assert np.array_equal(leaders["id"], want)


def test_label_smoothing_of_logits_whose_sum_overflows() -> None:
    x = np.linspace(0.0, 1.6e308, 9)[None]
    options: dict[str, Any] = {"target": [3], "n_classes": 9, "ignore_index": -100, "z_loss": 0.0}
    options |= {"reduction": "none", "sample_weight": None, "empty": "nan", "with_grad": False}
    for temperature in (1.0, 1e3):
        loss = read_parted_loss(
            (1,), x.dtype, label_smoothing=0.5, temperature=temperature, **options
        )
        # Half of max - x_3, and half of the mean of all max - x_c.
        want = (1.0e308 / 2 + 0.8e308 / 2) / temperature
        assert loss.losses(loss.parts(x, 0))[0] == pytest.approx(want, rel=1e-15)

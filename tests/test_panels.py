"""Short rows, which are processed in panels: as many rows together as a vector has lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import ulp
from operations import GRADIENTS, MAPS

Array = npt.NDArray[Any]
ALL = (*ulp.OPS, *GRADIENTS)
# Around the limits of transposed rows (8 to 40), whole vectors, panels that are read twice (128 or
# 256, for losses 256 or 512), and panels of logarithms (256 or 512).
LENGTHS = (
    *(1, 2, 3, 5, 7, 8, 9, 12, 13, 16, 17, 24, 25, 31, 32, 33, 40, 41, 65, 100),
    *(128, 129, 256, 257, 512, 513),
)


def logits(rows: int, n: int, dtype: Any, seed: int = 0) -> Array:
    generator = np.random.default_rng((seed, rows, n))
    x = generator.normal(size=(rows, n)) * generator.choice([0.1, 3.0, 30.0], (rows, 1))
    x[generator.random(rows) < 0.2] += 2000.0  # large enough to need the subtraction of the maximum
    x[generator.random(rows) < 0.2, n // 2] += 60.0  # the others are tiny next to this one
    return x.astype(dtype)


def call(op: str, x: Array, **options: Any) -> Array:
    function = getattr(boltzmax, op)
    return np.asarray(function(x, -abs(x)) if op in GRADIENTS else function(x, **options))


def same(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes()


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("n", LENGTHS)
def test_a_row_has_the_same_bits_in_every_panel(op: str, n: int, dtype: Any, isa: str) -> None:
    x = logits(37, n, dtype)
    expected = call(op, x)
    for row in range(0, 37, 3):
        assert same(call(op, x[row : row + 1]), expected[row : row + 1]), row
    for first, rows in ((0, 2), (1, 15), (3, 16), (5, 17), (9, 28)):
        part = call(op, x[first : first + rows])
        assert same(part, expected[first : first + rows]), (first, rows)


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("n", LENGTHS)
def test_layouts_have_the_same_bits(op: str, n: int, dtype: Any, isa: str) -> None:
    x = logits(19, n, dtype, seed=1)
    expected = call(op, x)
    wide = np.zeros((19, n + 3), dtype)
    wide[:, 2:-1] = x
    apart = np.zeros((19, 2 * n), dtype)
    apart[:, ::2] = x
    for other in (wide[:, 2:-1], apart[:, ::2], np.asfortranarray(x), x[::-1][::-1].copy("F")):
        assert same(np.ascontiguousarray(call(op, other)), expected)
    if op in ulp.OPS:
        columns = np.asarray(getattr(boltzmax, op)(np.ascontiguousarray(x.T), 0))
        assert same(np.ascontiguousarray(columns.T), expected)


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("n", LENGTHS)
def test_masks_and_temperatures_have_the_same_bits(op: str, n: int, dtype: Any, isa: str) -> None:
    x = logits(21, n, dtype, seed=2)
    assert same(call(op, x, where=np.ones((21, n), bool)), call(op, x))
    temperature = np.array([0.5, 1.0, 3.0] * 7)
    together = call(op, x, temperature=temperature)
    for row in (0, 1, 2, 20):
        alone = call(op, x[row : row + 1], temperature=float(temperature[row]))
        # A temperature of 1 among others gets no special treatment: the maximum is subtracted.
        if temperature[row] != 1.0:
            assert same(together[row : row + 1], alone), row
    mask = np.random.default_rng(3).random((21, n)) < 0.7
    mask[:, 0] = True
    low = np.where(mask, x, np.array(-np.inf, dtype))
    assert same(call(op, x, where=mask), call(op, low))
    shared = np.broadcast_to(mask[0], (21, n))
    low = np.where(shared, x, np.array(-np.inf, dtype))
    for other in (shared, np.repeat(shared, 2, axis=1)[:, ::2], shared.copy("F")):
        assert same(call(op, x, where=other), call(op, low))


def placed(shape: tuple[int, int], dtype: Any, offset: int, width: int) -> tuple[Array, Array]:
    """Return an array of rows `width` elements apart that begins `offset` elements after a cache
    line, and the memory around it."""
    raw = np.zeros((shape[0] * width + 64) * np.dtype(dtype).itemsize + 64, np.uint8)
    memory = raw[-raw.ctypes.data % 64 :][: raw.nbytes - 64].view(dtype)
    place = memory[offset : offset + shape[0] * width].reshape(shape[0], width)
    return place[:, : shape[1]], memory


@pytest.mark.parametrize("op", [op for op in ALL if op != "logsumexp"])
@pytest.mark.parametrize("n", [40, 64, 96, 100, 128, 200, 256, 300, 1000])
def test_results_anywhere_in_memory(op: str, n: int, dtype: Any, isa: str) -> None:
    """Vectors of longer rows begin where those of the result do, whatever the result's place."""
    x = logits(18, n, dtype, seed=7)
    arguments = (x, -abs(x)) if op in GRADIENTS else (x,)
    expected = call(op, x)
    for offset in (0, 1, 4, 12, 15, 31):
        for width in (n, n + 5):
            out, memory = placed(x.shape, dtype, offset, width)
            getattr(boltzmax, op)(*arguments, out=out)
            assert same(np.ascontiguousarray(out), expected), (offset, width)
            out[...] = 0
            assert not memory.any(), (offset, width)


@pytest.mark.parametrize("op", MAPS)
@pytest.mark.parametrize("n", [1, 2, 10, 21, 40, 70])
def test_columns_anywhere_in_memory(op: str, n: int, dtype: Any, isa: str) -> None:
    """The first strip of columns ends where a vector of the results does."""
    columns, width = 301, 320
    x = logits(columns, n, dtype, seed=8).T
    expected = np.ascontiguousarray(call(op, np.ascontiguousarray(x.T)).T)
    for offset in (0, 1, 4, 12, 15, 31):
        place, _ = placed((n, columns), dtype, 31 - offset, width)
        place[...] = x
        out, memory = placed((n, columns), dtype, offset, width)
        getattr(boltzmax, op)(place, 0, out=out)
        assert same(np.ascontiguousarray(out), expected), offset
        out[...] = 0
        assert not memory.any(), offset


@pytest.mark.parametrize("op", ulp.OPS)
@pytest.mark.parametrize("n", [1, 2, 10, 21, 40])
def test_columns_without_probabilities(op: str, n: int, dtype: Any, isa: str) -> None:
    """They are the same in a group of strips, in a strip, and as rows; in place, too."""
    rows = logits(300, n, dtype, seed=9)
    for column, value in ((3, np.nan), (77, -np.inf), (140, np.inf), (141, np.nan), (299, np.nan)):
        rows[column, n // 2] = value
    rows[200] = -np.inf
    expected = call(op, rows).astype(np.float64)
    columns = np.ascontiguousarray(rows.T)
    got = np.asarray(getattr(boltzmax, op)(columns, 0))
    np.testing.assert_array_equal(got.T.astype(np.float64), expected)
    if op != "logsumexp":
        getattr(boltzmax, op)(columns, 0, out=columns)
        np.testing.assert_array_equal(columns.T.astype(np.float64), expected)


@pytest.mark.parametrize("n", [1, 2, 7, 10, 17, 33, 100])
def test_rows_without_probabilities_leave_their_neighbours_alone(
    n: int, dtype: Any, isa: str
) -> None:
    x = np.clip(logits(34, n, dtype, seed=4), -50, 50)
    bad = x.copy()
    bad[3, n // 2] = np.nan
    bad[8] = -np.inf
    bad[20, n - 1] = np.inf
    bad[33, 0] = np.nan
    others = np.delete(np.arange(34), [3, 8, 20, 33])
    mask = np.ones((34, n), bool)
    mask[3:21, n // 3] = n == 1
    for op in ulp.OPS:
        assert same(call(op, bad)[others], call(op, x)[others])
        assert same(call(op, bad, where=mask)[others], call(op, x, where=mask)[others])
    p, log_p, lse = (call(op, bad).astype(np.float64) for op in ulp.OPS)
    assert np.isnan(p[[3, 8, 20, 33]]).all()
    assert np.isnan(log_p[[3, 8, 33]]).all()
    assert np.isnan(log_p[20, -1])
    assert (log_p[20, :-1] == -np.inf).all()
    assert np.isnan(lse[[3, 33]]).all()
    assert (lse[8], lse[20]) == (-np.inf, np.inf)
    if n > 1:
        masked = [row for row in (3, 8, 20) if n // 3 not in (n // 2, n - 1)]
        assert (call("softmax", bad, where=mask)[masked, n // 3] == 0).all()
        assert (call("log_softmax", bad, where=mask)[masked, n // 3] == -np.inf).all()


@pytest.mark.parametrize("n", LENGTHS)
def test_in_place(n: int, dtype: Any, isa: str) -> None:
    x = logits(35, n, dtype, seed=5)
    x[4, 0] = np.nan
    for op in MAPS:
        expected = call(op, x)
        y = x.copy()
        assert getattr(boltzmax, op)(y, out=y) is y
        assert same(y, expected)


# ---- losses and statistics


@pytest.mark.parametrize("n", LENGTHS)
def test_cross_entropy_is_the_log_probability(n: int, dtype: Any, isa: str) -> None:
    x = np.clip(logits(37, n, dtype, seed=6), -60, 60)
    target = np.random.default_rng(7).integers(0, n, 37)
    target[[2, 30]] = -100
    wide = x.astype(np.longdouble)
    top = wide.max(-1, keepdims=True)
    lse = (top + np.log(np.exp(wide - top).sum(-1, keepdims=True)))[:, 0]
    picked = wide[np.arange(37), np.maximum(target, 0)]
    expected = np.where(target < 0, 0, lse - picked)
    losses = boltzmax.cross_entropy(x, target, reduction="none")
    bound = (4e-16 if x.dtype == np.float64 else 3e-7) * (abs(picked) + abs(lse) + 1)
    assert (abs(losses - expected) <= bound).all()
    loss, gradient = boltzmax.cross_entropy_with_grad(x, target, reduction="sum")
    assert loss == pytest.approx(float(expected.sum()), rel=1e-6)
    one_hot = np.arange(n) == target[:, None]
    p = np.exp(wide - lse[:, None])
    others = np.where(one_hot, 0, p).sum(-1, keepdims=True)  # 1 - p loses all digits where p is 1
    slope = np.where(target[:, None] < 0, 0, np.where(one_hot, -others, p))
    eps = {8: 1e-15, 4: 5e-7, 2: 1e-2}[x.dtype.itemsize]
    np.testing.assert_allclose(gradient.astype(np.longdouble), slope, rtol=eps * 4, atol=eps * 1e-3)


def test_the_gradient_of_a_certain_target_keeps_its_digits(isa: str) -> None:
    """1 - p is computed as the sum of the others, even if tiny, not as a difference."""
    for n in (2, 3, 10, 40, 200, 700, 3000):
        x = np.full((17, n), -20.0, np.float32)
        x[:, 1] = 10.0
        gradient = boltzmax.cross_entropy_with_grad(x, np.ones(17, int), reduction="sum")[1]
        rest = (n - 1) * np.exp(-30.0)
        np.testing.assert_allclose(gradient[:, 1], -rest / (1 + rest), rtol=2e-6)
        wide = boltzmax.cross_entropy_with_grad(x.astype(np.float64), np.ones(17, int))[1] * 17
        np.testing.assert_allclose(wide[:, 1], -rest / (1 + rest), rtol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 10, 24, 25, 100, 256, 257, 600, 1500, 5000])
def test_losses_have_the_same_bits_in_every_batch(n: int, dtype: Any, isa: str) -> None:
    x = logits(41, n, dtype, seed=8)
    target = np.random.default_rng(9).integers(0, n, 41)
    each = boltzmax.cross_entropy(x, target, reduction="none")
    _, gradient = boltzmax.cross_entropy_with_grad(x, target, reduction="sum")
    for first, rows in ((0, 1), (3, 16), (7, 33)):
        part = slice(first, first + rows)
        assert same(boltzmax.cross_entropy(x[part], target[part], reduction="none"), each[part])
        own = boltzmax.cross_entropy_with_grad(x[part], target[part], reduction="sum")[1]
        assert same(own, gradient[part])
    in_place = x.copy()
    boltzmax.cross_entropy_with_grad(in_place, target, reduction="sum", out=in_place)
    # There the exponentials of longer rows are computed again, not kept.
    assert same(in_place, gradient)


@pytest.mark.parametrize("n", [300, 600, 1100])
def test_rows_that_begin_low_are_read_again(n: int, dtype: Any, isa: str) -> None:
    """The maximum of a row's first elements is a poor guess at the row's own; others' are good."""
    x = np.clip(logits(33, n, dtype, seed=12), -20, 20)
    low = x.copy()
    low[::3, : n // 2] = -100
    low[1, : n // 2] = -np.inf
    low[6] += 3000
    target = np.full(33, n - 1)
    each = boltzmax.cross_entropy(low, target, reduction="none")
    gradient = boltzmax.cross_entropy_with_grad(low, target, reduction="sum")[1]
    log_p, lse = boltzmax.log_softmax(low), boltzmax.logsumexp(low)
    others = [r for r in range(33) if r % 3 and r != 1]
    assert same(log_p[others], boltzmax.log_softmax(x)[others])
    for r in range(33):
        alone = low[r : r + 1]
        assert same(boltzmax.log_softmax(alone)[0], log_p[r])
        assert same(boltzmax.logsumexp(alone)[0], lse[r])
        assert same(boltzmax.cross_entropy(alone, target[:1], reduction="none")[0], each[r])
        own = boltzmax.cross_entropy_with_grad(alone, target[:1], reduction="sum")[1]
        assert same(own[0], gradient[r])
    wide = low.astype(np.longdouble)
    expected = np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)) + wide.max(-1)
    eps = {8: 4e-16, 4: 3e-7, 2: 1e-2}[x.dtype.itemsize]
    np.testing.assert_allclose(lse.astype(np.longdouble), expected, rtol=eps, atol=eps)


@pytest.mark.parametrize("n", LENGTHS)
def test_row_stats_of_one_agree_with_those_of_two(n: int, dtype: Any, isa: str) -> None:
    """k = 1 uses panels, k = 2 the path of long rows."""
    x = np.clip(logits(37, n, dtype, seed=10), -60, 60)
    x[5] = x[5, 0]
    x[6] = -np.inf
    x[7, n // 2] = np.nan
    target = np.random.default_rng(11).integers(0, n, 37)
    one = boltzmax.row_stats(x, target, k=1, entropy=False)
    two = boltzmax.row_stats(x, target, k=2, entropy=True)
    assert (one.top_ids[:, 0] == two.top_ids[:, 0]).all()
    assert (one.target_rank == two.target_rank).all()
    eps = 1e-14 if x.dtype == np.float64 else 1e-6
    for name in ("lse", "energy", "target_log_prob", "max_log_prob"):
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose(a, b, rtol=eps, atol=eps, err_msg=name)
    plain = boltzmax.row_stats(x, k=0, entropy=False)
    assert plain.top_ids is None
    assert same(plain.lse, one.lse)

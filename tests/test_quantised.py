"""Layers of weights in few bits: every bound holds, with the same bits on every processor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

import boltzmax
from boltzmax import QuantizedLinear, Screen
from boltzmax.testing import use_dot_products, use_isa
from conftest import RunPython
from quantised_samples import (
    FORMS,
    SAMPLES,
    WHOLE,
    exact_logits,
    fuzz,
    layer_of,
    long_logits,
    tables,
)

Array = NDArray[Any]
TABLES = tables()

every_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with each table of kernels that this processor can use."""
    isa, use = TABLES[request.param]
    with use_isa(isa), use_dot_products(use):
        yield request.param


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


# ---- bounds


@every_form
def test_intervals_contain_the_exact_logits(table: str, form: str, strict: None) -> None:
    """Of all pairs of hostile weights and hidden vectors, in exact arithmetic."""
    rng = np.random.default_rng(3)
    for n in (1, 3, 17, 70):
        hidden = np.concatenate([sample(rng, 1, n) for sample in SAMPLES.values()])
        weight = np.concatenate([sample(rng, 2, n) for sample in SAMPLES.values()])
        bias = rng.choice([0.0, 1.0, -1e30, 1e-30, 0.1], len(weight))
        hidden[0] *= 1e99
        hidden[1] = rng.integers(-9, 10, n) * 5e-324
        lower, upper = layer_of(form, weight, bias).intervals(hidden)
        exact = exact_logits(hidden, weight, bias)
        for low, high, row in zip(lower, upper, exact, strict=True):
            assert all(a <= v <= b for a, v, b in zip(low, row, high, strict=True))


@every_form
@pytest.mark.parametrize("n", [64, 515, 1300])
def test_intervals_of_long_rows(form: str, n: int) -> None:
    """Whole numbers at their limits, in sections and groups, and others."""
    rng = np.random.default_rng(n)
    for one, other in itertools.product(("normal", "constant", "spikes", "float32"), repeat=2):
        hidden, weight = SAMPLES[one](rng, 4, n), SAMPLES[other](rng, 40, n)
        bias = rng.standard_normal(40)
        exact, error = long_logits(hidden, weight, bias)
        layer = layer_of(form, weight, bias)
        lower, upper = layer.intervals(hidden)
        assert (lower <= exact + error).all()
        assert (upper >= exact - error).all()
        bound = layer.error_bound(hidden)[:, None]
        assert (np.abs(layer.logits(hidden) - exact) <= bound + error).all()
        single = hidden.astype(np.float32)
        exact, error = long_logits(single, weight, bias)
        bound = layer.error_bound(single)[:, None]
        assert (np.abs(layer.logits(single) - exact) <= bound + error).all()


@every_form
def test_bounds_are_tight_where_hidden_vectors_are_what_is_left_out(form: str) -> None:
    """There the inequality of Cauchy and Schwarz is an equality."""
    weight = normal(20, 48)
    layer = layer_of(form, weight)
    left_out = weight - layer.dequantize().astype(np.float64)
    lower, upper = layer.intervals(left_out)
    center, radius = (lower + upper) / 2, (upper - lower) / 2
    exact, _ = long_logits(left_out, weight, np.zeros(20))
    share = np.diag(exact - center) / np.diag(radius)
    assert (share <= 1.0).all()
    assert share.min() > (0.5 if "16" in form else 0.97)


def test_fuzzed_logits() -> None:
    """`benchmarks/fuzz_quantised.py` does so with ten million."""
    assert fuzz(100_000, 0) >= 100_000


@every_form
def test_partition_is_in_its_interval(form: str) -> None:
    hidden, weight, bias = normal(3, 20), normal(50, 20, seed=1), normal(50, seed=2)
    hidden[2] *= 30.0
    lower, upper = layer_of(form, weight, bias).log_partition(hidden)
    for low, high, row in zip(lower, upper, exact_logits(hidden, weight, bias), strict=True):
        with mpmath.workdps(40):
            terms = [mpmath.exp(mpmath.mpf(v.numerator) / v.denominator) for v in row]
            exact = mpmath.log(mpmath.fsum(terms))
            assert low <= exact <= high
    assert (upper - lower < 120.0).all()


@every_form
def test_partition_of_logits_that_overflow(form: str) -> None:
    """There is an interval, even if it is the whole line."""
    lower, upper = layer_of(form, normal(40, 5)).log_partition(np.full((2, 5), 1e90))
    exact = exact_logits(np.full((1, 5), 1e90), normal(40, 5), None)[0]
    assert (lower <= float(max(exact))).all()
    assert (upper >= float(max(exact))).all()


def test_bounds_are_narrow() -> None:
    """A top-10 of Gaussian weights has few candidates, and stored weights have an exact logit."""
    hidden, weight = normal(6, 256), normal(20_000, 256, seed=1)
    few = np.diff(QuantizedLinear(weight).candidates(hidden[:1], 10).indptr)
    assert (few < 40).all()
    assert (np.diff(QuantizedLinear(weight).candidates(hidden, 10).indptr) < 80).all()
    whole = np.random.default_rng(0).integers(-127, 128, (9, 32)) * 0.25
    whole[:, 0] = 127 * 0.25
    lower, upper = QuantizedLinear(whole).intervals(whole[:2])
    assert np.allclose(lower, upper, rtol=1e-3)


# ---- the same bits everywhere


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("n", [1, 9, 64, 200, 700])
def test_tables_have_the_same_bits(form: str, n: int) -> None:
    layer = layer_of(form, normal(50, n), normal(50))
    for rows in (1, 2, 3, 8, 13):
        hidden = normal(rows, n, seed=rows)
        found = []
        for isa, use in TABLES.values():
            with use_isa(isa), use_dot_products(use):
                parts = (
                    layer.logits(hidden),
                    *layer.intervals(hidden),
                    *layer.candidates(hidden, 3),
                )
                found.append(b"".join(part.tobytes() for part in parts))
        assert len(set(found)) == 1


@every_form
def test_rows_do_not_depend_on_others(table: str, form: str) -> None:
    hidden, layer = normal(70, 40), layer_of(form, normal(300, 40, seed=1))
    together = layer.logits(hidden)
    for r in (0, 1, 63, 64, 69):
        assert (layer.logits(hidden[r : r + 1]) == together[r]).all()
    assert (layer.intervals(hidden, 37, 290)[0] == layer.intervals(hidden)[0][:, 37:290]).all()


def test_threads_change_nothing(threads: Callable[[int], None]) -> None:
    hidden, layer = normal(3, 64), QuantizedLinear(normal(30_000, 64, seed=1))
    found = []
    for count in (1, 3):
        threads(count)
        parts = (layer.logits(hidden), *layer.intervals(hidden), *layer.candidates(hidden, 7))
        found.append([part.tobytes() for part in parts])
    assert found[0] == found[1]


def test_dot_products_are_switched_off(run_python: RunPython) -> None:
    code = "from boltzmax import _core; print(_core.uses_dot_products(), _core.quantised_table())"
    for value, expected in (("0", "False"), ("1", "True"), ("", "True")):
        done = run_python(code, env={"BOLTZMAX_DOT_PRODUCTS": value})
        used, table = done.stdout.split()
        assert used == expected
        assert used == "True" or table == boltzmax.available_isas()[0]


# ---- candidates


def brute_force(layer: QuantizedLinear, hidden: Array, k: int) -> Iterator[Array]:
    lower, upper = layer.intervals(hidden)
    for low, high in zip(lower, upper, strict=True):
        yield np.flatnonzero(high >= np.sort(low)[-k])


@every_form
@pytest.mark.parametrize("k", [1, 5, 700])
def test_candidates_are_those_of_the_intervals(table: str, form: str, k: int) -> None:
    """In order and not, with ties, and where float32 would not do."""
    rng = np.random.default_rng(5)
    ordered = np.sort(normal(700, 30), axis=0)
    for weight in (
        ordered,
        -ordered,
        SAMPLES["equal"](rng, 700, 30),
        SAMPLES["spread"](rng, 700, 30),
    ):
        hidden, layer = normal(3, 30, seed=1), layer_of(form, weight, normal(700))
        found = layer.candidates(hidden, k)
        lower, upper = layer.intervals(hidden)
        for r, expected in enumerate(brute_force(layer, hidden, k)):
            some = slice(found.indptr[r], found.indptr[r + 1])
            assert (found.ids[some] == expected).all()
            assert (found.lower[some] == lower[r, expected]).all()
            assert (found.upper[some] == upper[r, expected]).all()


def test_candidates_of_many_rows_contain_the_top(table: str) -> None:
    """Their hidden vectors have 8 bits."""
    hidden, weight = normal(150, 33), normal(1000, 33, seed=1)
    found = QuantizedLinear(weight).candidates(hidden, 4)
    top = np.argsort(-(hidden @ weight.T), axis=1)[:, :4]
    assert len(found.indptr) == 151
    for r in range(150):
        some = slice(found.indptr[r], found.indptr[r + 1])
        assert np.isin(top[r], found.ids[some]).all()
        exact = hidden[r] @ weight[found.ids[some]].T
        assert ((found.lower[some] <= exact) & (exact <= found.upper[some])).all()


# ---- queries


@every_form
def test_winners_are_those_of_the_intervals(table: str, form: str) -> None:
    """More rows, with hidden vectors of 8 bits, leave more classes open."""
    weight, hidden = normal(700, 70, seed=9), normal(6, 70, seed=10)
    hidden[3] = 0
    layer = QuantizedLinear(weight, normal(700, seed=11), **FORMS[form])
    few = layer.winners(hidden[:4], 12, 5)
    indptr, ids, noise = Screen.winners(layer, hidden[:4], 12, 5)
    np.testing.assert_array_equal(few.indptr, indptr)
    np.testing.assert_array_equal(few.ids, ids)
    np.testing.assert_array_equal(few.noise, noise)
    many = layer.winners(hidden, 12, 5)
    for r in range(4):
        own = many.ids[many.indptr[r] : many.indptr[r + 1]]
        assert set(ids[indptr[r] : indptr[r + 1]]) <= set(own)
    assert len(layer.winners(hidden[:0], 12).ids) == 0


@every_form
def test_queries_are_those_of_the_stored_weights(table: str, form: str) -> None:
    hidden, bias = normal(5, 24), normal(90, seed=2)
    layer = layer_of(form, normal(90, 24, seed=1), bias)
    stored = layer.dequantize()
    assert stored.dtype == np.float32
    logits = layer.logits(hidden)
    assert np.allclose(logits, hidden @ stored.T.astype(np.float64) + bias, atol=2e-3)
    lse = np.log(np.exp(logits.astype(np.longdouble)).sum(axis=1))
    assert np.allclose(layer.logsumexp(hidden), lse.astype(float), rtol=1e-12)
    target = np.array([0, 89, 3, 3, 50])
    expected = logits[np.arange(5), target] - lse
    assert np.allclose(layer.log_prob(hidden, target), expected.astype(float), rtol=1e-10)
    ids, log_probs = layer.topk(hidden, 6)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :6]
    assert (ids == order).all()
    assert np.allclose(log_probs, np.take_along_axis(logits, order, 1) - lse[:, None].astype(float))


def test_results_have_the_dtype_of_the_hidden_vectors(dtype: np.dtype[Any]) -> None:
    layer = QuantizedLinear(normal(9, 5).astype(dtype))
    hidden = normal(2, 5, seed=1).astype(dtype)
    wanted = np.float64 if dtype == np.float64 else np.float32
    for result in (layer.logits(hidden), layer.logsumexp(hidden), layer.topk(hidden, 2)[1]):
        assert result.dtype == wanted
    assert layer.logits([[1, 2, 3, 4, 5]]).dtype == np.float64
    lower, upper = layer.intervals(hidden)
    exact, error = long_logits(
        hidden.astype(float), normal(9, 5).astype(dtype).astype(float), np.zeros(9)
    )
    assert ((lower <= exact + error) & (exact - error <= upper)).all()


def test_strides_and_empty_batches() -> None:
    weight, hidden = normal(40, 11), normal(8, 22)
    many = normal(600, 11, seed=1)
    assert (
        QuantizedLinear(weight).logsumexp(many)[300]
        == QuantizedLinear(weight).logsumexp(many[300:301])
    ).all()
    layer, plain = QuantizedLinear(weight.T.copy().T), QuantizedLinear(weight)
    assert (layer.logits(hidden[::-2, ::2]) == plain.logits(hidden[::-2, ::2].copy())).all()
    none = np.empty((0, 11))
    assert layer.logits(none).shape == (0, 40)
    assert layer.topk(none, 3)[0].shape == (0, 3)
    assert [len(part) for part in layer.candidates(none, 3)] == [1, 0, 0, 0]
    assert layer.log_partition(none)[0].shape == (0,)
    assert layer.intervals(hidden[:, :11], 5, 5)[0].shape == (8, 0)


def test_sizes() -> None:
    weight = normal(1600, 256)
    for form, bits in (("int8", 8), ("int4", 4), ("int8 groups", 8.5), ("bfloat16", 16)):
        assert layer_of(form, weight).nbytes < weight.size * bits / 8 * 1.2
    assert repr(layer_of("int4", weight)) == "QuantizedLinear(1600, 256, bits=4)"


def test_rotation_is_orthogonal_and_spreads() -> None:
    spikes = np.zeros((30, 300))
    spikes[np.arange(30), np.arange(30) * 7] = 100.0
    spikes += normal(30, 300)
    plain, rotated = QuantizedLinear(spikes), QuantizedLinear(spikes, rotate=1)
    hidden = normal(2, 300)
    widths = [np.subtract(*layer.intervals(hidden)[::-1]).mean() for layer in (plain, rotated)]
    assert widths[1] < widths[0] / 3
    assert np.allclose(rotated.dequantize(), spikes, atol=0.5)
    assert (rotated.logits(hidden) != QuantizedLinear(spikes, rotate=2).logits(hidden)).any()


# ---- refusals


def refuses(kind: type[Exception], words: str, *args: Any, **options: Any) -> None:
    with pytest.raises(kind, match=words):
        QuantizedLinear(*args, **options)


def test_bad_weights_are_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf, 1e39):
        weight = np.ones((70, 3))
        weight[67, 1] = weight[69, 0] = bad
        refuses(
            ValueError, "weight must be finite, with norms up to 3e38; it is not for row 67", weight
        )
        refuses(ValueError, "for row 67", weight, rotate=True)
        refuses(ValueError, "for row 67", weight, dtype="bfloat16")
    refuses(ValueError, r"weight must be \(V, D\).*got shape \(3,\)", np.ones(3))
    refuses(ValueError, r"got shape \(0, 3\)", np.ones((0, 3)))
    refuses(TypeError, "weight must be real numbers", np.ones((2, 2), complex))
    refuses(TypeError, "weight is a masked array", np.ma.ones((2, 2)))
    refuses(ValueError, "bias must have one number per class", np.ones((2, 2)), np.ones(3))
    refuses(ValueError, "bias must be finite; it is not for row 1", np.ones((2, 2)), [0, np.nan])


def test_bad_options_are_refused() -> None:
    weight = np.ones((2, 2))
    refuses(ValueError, "bits must be 8 or 4, got 5", weight, bits=5)
    refuses(TypeError, "bits must be an integer", weight, bits=8.0)
    refuses(ValueError, "scheme must be one of 'per_row', 'per_group', got 'x'", weight, scheme="x")
    refuses(ValueError, "group must be from 8 to 512, got 4", weight, group=4)
    refuses(ValueError, "group must be a multiple of 8, got 9", weight, group=9)
    refuses(ValueError, "dtype must be one of 'int8', 'bfloat16', got 'int4'", weight, dtype="int4")
    refuses(ValueError, "bfloat16 has neither bits nor groups", weight, dtype="bfloat16", bits=4)
    refuses(ValueError, "rotate must be from 0", weight, rotate=-1)


def test_bad_calls_are_refused() -> None:
    layer = QuantizedLinear(np.ones((4, 2)))
    bad = np.array([[0.0, 1.0], [np.nan, 1.0]])
    calls: list[Callable[[Any], Any]] = [
        layer.logits, layer.logsumexp, layer.error_bound, layer.intervals, layer.log_partition,
        lambda x: layer.topk(x, 1), lambda x: layer.candidates(x, 1),
        lambda x: layer.log_prob(x, [0, 0]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match="finite and at most 1e100; it is not for row 1"):
            call(bad)
        with pytest.raises(ValueError, match=r"hidden must be \(N, 2\), got shape \(2, 3\)"):
            call(np.ones((2, 3)))
    good = np.ones((1, 2))
    with pytest.raises(ValueError, match="k must be from 1 to 4, got 5"):
        layer.candidates(good, 5)
    with pytest.raises(ValueError, match="last must be from 3 to 4, got 2"):
        layer.intervals(good, 3, 2)
    with pytest.raises(IndexError, match="4"):
        layer.log_prob(good, [4])

"""The classifiers for scikit-learn: features that are constant up to rounding, tiny or huge."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier_samples import BOTH, CONTAINERS, DTYPES, SOLVERS, Array, Make, coefficients

pytest.importorskip("sklearn")


from boltzmax.sklearn import HierarchicalSoftmaxClassifier, SoftmaxClassifier
from boltzmax.sklearn.samples import Coordinates, Features, Samples

# ---- constant features ----


def without_spread(n: int, dtype: type) -> dict[str, Array]:
    rng, eps = np.random.default_rng(1), np.finfo(dtype).eps
    small, large = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    sums = {
        k: rng.dirichlet(np.ones(k), size=n).astype(dtype).cumsum(axis=1)[:, -1] for k in (3, 300)
    }
    return {
        "a tenth": np.full(n, 0.1, dtype),
        "zero": np.zeros(n, dtype),
        "a time in nanoseconds": np.full(n, 1.7e18, dtype),
        "a subnormal": np.full(n, 5 * small, dtype),
        "subnormals": rng.integers(-9, 9, n).astype(dtype) * small,
        "nearly the largest": np.full(n, large / 4, dtype),
        "sums of three": sums[3],
        "sums of many, in cents": -100 * sums[300],
        "a few eps of a large number": dtype(1e14) * (1 + eps * rng.integers(-4, 5, n)),
    }


@BOTH
@SOLVERS
@DTYPES
@CONTAINERS
def test_features_without_spread_are_left_out(
    make: Make, solver: str, dtype: type, container: Make, overlapping: tuple[Array, Array]
) -> None:
    x: Array = overlapping[0].astype(dtype)
    y = overlapping[1]
    tol = 1e-5 if solver == "lbfgs" else 1e-2
    for l2, weight in ((0.0, None), (1e-4, np.random.default_rng(2).uniform(0.1, 3, len(x)))):
        model = make(solver=solver, l2=l2, tol=tol, random_state=0)
        wanted = model.fit(container(x), y, weight).predict_proba(container(x))
        for name, column in without_spread(len(x), dtype).items():
            more = container(np.insert(x, 1, column, axis=1))
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                found = model.fit(more, y, weight).predict_proba(more)
            np.testing.assert_array_equal(coefficients(model)[:, 1], 0.0, err_msg=name)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)


def test_a_constant_with_a_ramp() -> None:
    x, y = np.array([[i, 0.1] for i in range(7)]), np.array([0, 1, 0, 1, 0, 1, 1])
    wanted = SoftmaxClassifier(l2=0.0, tol=1e-8).fit(x[:, :1], y).predict_proba(x[:, :1])
    np.testing.assert_allclose(wanted[:4, 1], [0.242, 0.345, 0.464, 0.588], atol=1e-3)
    for make in (SoftmaxClassifier, HierarchicalSoftmaxClassifier):
        found = make(l2=0.0, tol=1e-8).fit(x, y).predict_proba(x)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@BOTH
@SOLVERS
def test_only_constant_features(make: Make, solver: str) -> None:
    """Only the class frequencies remain."""
    x, y = np.full((8, 2), [0.1, 3.0]), np.array([0, 0, 0, 0, 1, 1, 2, 2])
    model = make(solver=solver, l2=0.0, tol=1e-4, random_state=0).fit(x, y)
    np.testing.assert_allclose(model.predict_proba(x[:1]), [[0.5, 0.25, 0.25]], atol=0.08)
    np.testing.assert_array_equal(coefficients(model), 0.0)


@BOTH
@SOLVERS
@CONTAINERS
@pytest.mark.parametrize("offset", [1e6, 1e9, -1e11])
def test_a_small_spread_counts(
    make: Make, solver: str, container: Make, offset: float, overlapping: tuple[Array, Array]
) -> None:
    x, y = overlapping
    x = np.insert(x, 1, y % 2 ^ (np.arange(len(y)) % 5 == 0), axis=1)
    far = x + np.array([0.0, offset, 0.0, 0.0])
    model = make(solver=solver, tol=1e-3, random_state=0)
    wanted = model.fit(container(x), y).predict_proba(container(x))
    found = model.fit(container(far), y).predict_proba(container(far))
    assert np.abs(coefficients(model)[:, 1]).max() > 0.5
    np.testing.assert_allclose(found, wanted, atol=1e-2)


@BOTH
@SOLVERS
@DTYPES
@CONTAINERS
def test_units_of_features_do_not_matter(
    make: Make, solver: str, dtype: type, container: Make, overlapping: tuple[Array, Array]
) -> None:
    x: Array = overlapping[0].astype(dtype)
    y = overlapping[1]
    model = make(solver=solver, l2=0.0, tol=1e-3, random_state=0)
    wanted = model.fit(container(x), y).predict_proba(container(x))
    for exponent in (-900, 900, 1015) if dtype is np.float64 else (-90, 90, 120):
        other = container(x * np.array([1.0, 2.0**exponent, 1.0], dtype))
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            found = model.fit(other, y).predict_proba(other)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@BOTH
def test_without_an_intercept_a_constant_serves_as_one(
    make: Make, overlapping: tuple[Array, Array]
) -> None:
    x, y = overlapping
    wanted = make(l2=0.0, tol=1e-7).fit(x, y).predict_proba(x)
    for constant in (0.1, 1.7e18):
        more = np.insert(x, 0, constant, axis=1)
        model = make(l2=0.0, tol=1e-7, fit_intercept=False).fit(more, y)
        np.testing.assert_allclose(model.predict_proba(more), wanted, atol=1e-5)


@BOTH
@CONTAINERS
def test_parts_with_a_constant(
    make: Make, container: Make, overlapping: tuple[Array, Array]
) -> None:
    x, y = overlapping
    plain, model = make(random_state=0), make(random_state=0)
    more = np.insert(x, 3, 0.1, axis=1)
    for start in range(0, 200, 20):
        part = slice(start, start + 20)
        plain.partial_fit(container(x[part]), y[part], classes=range(4))
        model.partial_fit(container(more[part]), y[part], classes=range(4))
    np.testing.assert_allclose(model.predict_proba(more), plain.predict_proba(x), rtol=1e-9)
    np.testing.assert_array_equal(coefficients(model)[:, 3], 0.0)
    more[:, 3] += y == 2  # it becomes informative
    for _ in range(20):
        model.partial_fit(container(more), y)
    assert np.abs(coefficients(model)[:, 3]).max() > 0.5


@CONTAINERS
def test_clusters_do_not_come_from_rounding(
    container: Make, overlapping: tuple[Array, Array]
) -> None:
    x, _ = overlapping
    y = (np.arange(200) % 12).astype(int)
    x = x * 0.1 + np.array([y % 3, y // 3, y // 6]).T  # classes that are easy to separate
    model = HierarchicalSoftmaxClassifier("clusters", random_state=0)
    weight = np.random.default_rng(2).uniform(0.1, 3, len(x))
    wanted = model.fit(container(x), y, weight).tree_
    for constant in (1.7e18, 0.1):
        more = container(np.insert(x, 3, constant, axis=1))
        assert model.fit(more, y, weight).tree_ == wanted


# ---- how they are detected ----


def features_of(column: Any, weight: Any, container: Make) -> Features:
    x = container(np.asarray(column)[:, None])
    return Features.of(Samples(x, np.zeros(len(column), int), np.asarray(weight, np.float64)))


columns = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-1e300, 1e300), min_size=n, max_size=n),
        st.lists(st.floats(0.01, 100.0), min_size=n, max_size=n),
    )
)


@CONTAINERS
@settings(deadline=None)
@given(columns=columns, offset=st.sampled_from([0.0, 1.0, -1e9, 1e300]))
def test_moments(container: Make, columns: tuple[list[float], list[float]], offset: float) -> None:
    """The mean is accurate to an eps of the values, the deviation to an eps of the range."""
    values, weight = np.array(columns[0]) + offset, columns[1]
    found = features_of(values, weight, container)
    total = sum(map(Fraction, weight))
    pairs = [(Fraction(w) / total, Fraction(float(v))) for w, v in zip(weight, values, strict=True)]
    mean = sum(w * v for w, v in pairs)
    largest, width = np.abs(values).max(), values.max() / 2 - values.min() / 2
    assert abs(Fraction(float(found.mean[0])) - mean) <= Fraction(4e-16) * Fraction(largest)
    assert values.min() <= found.mean[0] <= values.max()
    if width > 0:
        unit = Fraction(width)
        variance = float(sum(w * ((v - mean) / unit) ** 2 for w, v in pairs))
        assert (found.deviation[0] / width) ** 2 == pytest.approx(variance, abs=1e-14)


@DTYPES
@CONTAINERS
@settings(deadline=None)
@given(data=st.data())
def test_what_varies(dtype: type, container: Make, data: st.DataObject) -> None:
    """Rounding errors do not count as variation, a hundred times as much does; weights and row
    counts do not matter."""
    eps = np.finfo(dtype).eps
    least, most = float(np.finfo(dtype).tiny) / float(eps) ** 2, float(np.finfo(dtype).max) / 2
    size = dtype(data.draw(st.floats(least, most)) * data.draw(st.sampled_from([-1, 1])))
    n = data.draw(st.integers(1, 20))
    steps = data.draw(st.lists(st.integers(0, 32), min_size=n, max_size=n))
    weight = data.draw(st.lists(st.floats(0.01, 100.0), min_size=n, max_size=n))
    column: Array = size * (1 + eps * np.array(steps, dtype))
    found = features_of(column, weight, container)
    assert not found.varies(found.mean)[0]
    assert Coordinates(found, centred=True, l2=0.0).scale[0] == np.inf
    assert found.varies(np.zeros(1))[0]
    wide: Array = np.append(column, size * (1 + 200 * eps))
    whole = features_of(wide, [*weight, 1.0], container)
    assert whole.varies(whole.mean)[0]


def test_two_million_nearly_equal_rows() -> None:
    column = 1e9 + (np.arange(2_000_000) % 2)
    found = features_of(column, np.ones(len(column)), np.asarray)
    assert found.varies(found.mean)[0]
    np.testing.assert_allclose([found.mean[0] - 1e9, found.deviation[0]], 0.5, atol=1e-6)

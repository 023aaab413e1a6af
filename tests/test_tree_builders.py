"""Trees from paths, from class vectors and from counts."""

from __future__ import annotations

import doctest
import itertools
import math
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from boltzmax.trees import builders
from boltzmax.trees.builders import parents_of_clusters, parents_of_paths, parents_of_two_levels

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

COMPONENTS = st.text("ab.", min_size=1, max_size=2)
PATHS = st.lists(st.lists(COMPONENTS, min_size=1, max_size=4), min_size=1, max_size=20)


def test_examples() -> None:
    result = doctest.testmod(builders)
    assert result.attempted > 0
    assert result.failed == 0


def check_tree(parents: Indices, n_classes: int) -> Indices:
    """One root, no cycles, the classes are exactly the leaves; returns the depth of every node."""
    assert parents.dtype == np.int64
    assert np.count_nonzero(parents == -1) == 1
    assert parents.min() == -1
    assert parents.max() < parents.size
    leaves = np.setdiff1d(np.arange(parents.size), parents)
    np.testing.assert_array_equal(leaves, np.arange(n_classes))
    depths = np.zeros(parents.size, np.int64)
    above = parents.copy()
    while (above >= 0).any():
        assert depths.max() <= parents.size, "a cycle"
        depths += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return depths


# ---- parents_of_paths


@pytest.mark.parametrize(
    ("paths", "sep", "parents", "inner"),
    [
        (["a"], "/", [1, -1], ("",)),
        (["a/b/c"], "/", [3, -1, 1, 2], ("", "a", "a/b")),
        (["a::b/c", "a::d:"], "::", [3, 3, -1, 2], ("", "a")),
        (["b/1", "a", "c/x/2", "b/3"], "/", [5, 4, 7, 5, -1, 4, 4, 6], ("", "b", "c", "c/x")),
        (np.array(["a/b", "a/c"]), "/", [3, 3, -1, 2], ("", "a")),
    ],
)
def test_inner_nodes_are_numbered_as_they_appear(
    paths: Any, sep: str, parents: list[int], inner: tuple[str, ...]
) -> None:
    result, names = parents_of_paths(paths, sep)
    np.testing.assert_array_equal(result, parents)
    assert names == (*paths, *inner)
    assert {type(name) for name in names} == {str}


@given(PATHS, st.sampled_from(["/", "::", " > "]))
def test_nodes_are_paths_and_their_prefixes(components: list[list[str]], sep: str) -> None:
    paths = list(dict.fromkeys(sep.join(parts) for parts in components))
    prefixes = (sep.join(parts[:i]) for parts in components for i in range(1, len(parts)))
    inner = list(dict.fromkeys(["", *prefixes]))
    if set(inner) & set(paths):
        with pytest.raises(ValueError, match="classes must be leaves"):
            parents_of_paths(paths, sep)
        return
    parents, names = parents_of_paths(paths, sep)
    assert names == (*paths, *inner)
    depths = check_tree(parents, len(paths))
    for node, name in enumerate(names):
        if name:
            assert names[parents[node]] == name.rpartition(sep)[0]
            assert depths[node] == len(name.split(sep))


def test_deep_paths_need_no_recursion() -> None:
    depth = 5000
    stem = "/".join("d" * (depth - 1))
    parents, _ = parents_of_paths([f"{stem}/a", f"{stem}/b"])
    assert check_tree(parents, 2)[:2].tolist() == [depth, depth]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a", "a/b"], r"class 0 \('a'\) is an ancestor of class 1 \('a/b'\)"),
        (["x", "a/b/c", "a"], r"class 2 \('a'\) is an ancestor of class 1 \('a/b/c'\)"),
        (["a/b/c/d", "a/b"], r"class 1 \('a/b'\) is an ancestor of class 0 \('a/b/c/d'\)"),
        (["a/b", "c", "a/b"], "classes 0 and 2 have the same path 'a/b'"),
        ([], "at least one class"),
        (["a", ""], "path of class 1 is empty"),
        (["/a"], "'/a' of class 0 has an empty component"),
        (["a/"], "'a/' of class 0 has an empty component"),
        (["b", "a//c"], "'a//c' of class 1 has an empty component"),
    ],
)
def test_invalid_paths(paths: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parents_of_paths(paths)


# ---- parents_of_clusters


def least_depth(n: int, arity: int) -> int:
    return next(d for d in itertools.count(1) if arity**d >= n)


def leaf_counts(parents: Indices, n_classes: int) -> Indices:
    """The number of classes below each node; children must have greater numbers than parents."""
    counts = np.zeros(parents.size, np.int64)
    counts[:n_classes] = 1
    np.add.at(counts, parents[:n_classes], 1)
    for node in range(parents.size - 1, n_classes, -1):
        counts[parents[node]] += counts[node]
    return counts


def groups_of(parents: Indices, n_classes: int, size: int) -> Indices:
    """The nearest ancestor of each class with at least `size` classes below it."""
    counts, above = leaf_counts(parents, n_classes), np.arange(n_classes)
    while (counts[above] < size).any():
        above = np.where(counts[above] < size, parents[above], above)
    return above


@given(st.integers(1, 60), st.integers(1, 4), st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_splits_are_balanced(n: int, d: int, arity: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).integers(-2, 3, (n, d))  # with ties
    parents = parents_of_clusters(vectors, arity, seed)
    depths = check_tree(parents, n)
    assert parents[n] == -1
    assert depths.max() == least_depth(n, arity)
    assert np.all(np.diff(depths[n:]) >= 0), "inner nodes are numbered level by level"
    counts = leaf_counts(parents, n)
    for node in range(n, parents.size):
        sizes = counts[parents == node]
        assert sizes.size == min(arity, counts[node])
        assert sizes.max() - sizes.min() <= 1
        assert sizes.size > 1 or n == 1


@pytest.mark.parametrize(("arity", "size"), [(2, 32), (2, 16), (2, 8), (4, 16), (8, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_clusters_that_are_far_apart_are_found(arity: int, size: int, seed: int) -> None:
    """The corners of a box with sides 100, 10 and 1, with eight classes around each."""
    rng = np.random.default_rng(seed)
    corners = np.array(list(itertools.product([0, 100], [0, 10], [0, 1])), np.float64)
    corner = rng.permutation(np.repeat(np.arange(8), 8))
    vectors = corners[corner] + rng.normal(size=(64, 3)) * 0.01
    above = groups_of(parents_of_clusters(vectors, arity, seed), 64, size)
    found = set(zip(above.tolist(), (corner * 8 // size).tolist(), strict=True))
    assert len(found) == len(np.unique(above)) == 64 // size


@pytest.mark.parametrize("seed", range(5))
def test_splits_are_local_optima_of_2_means(seed: int) -> None:
    """No exchange of two classes reduces the spread of the two halves at the root."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(24, 3)) * [3, 1, 1]
    side = groups_of(parents_of_clusters(vectors, 2, seed), 24, 12)
    halves = [vectors[side == node] for node in np.unique(side)]
    assert [len(half) for half in halves] == [12, 12]
    means = [half.mean(axis=0) for half in halves]
    gain = [((half - means[0]) ** 2 - (half - means[1]) ** 2).sum(axis=1) for half in halves]
    assert gain[0].max() <= gain[1].min() + 1e-12


def spread(vectors: Floats, parents: Indices) -> float:
    """The mean squared distance of a class from the mean of its siblings."""
    parent = parents[: len(vectors)]
    means = np.zeros((parents.size, vectors.shape[1]))
    np.add.at(means, parent, vectors)
    means /= np.maximum(np.bincount(parent, minlength=parents.size), 1)[:, None]
    return float(((vectors - means[parent]) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("arity", [2, 3, 5, 16])
def test_siblings_are_similar(arity: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(500, 2))
    shuffled = np.random.default_rng(1).permutation(vectors)
    parents = parents_of_clusters(vectors, arity)
    assert spread(vectors, parents) < 0.2 * spread(shuffled, parents)


def test_same_seed_same_tree() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 5))
    first = parents_of_clusters(vectors, 3, seed=7)
    np.testing.assert_array_equal(first, parents_of_clusters(vectors.copy(), 3, seed=7))
    generator = np.random.default_rng(7)
    np.testing.assert_array_equal(first, parents_of_clusters(vectors, 3, generator))
    assert np.any(first != parents_of_clusters(vectors, 3, seed=8))


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clusters are far apart, so that every start finds them."""
    vectors = np.array([[sum(3**i for i in range(7) if c >> i & 1)] for c in range(128)])
    first = spread(vectors, parents_of_clusters(vectors))
    monkeypatch.setattr(builders, "BATCH", 20)
    assert spread(vectors, parents_of_clusters(vectors)) == first


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1.0, 1e300])
def test_scale_does_not_matter(scale: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(64, 2))
    first = spread(vectors, parents_of_clusters(vectors))
    assert spread(vectors, parents_of_clusters(vectors * scale)) == pytest.approx(first, rel=0.2)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
def test_equal_vectors(value: float) -> None:
    parents = parents_of_clusters(np.full((37, 3), value))
    assert check_tree(parents, 37).max() == 6


@pytest.mark.parametrize("arity", [2, 10])
def test_ten_thousand_classes_take_seconds(arity: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(10_000, 32)).astype(np.float32)
    start = time.perf_counter()
    parents = parents_of_clusters(vectors, arity)
    assert time.perf_counter() - start < 10
    assert check_tree(parents, 10_000).max() == least_depth(10_000, arity)


# ---- parents_of_two_levels


def cost_of_cuts(p: Floats, cuts: tuple[int, ...]) -> float:
    """The expected cost of a row, for groups that begin at 0 and at the cuts."""
    groups = np.split(p, cuts)
    return len(groups) + sum(float(g.sum()) * g.size for g in groups if g.size > 1)


def cost_of_tree(parents: Indices, counts: NDArray[Any]) -> float:
    n = counts.size
    p = counts / counts.sum() if counts.any() else np.full(n, 1 / n)
    sizes = np.bincount(parents[parents >= 0], minlength=parents.size)
    below = parents[:n] != n
    return float(sizes[n] + (p * sizes[parents[:n]])[below].sum())


def check_two_levels(counts: NDArray[Any]) -> Indices:
    parents = parents_of_two_levels(counts)
    n = counts.size
    depths = check_tree(parents, n)
    assert parents[n] == -1
    assert depths.max() <= 2
    sizes = np.bincount(parents[parents >= 0], minlength=parents.size)
    assert np.all(sizes[n + 1 :] > 1), "no group of one class"
    # Groups are contiguous in the order of decreasing counts.
    sequence = parents[np.argsort(-counts.astype(np.float64), kind="stable")]
    assert np.all(np.diff(sequence[sequence != n]) >= 0)
    return parents


@given(st.lists(st.integers(0, 100), min_size=1, max_size=10))
def test_few_classes_are_cut_at_the_least_cost(values: list[int]) -> None:
    counts = np.array(values)
    parents = check_two_levels(counts)
    p = np.sort(counts / counts.sum() if counts.any() else np.full(counts.size, 1 / counts.size))
    places = range(1, counts.size)
    best = min(
        cost_of_cuts(p[::-1], cuts)
        for k in range(counts.size)
        for cuts in itertools.combinations(places, k)
    )
    assert cost_of_tree(parents, counts) == pytest.approx(best, rel=1e-12)


def distributions(n: int) -> dict[str, Floats]:
    ranks = np.arange(1, n + 1.0)
    rng = np.random.default_rng(0)
    return {
        "equal": np.ones(n),
        "zipf": 1 / ranks,
        "square": 1 / ranks**2,
        "root": ranks**-0.5,
        "exponential": np.exp(-20 * ranks / n),
        "two": np.where(ranks < n / 3, 7.0, 1.0),
        "lognormal": rng.lognormal(sigma=3.0, size=n),
        "one": (ranks == 5).astype(float),
        "half": (ranks <= n / 2).astype(float),
        "samples": np.bincount(rng.zipf(1.5, n).clip(max=n) - 1, minlength=n).astype(float),
    }


@pytest.mark.parametrize("n", [2049, 5000])
@pytest.mark.parametrize("name", list(distributions(1)))
def test_many_classes_lose_less_than_a_thousandth(
    n: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = distributions(n)[name]
    cost = cost_of_tree(check_two_levels(counts), counts)
    monkeypatch.setattr(builders, "FEW_CLASSES", n)
    best = cost_of_tree(check_two_levels(counts), counts)
    assert best - 1e-9 <= cost <= 1.001 * best


@pytest.mark.parametrize("n", [100, 400, 2500, 10_000, 1_000_000])
def test_equal_counts_make_a_square(n: int) -> None:
    parents = parents_of_two_levels(np.ones(n))
    root = math.isqrt(n)
    assert np.all(np.diff(parents[:n]) >= 0)
    sizes = np.bincount(parents[:n])[n + 1 :]
    assert abs(sizes.size - root) <= 0.1 * root
    assert sizes.max() <= 1.2 * root
    assert sizes.min() >= 0.8 * root
    assert cost_of_tree(parents, np.ones(n)) <= 2.002 * root
    np.testing.assert_array_equal(parents_of_two_levels(np.zeros(n)), parents)


def test_groups_grow_and_frequent_classes_are_alone() -> None:
    parents = check_two_levels(np.r_[1e6, 1 / np.arange(1, 1000.0)])
    assert parents[0] == 1000
    sizes = np.bincount(parents[:1000])[1001:]
    assert np.all(np.diff(sizes) >= 0)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.sampled_from([-900, 3, 1000]))
def test_unit_of_counts_does_not_matter(values: list[int], exponent: int) -> None:
    counts = np.array(values, np.float64)
    np.testing.assert_array_equal(
        parents_of_two_levels(np.ldexp(counts, exponent)), parents_of_two_levels(counts)
    )


# ---- all


@pytest.mark.parametrize("dtype", ["i1", "u8", "f2", "f4", ">f8", "g", "?"])
def test_numbers_of_any_real_dtype_are_read_and_kept(dtype: str) -> None:
    counts = np.array([0, 3, 1, 1, 1, 0, 1, 2, 1]).astype(dtype)
    vectors = np.asfortranarray(counts.reshape(3, 3))
    for build, x in (parents_of_two_levels, counts), (parents_of_clusters, vectors):
        before = x.copy()
        np.testing.assert_array_equal(build(x), build(x.astype(np.float64).tolist()))
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("paths", ["a/b", b"a/b", ["a", 1], ["a", None], [b"a"], [["a"]]])
def test_paths_must_be_strings(paths: Any) -> None:
    with pytest.raises(TypeError, match="strings"):
        parents_of_paths(paths)


@pytest.mark.parametrize("build", [parents_of_clusters, parents_of_two_levels])
@pytest.mark.parametrize("x", [["a"], [1j], [None], np.ma.ones(3)])
def test_numbers_must_be_real(build: Any, x: Any) -> None:
    with pytest.raises(TypeError, match=r"class_vectors|counts"):
        build(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
def test_numbers_must_be_finite_and_counts_not_negative(bad: float) -> None:
    with pytest.raises(ValueError, match=f"finite and not negative, got {bad} for class 2"):
        parents_of_two_levels([1.0, 0.0, bad])
    if bad != -1.0:
        with pytest.raises(ValueError, match=rf"finite, got {bad} at \[1, 0\]"):
            parents_of_clusters([[1.0, 0.0], [bad, 2.0]])


@pytest.mark.parametrize("shape", [(), (0,), (3,), (3, 2), (3, 2, 1), (0, 2), (3, 0)])
def test_numbers_must_have_the_right_shape(shape: tuple[int, ...]) -> None:
    for build, good in (parents_of_two_levels, (3,)), (parents_of_clusters, (3, 2)):
        if shape != good:
            with pytest.raises(ValueError, match=f"got {re.escape(str(shape))}"):
                build(np.zeros(shape))


@pytest.mark.parametrize(
    ("build", "x", "option", "error", "message"),
    [
        (parents_of_paths, ["a"], 1, TypeError, "sep must be a string, got int"),
        (parents_of_paths, ["a"], "", ValueError, "sep must not be empty"),
        (parents_of_clusters, [[1.0]], 1, ValueError, "arity must be at least 2, got 1"),
        (parents_of_clusters, [[1.0]], -2, ValueError, "arity must be at least 2, got -2"),
        (parents_of_clusters, [[1.0]], 2.0, TypeError, "integer"),
        (parents_of_clusters, [[1.0]], None, TypeError, "integer"),
    ],
)
def test_options_are_checked(
    build: Any, x: Any, option: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(x, option)

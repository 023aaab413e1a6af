"""Losses of pairs of vectors: values, gradients and memory."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax import info_nce, info_nce_with_grad
from sampled_oracle import differences
from sampled_oracle import info_nce as oracle

Array = npt.NDArray[Any]
Arrays = tuple[Array, Array, Array]
FORMS = {
    "plain": {},
    "symmetric": {"symmetric": True},
    "own view": {"own_view": True},
    "both": {"symmetric": True, "own_view": True},
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def pairs(
    n: int = 7, d: int = 4, m: int = 3, dtype: Any = np.float64
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(n)
    q, k, more = (rng.normal(size=(rows, d)).astype(dtype) for rows in (n, n, m))
    return q, k, more


@forms
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients(form: dict[str, bool], dtype: Any, isa: str) -> None:
    """Against long double; gradients in float32 against those in float64."""
    eps = 100 * np.finfo(dtype).eps
    for tile, temperature, with_more in itertools.product((None, 3, 20), (0.3, 1.0), (True, False)):
        q, k, more = pairs(37, 6, 11, dtype)
        given = more if with_more else None
        options: dict[str, Any] = {"temperature": temperature, **form}
        found = info_nce_with_grad(q, k, negatives=given, tile=tile, **options)
        assert found.loss.dtype == dtype
        assert found.loss == info_nce(q, k, negatives=given, tile=tile, **options)
        expected = oracle(q, k, given, **options)
        np.testing.assert_allclose(float(found.loss), float(expected), rtol=eps)
        wide = [None if x is None else x.astype(np.float64) for x in (q, k, given)]
        exact = info_nce_with_grad(wide[0], wide[1], negatives=wide[2], **options)  # type: ignore[arg-type]
        for a, e in zip(found[1:], exact[1:], strict=True):
            assert (a is None) == (e is None)
            if a is not None:
                np.testing.assert_allclose(a, e, atol=eps)


@forms
def test_gradients(form: dict[str, bool]) -> None:
    """By differences of the reference."""
    q, k, more = pairs()
    for tile, m in itertools.product((None, 2, 3), (0, 3)):
        given = more[:m]
        every = (q, k, given, np.array(0.5))

        def loss(q: Array, k: Array, more: Array, temperature: Any = 0.5) -> Any:
            return oracle(q, k, more, float(temperature), **form)

        def moved(i: int, x: Array, arrays: Any = every) -> Any:
            return loss(*arrays[:i], x, *arrays[i + 1 :])

        found = info_nce_with_grad(q, k, negatives=given, temperature=0.5, tile=tile, **form)
        for i, (x, got) in enumerate(zip(every, found[1:], strict=True)):
            np.testing.assert_allclose(got, differences(partial(moved, i), x), atol=1e-8)


def test_peers() -> None:
    """PyTorch's cross-entropy of the matrices: one direction, CLIP's and SimCLR's."""
    torch = pytest.importorskip("torch")
    q, k, _ = pairs(50, 8)

    def clip(a: Any, b: Any) -> Any:
        s, labels = a @ b.T / 0.1, torch.arange(len(a))
        return (functional(s, labels) + functional(s.T, labels)) / 2

    def simclr(a: Any, b: Any) -> Any:
        z = torch.cat([a, b])
        s = (z @ z.T / 0.1).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        return functional(s, torch.arange(len(z)).roll(len(a)))

    functional = torch.nn.functional.cross_entropy
    for theirs, options in (
        (lambda a, b: functional(a @ b.T / 0.1, torch.arange(len(a))), {}),
        (clip, {"symmetric": True}),
        (simclr, {"symmetric": True, "own_view": True}),
    ):
        leaves = [torch.tensor(x, requires_grad=True) for x in (q, k)]
        expected = theirs(*leaves)
        expected.backward()
        found = info_nce_with_grad(q, k, temperature=0.1, **options)
        np.testing.assert_allclose(found.loss, expected.item(), rtol=1e-12)
        np.testing.assert_allclose(found.d_query, leaves[0].grad.numpy(), atol=1e-13)
        np.testing.assert_allclose(found.d_key, leaves[1].grad.numpy(), atol=1e-13)


def test_it_is_the_cross_entropy_of_a_linear_layer() -> None:
    q, k, more = pairs(20)
    found = info_nce_with_grad(q, k, negatives=more, temperature=0.5)
    weight = np.concatenate([k, more])
    loss, d_hidden, d_weight, _ = boltzmax.linear_cross_entropy_with_grad(
        q, weight, np.arange(20), temperature=0.5
    )
    np.testing.assert_allclose(found.loss, loss, rtol=1e-14)
    np.testing.assert_allclose(found.d_query, d_hidden, atol=1e-15)
    np.testing.assert_allclose(
        np.concatenate([found.d_key, found.d_negatives]), d_weight, atol=1e-15
    )


@forms
def test_scores_of_any_size(form: dict[str, bool], isa: str) -> None:
    """Vectors are not normalised: scores of thousands, in tiles of other maxima."""
    for dtype in (np.float32, np.float64):
        for size in (1e-3, 30.0, 1e3):
            q, k, more = (x * dtype(size) for x in pairs(31, 5, 4, dtype))
            for tile in (None, 5):
                found = info_nce_with_grad(q, k, negatives=more, temperature=1.0, tile=tile, **form)
                expected = oracle(q, k, more, 1.0, **form)
                np.testing.assert_allclose(float(found.loss), float(expected), rtol=3e-5)
                assert np.isfinite(found.d_query).all()
                assert np.isfinite(found.d_key).all()


@forms
def test_tiles_are_all_that_is_kept(form: dict[str, bool]) -> None:
    """1,500 x 1,500 scores would take 9 MB; the vectors and their gradients take 0.2."""
    q, k, _ = pairs(1500, 8, dtype=np.float32)
    info_nce_with_grad(q, k, tile=64, **form)
    tracemalloc.start()
    try:
        info_nce_with_grad(q, k, tile=64, **form)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


@forms
def test_threads_do_not_change_bits(form: dict[str, bool], threads: Callable[[int], None]) -> None:
    q, k, more = pairs(700, 16, 90, np.float32)
    found = []
    for count in (1, 3):
        threads(count)
        found.append(info_nce_with_grad(q, k, negatives=more, **form))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_kinds_of_arrays() -> None:
    q, k, more = pairs(dtype=np.float32)
    expected = info_nce_with_grad(q, k, negatives=more, symmetric=True)
    for a, b in ((np.asfortranarray(q), k[::-1][::-1]), (q.astype(">f4"), np.repeat(k, 2, 0)[::2])):
        found = info_nce_with_grad(a, b, negatives=more, symmetric=True)
        for x, e in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, e)
    assert info_nce(q, k.astype(np.float64)).dtype == np.float64
    assert info_nce(q.astype(np.float16), k.astype(np.float16)).dtype == np.float32
    assert info_nce([[1, 2]], [[3, 4]]) == 0
    before = q.copy()
    info_nce_with_grad(q, q, symmetric=True, own_view=True)
    np.testing.assert_array_equal(q, before)


@forms
def test_nan(form: dict[str, bool]) -> None:
    q, k, _ = pairs()
    q[3] = np.nan
    found = info_nce_with_grad(q, k, **form)
    assert np.isnan(found.loss)
    assert np.isnan(found.d_query[3]).all()


@forms
def test_no_pairs_and_one(form: dict[str, bool]) -> None:
    nothing = np.zeros((0, 3), np.float32)
    found = info_nce_with_grad(nothing, nothing, negatives=np.ones((2, 3), np.float32), **form)
    assert np.isnan(found.loss)
    assert found.loss.dtype == np.float32
    assert found.d_query.shape == found.d_key.shape == (0, 3)
    np.testing.assert_array_equal(found.d_negatives, np.zeros((2, 3)))
    one = info_nce_with_grad([[1.0, 2.0]], [[3.0, 4.0]], **form)
    assert one.loss == 0
    assert not one.d_query.any()


def test_refusals() -> None:
    q, k, more = pairs()
    for a, b, options, error, words in (
        (
            q,
            k[:3],
            {},
            ValueError,
            r"query and key must both be \(N, D\), got .+\(3, 4\)",
        ),
        (q[0], k[0], {}, ValueError, r"must both be \(N, D\)"),
        (
            q,
            k,
            {"negatives": more[:, :2]},
            ValueError,
            r"negatives must be \(M, 4\), got .+3, 2",
        ),
        (q.astype(complex), k, {}, TypeError, "query must be float16, .+ got dtype complex128"),
        (q, "text", {}, TypeError, "key must be float16"),
        (q, k, {"tile": 0}, ValueError, "tile must be at least 1, got 0"),
        (q, k, {"tile": 2.5}, TypeError, "tile must be an integer"),
        (q, k, {"symmetric": np.ones(2)}, ValueError, "symmetric must be True or False"),
        (q, k, {"own_view": np.ones(2)}, ValueError, "own_view must be True or False"),
        (q, k, {"temperature": 0}, ValueError, "temperature must be > 0"),
    ):
        for function in (info_nce, info_nce_with_grad):
            with pytest.raises(error, match=words):
                function(a, b, **options)  # type: ignore[operator]

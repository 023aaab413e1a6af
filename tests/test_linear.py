"""Losses and queries of a linear layer, against the whole matrix of logits in float64."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from boltzmax import (
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
    linear_log_prob,
    linear_logsumexp,
    linear_sample,
    linear_topk,
)
from boltzmax.linear.scores import Products
from linear_samples import (
    OPTIONS,
    SHAPES,
    SOME,
    arrays,
    layer,
    logits,
    near,
    reference,
)


@pytest.mark.parametrize("options", SOME, ids=lambda o: "+".join(o) or "plain")
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.usefixtures("tiles")
def test_loss_and_gradients(options, dtype, tolerance):
    for n, v, d in SHAPES:
        h, w, t, b = layer(n, v, d, dtype)
        given = arrays(options, n, v)
        for bias in (None, b):
            want = reference(h, w, t, bias, **given)
            got = linear_cross_entropy_with_grad(h, w, t, bias, **given)
            if np.isnan(want[0]):
                assert np.isnan(got[0])
                assert not any(np.any(g) for g in got[1:3])
                continue
            scale = max(1.0, np.linalg.norm(want[1]), np.linalg.norm(want[2]))
            for g, r in zip(got[1:], want[1:], strict=True):
                if g is not None:
                    assert g.dtype == dtype
                    assert np.linalg.norm(g - r) <= tolerance * max(scale, np.linalg.norm(r))
            assert got[0] == pytest.approx(want[0], rel=tolerance, abs=tolerance)
            assert linear_cross_entropy(h, w, t, bias, **given) == got[0]
            none = {**given, "reduction": "none"}
            near(linear_cross_entropy(h, w, t, bias, **none),
                 reference(h, w, t, bias, **none), 10 * tolerance)  # fmt: skip


def test_float32_gradients_of_many_classes():
    h, w, t, b = layer(700, 9000, 64, np.float32)
    w *= np.float32(0.2)
    got = linear_cross_entropy_with_grad(h, w, t, b)
    for g, r in zip(got, reference(h, w, t, b), strict=True):
        near(g, r, 1e-5)


@pytest.mark.parametrize("which", [0, 1, 3])
@pytest.mark.usefixtures("tiles")
def test_central_differences(which):
    arguments = list(layer(5, 11, 3))
    given = arrays(OPTIONS, 5, 11)
    gradient = linear_cross_entropy_with_grad(*arguments, **given)[{0: 1, 1: 2, 3: 3}[which]]
    step = 1e-5
    for index in np.ndindex(gradient.shape):
        ends = []
        for sign in (1, -1):
            changed = arguments[which].copy()
            changed[index] += sign * step
            moved = [*arguments[:which], changed, *arguments[which + 1 :]]
            ends.append(linear_cross_entropy(*moved, **given))
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.usefixtures("tiles")
def test_half_precision(half):
    h, w, t, b = layer(33, 50, 3, half)
    got = linear_cross_entropy_with_grad(h, w, t, b)
    for g, r in zip(got, reference(h, w, t, b), strict=True):
        near(g, r, 1e-5)
        assert g.dtype == np.float32


@pytest.mark.parametrize("dtype", [f"{k}{b}" for k in ("int", "uint") for b in (8, 16, 32, 64)])
def test_target_dtypes(dtype):
    h, w, t, _ = layer(9, 16, 4)
    assert linear_cross_entropy(h, w, t.astype(dtype)) == linear_cross_entropy(h, w, t)


def test_leading_axes_and_layouts():
    h, w, t, b = layer(12, 16, 4)
    want = linear_cross_entropy_with_grad(h, w, t, b)
    got = linear_cross_entropy_with_grad(
        h.reshape(3, 4, 4), np.asfortranarray(w).astype(">f8"), t.reshape(3, 4), b
    )
    assert got[1].shape == (3, 4, 4)
    for g, r in zip(got, want, strict=True):
        near(g.reshape(np.shape(r)), r, 1e-14)
    assert linear_logsumexp(h.reshape(3, 4, 4), w).shape == (3, 4)


@pytest.mark.usefixtures("tiles")
def test_no_rows_and_ignored_rows():
    h, w, t, b = layer(6, 20, 3)
    for rows, target in ((0, t[:0]), (6, np.full(6, -100))):
        for reduction in ("mean", "sum"):
            loss, *grads = linear_cross_entropy_with_grad(
                h[:rows], w, target, b, reduction=reduction
            )
            assert np.isnan(loss) if reduction == "mean" else loss == 0
            assert [g.shape for g in grads] == [(rows, 3), (20, 3), (20,)]
            assert not any(g.any() for g in grads)
    t[2] = -100
    h[2] = np.nan  # not even read
    assert np.isfinite(linear_cross_entropy_with_grad(h, w, t, b)[2]).all()
    assert linear_log_prob(h, w, t, b)[2] == 0
    assert linear_topk(h[:0], w, 2)[0].shape == (0, 2)
    assert linear_sample(h[:0], w).shape == (0,)


@pytest.mark.usefixtures("tiles")
def test_forbidden_classes():
    h, w, t, b = layer(9, 60, 4)
    b[:40] = -np.inf
    t[:] = 50
    got = linear_cross_entropy_with_grad(h, w, t, b)
    want = reference(h, w[40:], t - 40, b[40:])
    near(got[1], want[1], 1e-12)
    near(got[2][40:], want[2], 1e-12)
    assert got[0] == pytest.approx(want[0])
    assert not got[2][:40].any()
    assert (linear_sample(h, w, 0, b) >= 40).all()


def test_memory_map(tmp_path):
    h, w, t, _ = layer(64, 200, 8, np.float32)
    mapped = np.memmap(tmp_path / "weight", np.float32, "w+", shape=w.shape)
    mapped[:] = w
    for g, r in zip(
        linear_cross_entropy_with_grad(h, mapped, t),
        linear_cross_entropy_with_grad(h, w, t),
        strict=True,
    ):
        np.testing.assert_array_equal(g, r)
        assert not isinstance(g, np.memmap)


@pytest.mark.usefixtures("tiles")
def test_queries():
    for n, v, d in SHAPES:
        h, w, t, b = layer(n, v, d)
        for given in ({}, {"temperature": 0.5}, {"softcap": 2.0, "temperature": 2.0}):
            s = logits(h, w, b, **given)
            lse = np.logaddexp.reduce(s, axis=1)
            near(linear_logsumexp(h, w, b, **given), lse, 1e-13)
            near(linear_log_prob(h, w, t, b, **given), s[np.arange(n), t] - lse, 1e-12)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
@pytest.mark.usefixtures("tiles")
def test_topk(k):
    rng = np.random.default_rng(3)
    for n, v in ((1, 40), (9, 41), (33, 97)):
        for largest in (1, 3, 1000):  # few different logits: many ties
            h, w = np.ones((n, 1)), rng.integers(0, largest, (v, 1)).astype(float)
            h[:] = rng.integers(-2, 3, (n, 1))
            s = h @ w.T
            ids, log_probs = linear_topk(h, w, k)
            want = np.argsort(-s, axis=1, kind="stable")[:, :k]
            np.testing.assert_array_equal(ids, want)
            lse = np.logaddexp.reduce(s, axis=1)
            expected = np.take_along_axis(s, want, 1) - lse[:, None]
            np.testing.assert_allclose(log_probs, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("tiles")
def test_sample(dtype):
    n, v = 4000, 30
    _, w, _, b = layer(1, v, 3, dtype)
    h = np.ones((n, 3), dtype)
    ids = linear_sample(h, w, 5, b, temperature=2.0)
    np.testing.assert_array_equal(ids, linear_sample(h, w, np.random.default_rng(5), b,
                                                     temperature=2.0))  # fmt: skip
    s = logits(h[:1], w, b, 2.0)[0]
    p = np.exp(s - np.logaddexp.reduce(s))
    # The same classes for any tiles.
    level = np.random.default_rng(5).random(n)
    want = np.searchsorted(np.cumsum(p), level, side="right")
    assert (ids != want).sum() <= (2 if dtype == np.float32 else 0)
    counts = np.bincount(ids, minlength=v)
    assert (((counts - n * p) ** 2) / (n * p)).sum() < 60


@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("tiles")
def test_sample_without_probabilities(bad, temperature):
    """A row with NaN, with +inf, or without a finite logit."""
    h, w = [[[1.0], [1.0]], [[bad], [bad]]], np.linspace(1, 2, 30)[:, None]
    with pytest.raises(ValueError, match=r"neither NaN nor \+inf for row \(1, 0\)$"):
        linear_sample(h, w, 0, temperature=temperature)
    ids = linear_sample(h, w, 0, temperature=temperature, errors="mark")
    assert (ids[0] >= 0).all()
    assert ids[1].tolist() == [-1, -1]
    with pytest.raises(ValueError, match="errors must be"):
        linear_sample(h, w, 0, errors="ignore")


def test_errors():
    h, w, t, b = layer(4, 6, 3)
    bad = t.copy()
    bad[2] = 6
    with pytest.raises(IndexError, match=r"6 at position 2"):
        linear_cross_entropy(h, w, bad)
    with pytest.raises(IndexError, match=r"6 at position 2"):
        linear_log_prob(h, w, bad)
    for options in (
        {"label_smoothing": 1.5}, {"z_loss": -1.0}, {"softcap": 0.0}, {"temperature": 0.0},
        {"reduction": "max"}, {"class_weight": [1.0]}, {"sample_weight": [1.0, 2.0]},
        {"bias": b[:2]}, {"temperature": np.nan},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(options))):
            linear_cross_entropy(h, w, t, **options)
    with pytest.raises(ValueError, match="reduction"):
        linear_cross_entropy_with_grad(h, w, t, reduction="none")
    for hidden, weight in ((h, w[:, :2]), (h, w[:0]), (h, w[0]), (h[0, 0], w)):
        with pytest.raises(ValueError, match="hidden must have shape"):
            linear_cross_entropy(hidden, weight, t)
    for hidden, weight in (
        (h.astype(complex), w),
        (h, w.astype(np.longdouble)),
        (h, w.astype(str)),
    ):
        with pytest.raises(TypeError, match="dtype"):
            linear_cross_entropy(hidden, weight, t)
    with pytest.raises(TypeError, match="masked"):
        linear_cross_entropy(np.ma.array(h), w, t)
    with pytest.raises(TypeError, match="integers"):
        linear_cross_entropy(h, w, t.astype(float))
    with pytest.raises(TypeError, match="temperature"):
        linear_logsumexp(h, w, temperature="warm")
    for k in (0, 7):
        with pytest.raises(ValueError, match="k must be"):
            linear_topk(h, w, k)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "class_weight": True}])
def test_torch(options):
    torch = pytest.importorskip("torch")
    h, w, t, b = layer(33, 50, 3)
    t[4] = -100
    given = arrays(options, 33, 50)
    leaves = [torch.tensor(a, requires_grad=True) for a in (h, w, b)]
    theirs = dict(given)
    if "class_weight" in theirs:
        theirs["weight"] = torch.tensor(theirs.pop("class_weight"))
    loss = torch.nn.functional.cross_entropy(
        leaves[0] @ leaves[1].T + leaves[2], torch.tensor(t), **theirs
    )
    loss.backward()
    got = linear_cross_entropy_with_grad(h, w, t, b, **given)
    assert got[0] == pytest.approx(loss.item(), rel=1e-12)
    for g, leaf in zip(got[1:], leaves, strict=True):
        near(g, leaf.grad.numpy(), 1e-12)


def test_gradients_of_no_rows_are_zero_in_memory_that_was_used():
    h, w, t, b = layer(200, 30000, 16, np.float32)
    used = linear_cross_entropy_with_grad(h, w, t, b)[2]
    assert used.any()
    del used
    _, *gradients = linear_cross_entropy_with_grad(h, w, np.full_like(t, -100), b, empty="zero")
    assert not any(gradient.any() for gradient in gradients)


def test_the_buffer_of_products_fits_any_number_of_rows():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(3, 4))
    products = Products(a.dtype, 40)  # not even one column of the larger product
    for rows in 7, 50, 7:
        out = np.ones((rows, 4))
        products.add(a[:rows], b, out, first=False)
        near(out, 1 + a[:rows] @ b, 1e-14)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("options", [{}, {"softcap": 30.0}])
def test_peak_memory(options, half):
    n, v, d = 4096, 30000, 16
    h, w, t, _ = layer(n, v, d, np.float16 if half else np.float32)
    t[::3] = -100
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        _, *grads = linear_cross_entropy_with_grad(h, w, t, **options)
        extra = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    extra -= sum(g.nbytes for g in grads if g is not None)
    assert extra <= 0.02 * n * v * h.itemsize

"""The processing of logits between matrix products, on every instruction set."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest

import boltzmax
from boltzmax import (
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
    linear_log_prob,
    linear_logsumexp,
    linear_topk,
)
from boltzmax.linear import scores as linear_scores
from linear_samples import OPTIONS, arrays, layer, near, reference

INF = math.inf


@pytest.fixture(params=[False, True], ids=["small", "tiled"])
def way(request, monkeypatch):
    """Small problems take a separate path; both must give the same."""
    if request.param:
        monkeypatch.setattr(linear_scores, "SMALL", 0)


def soft_targets(n, v, dtype=np.float64):
    q = np.random.default_rng(2).dirichlet(np.full(v, 0.3), n)
    q[: n // 2] = np.eye(v)[np.arange(n // 2) % v]
    return q.astype(dtype)


@pytest.mark.parametrize("options", [{}, OPTIONS, {"softcap": 3.0}, {"label_smoothing": 0.2}])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.usefixtures("isa", "way")
def test_every_instruction_set(options, dtype, tolerance):
    h, w, t, b = layer(37, 61, 5, dtype)
    given = arrays(options, 37, 61)
    want = reference(h, w, t, b, **given)
    got = linear_cross_entropy_with_grad(h, w, t, b, **given)
    assert linear_cross_entropy(h, w, t, b, **given) == got[0]
    for g, r in zip(got, want, strict=True):
        near(g, r, tolerance)


# ---- probabilities for targets


@pytest.mark.parametrize(
    "options",
    [{}, OPTIONS, *({name: OPTIONS[name]} for name in OPTIONS if name != "ignore_index")],
    ids=lambda o: "+".join(o) or "plain",
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.usefixtures("tiles")
def test_probabilities(options, dtype, tolerance):
    for n, v, d in ((1, 1, 3), (5, 7, 2), (33, 50, 3)):
        h, w, _, b = layer(n, v, d, dtype)
        given = arrays(options, n, v)
        given.pop("ignore_index", None)
        for q in (soft_targets(n, v), soft_targets(n, v, np.float32), soft_targets(n, v, ">f8")):
            want = reference(h, w, q.astype(float), b, **given)
            got = linear_cross_entropy_with_grad(h, w, q, b, **given)
            assert linear_cross_entropy(h, w, q, b, **given) == got[0]
            scale = max(np.linalg.norm(r) for r in want)
            for g, r in zip(got, want, strict=True):
                assert np.linalg.norm(g - r) <= tolerance * max(scale, 1.0)


@pytest.mark.usefixtures("isa", "tiles")
def test_probabilities_as_in_cross_entropy():
    h, w, t, b = layer(20, 30, 4)
    b[::4] = -INF
    t -= t % 4 == 0
    t %= 30  # forbidden classes have no probability either
    q, weight = soft_targets(20, 30)[:, ::-1] + 0.01, np.random.default_rng(5).uniform(0.1, 2, 30)
    q[:, ::4] = 0
    weight[1::5] = 0
    sample = np.random.default_rng(6).uniform(0, 2, 20)
    scores = h @ w.T + b
    for target, smoothing in ((q, 0.0), (q, 0.1), (t, 0.0), (t, 0.1)):
        for class_weight in (None, np.where(b == -INF, 0, weight)):
            for reduction in ("mean", "sum", "none"):
                common = {"label_smoothing": smoothing, "reduction": reduction, "z_loss": 1e-3}
                common |= {"temperature": 0.5, "sample_weight": sample}
                want = boltzmax.cross_entropy(scores, target, weight=class_weight, **common)
                got = linear_cross_entropy(h, w, target, b, class_weight=class_weight, **common)
                np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
                if reduction == "none" or not np.all(np.isfinite(want)):
                    continue
                _, d_logits = boltzmax.cross_entropy_with_grad(
                    scores, target, weight=class_weight, **common
                )
                _, *gradients = linear_cross_entropy_with_grad(
                    h, w, target, b, class_weight=class_weight, **common
                )
                wanted = (d_logits @ w, d_logits.T @ h, d_logits.sum(axis=0))
                for g, r in zip(gradients, wanted, strict=True):
                    np.testing.assert_allclose(g, r, rtol=1e-11, atol=1e-13)


def test_probabilities_of_leading_axes():
    h, w, _, b = layer(12, 16, 4)
    q = soft_targets(12, 16)
    want = linear_cross_entropy_with_grad(h, w, q, b)
    transposed = np.asfortranarray(q.reshape(3, 4, 16))
    got = linear_cross_entropy_with_grad(h.reshape(3, 4, 4), w, transposed, b)
    assert got[1].shape == (3, 4, 4)
    for g, r in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, np.reshape(r, np.shape(g)))
    each = linear_cross_entropy(h.reshape(3, 4, 4), w, transposed, b, reduction="none")
    assert each.shape == (3, 4)


def test_probabilities_of_another_shape():
    h, w, t, _ = layer(4, 6, 3)
    for target in (t.astype(float), np.ones((4, 5)), np.ones((3, 6)), np.ones((6, 4))):
        with pytest.raises(TypeError, match=r"integers of shape \(4,\) or probabilities of"):
            linear_cross_entropy(h, w, target)
    with pytest.raises(TypeError, match="masked"):
        linear_cross_entropy(h, w, np.ma.array(np.ones((4, 6))))


# ---- weights of 0


@pytest.mark.usefixtures("isa", "way")
def test_weights_of_zero_leave_out_infinite_losses():
    one, two = [[1.0]], [[0.0], [1.0]]
    options = {"label_smoothing": 0.1, "class_weight": [0.0, 1.0]}
    assert linear_cross_entropy(one, two, [1], [-INF, 0.0], **options) == 0.0
    # The target itself is forbidden and has weight 0: only the other classes remain.
    bias, weight = np.array([-INF, 0.0, 0.0]), [0.0, 1.0, 1.0]
    h, w = np.ones((1, 1)), np.zeros((3, 1))
    for smoothing, want in ((0.0, 0.0), (0.3, 0.2 * math.log(2))):
        got = linear_cross_entropy(
            h, w, [0], bias, class_weight=weight, label_smoothing=smoothing, reduction="sum"
        )
        assert got == pytest.approx(want, rel=1e-14, abs=0)
    # Probabilities of 0, and full smoothing.
    assert linear_cross_entropy(h, w, [[0.0, 0.5, 0.5]], bias) == pytest.approx(math.log(2))
    assert linear_cross_entropy(h, w, np.array([0]), bias) == INF
    assert linear_cross_entropy(h, w, np.array([0]), bias, label_smoothing=1.0) == INF
    # Rows of weight 0.
    args = (np.ones((2, 1)), w, np.array([0, 1]), bias)
    got = linear_cross_entropy(*args, sample_weight=[0.0, 1.0])
    assert got == pytest.approx(math.log(2))


@pytest.mark.usefixtures("isa", "way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weights", [{"sample_weight": [0.0, 1.0]}, {"class_weight": [0.0, 1.0]}])
def test_infinite_targets_of_weight_zero_keep_the_other_gradients(weights, dtype):
    h, w, bias = np.ones((2, 1), dtype), np.zeros((2, 1), dtype), np.array([-INF, 0.0], dtype)
    got = linear_cross_entropy_with_grad(h, w, [0, 1], bias, reduction="sum", **weights)
    assert got[0] == 0.0
    for gradient in got[1:]:
        assert not gradient.any()


@pytest.mark.usefixtures("isa", "way")
def test_gradients_of_forbidden_classes():
    h, w, t, b = layer(9, 20, 3)
    b[::2] = -INF
    t |= 1
    weight = np.where(b == -INF, 0.0, 1.5)
    kept = slice(1, None, 2)
    for smoothing in (0.0, 0.2):
        got = linear_cross_entropy_with_grad(
            h, w, t, b, class_weight=weight, label_smoothing=smoothing, reduction="sum"
        )
        a = 1.5 * ((1 - smoothing) * np.eye(20)[t] + smoothing / 20)[:, kept]
        s = (h @ w.T + b)[:, kept]
        p = boltzmax.softmax(s)
        g = a.sum(axis=1, keepdims=True) * p - a
        assert got[0] == pytest.approx(-(a * boltzmax.log_softmax(s)).sum(), rel=1e-13)
        near(got[1], g @ w[kept], 1e-13)
        near(got[2][kept], g.T @ h, 1e-13)
        assert not got[2][::2].any()
        assert not got[3][::2].any()


@pytest.mark.parametrize("bad", [np.nan, INF])
@pytest.mark.usefixtures("isa", "tiles")
def test_rows_without_probabilities(bad):
    """Their losses and the gradients that include them are NaN."""
    h, w, t, b = layer(6, 20, 3)
    h[2] = bad
    each = linear_cross_entropy(h, w, t, b, reduction="none")
    assert not np.isfinite(each[2])
    assert np.isfinite(np.delete(each, 2)).all()
    loss, d_hidden, d_weight, d_bias = linear_cross_entropy_with_grad(h, w, t, b)
    assert not np.isfinite(loss)
    assert np.isnan(d_hidden[2]).all()
    assert np.isfinite(np.delete(d_hidden, 2, axis=0)).all()
    assert np.isnan(d_weight).all()
    assert np.isnan(d_bias).all()
    assert np.isnan(linear_topk(h, w, 3, b)[1][2]).any()


# ---- digits


@pytest.mark.usefixtures("isa", "way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_losses_keep_their_digits(dtype):
    """Logits of 100,000 and a loss of 1e-9, which is not computed as their difference."""
    h, w = np.ones((1, 1), dtype), np.array([[1e5], [1e5 - 20], [1e5 - 25]], dtype)
    want = math.log1p(math.exp(-20) + math.exp(-25))
    t, eps = np.array([0]), float(np.finfo(dtype).eps)
    loss, _, d_weight, d_bias = linear_cross_entropy_with_grad(h, w, t, np.zeros(3, dtype))
    assert float(loss) == pytest.approx(want, rel=eps)
    assert float(linear_cross_entropy(h, w, t)) == pytest.approx(want, rel=eps)
    assert float(linear_log_prob(h, w, t)[0]) == pytest.approx(-want, rel=eps)
    assert float(d_weight[0, 0]) == pytest.approx(math.expm1(-want), rel=4 * eps, abs=0)
    assert float(d_bias[0]) == pytest.approx(math.expm1(-want), rel=4 * eps, abs=0)
    soft = linear_cross_entropy(h, w, np.array([[1.0, 0.0, 0.0]]))
    assert float(soft) == pytest.approx(want, rel=eps)


@pytest.mark.usefixtures("isa")
def test_sums_beyond_the_range_of_float32():
    h, w = np.ones((1, 1), np.float32), np.array([[3e38], [-3e38], [-3e38]], np.float32)
    loss = linear_cross_entropy(h, w, np.array([0]), label_smoothing=0.3)
    assert float(loss) == pytest.approx(0.2 * 2 * float(w[0, 0]), rel=1e-6)
    loss = linear_cross_entropy(h, w, np.array([[0.9, 0.1, 0.0]]))
    assert float(loss) == pytest.approx(0.1 * 2 * float(w[0, 0]), rel=1e-6)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh(dtype):
    """The logsumexp of a single class is its score, here the tanh of the logit."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        (rng.normal(size=2000), rng.uniform(0.5, 0.75, 2000), rng.uniform(0, 20, 1000),
         10.0 ** rng.uniform(-30, 0, 1000), [0.0, 0.625, 1e30, np.inf])
    ).astype(dtype)  # fmt: skip
    x = np.concatenate((x, -x))
    weight = np.ones((1, 1), dtype)
    got = linear_logsumexp(x[:, None], weight, softcap=1.0)
    with mpmath.workprec(100):
        exact = [mpmath.tanh(mpmath.mpf(float(v))) for v in x]
        errors = [
            abs(mpmath.mpf(float(g)) - e) / mpmath.mpf(float(np.spacing(abs(dtype(e)))))
            for g, e in zip(got, exact, strict=True)
        ]
    assert max(errors) <= 1.6
    assert np.isnan(linear_logsumexp(np.full((1, 1), np.nan, dtype), weight, softcap=1.0))


# ---- bits


@pytest.mark.parametrize("options", [{}, OPTIONS | {"ignore_index": -100}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(options, dtype, threads):
    """For one tile and for several, large enough for threads."""
    for n, v in ((600, 900), (1500, 9000)):
        h, w, t, b = layer(n, v, 8, dtype)
        given = arrays(options, n, v)
        results = []
        for count in (1, 2, 5):
            threads(count)
            results.append(linear_cross_entropy_with_grad(h, w, t, b, **given))
        for other in results[1:]:
            for g, r in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(g, r)


# ---- the largest


def by_rank(s, k):
    """Scores by decreasing value, ties by class; -inf and NaN last, by class."""
    kept = np.where(s > -INF, s, -INF)
    return np.argsort(-kept, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("isa", "tiles")
def test_topk_of_many_few_and_all(dtype):
    rng = np.random.default_rng(4)
    for n, v, distinct in itertools.product((1, 7), (5, 300), (2, 1000)):
        h = np.ones((n, 1), dtype)
        w = rng.integers(0, distinct, (v, 1)).astype(dtype)
        b = np.where(rng.random(v) < 0.3, -INF, 0.0).astype(dtype)
        b[0] = 0.0
        s = (h @ w.T + b).astype(float)
        lse = boltzmax.logsumexp(s, keepdims=True)
        for k in {1, 2, 5, v // 2, v - 1, v}:
            ids, log_probs = linear_topk(h, w, k, b)
            want = by_rank(s, k)
            np.testing.assert_array_equal(ids, want)
            assert log_probs.dtype == dtype
            expected = np.take_along_axis(s - lse, want, 1)
            np.testing.assert_allclose(log_probs, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("isa", "tiles")
def test_topk_of_rows_with_nan():
    s = np.array([[1.0, np.nan, 3.0, -INF, 2.0]])
    ids, log_probs = linear_topk(np.ones((1, 1)), np.zeros((5, 1)), 5, s[0])
    np.testing.assert_array_equal(ids, by_rank(s, 5))
    assert np.isnan(log_probs).all()

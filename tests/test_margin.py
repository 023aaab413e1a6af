"""`boltzmax.margin`: margins on the target, and what is refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
from boltzmax.margin import (
    MarginSoftmax,
    additive_margin,
    arc_margin,
    cosine_logits,
    cosine_logits_backward,
    margin_logits,
    margin_logits_backward,
    noisy_logits,
    sphere_margin,
    subcenter_cosine,
    subcenter_cosine_backward,
)
from margin_samples import MARGINS, C, D, N, V, classes, cosines, lengths, normal, numeric

Array = npt.NDArray[Any]

pytestmark = pytest.mark.usefixtures("strict")

# ---- margins


def exact_target(cosine: Array, m1: Any, m2: Any, m3: Any, easy_margin: bool) -> Array:
    """The target's logit, over the scale, by its definition in intervals of half a turn."""
    angle = m1 * np.arccos(cosine.astype(np.longdouble)) + m2
    turns = np.floor(angle / np.pi)
    signs = np.where(turns.astype(int) % 2 == 0, 1, -1)
    value = signs * np.cos(angle) - 2 * turns - m3
    return np.where(cosine > 0, value, cosine) if easy_margin else np.asarray(value)


@pytest.mark.parametrize("options", MARGINS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_margin_logits(options: dict[str, Any], dtype: Any) -> None:
    cosine, target = cosines(N, V, dtype=dtype), classes(N)
    defaults = {"m1": 1.0, "m2": 0.0, "m3": 0.0, "easy_margin": False}
    want = cosine.astype(np.float64) * 16
    index = np.arange(N), target
    want[index] = 16 * exact_target(cosine[index], **(defaults | options))
    got = margin_logits(cosine, target, scale=16, **options)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=2 * np.finfo(dtype).eps, atol=1e-14)
    others = np.ones_like(want, bool)
    others[index] = False
    np.testing.assert_array_equal(got[others], (cosine * dtype(16))[others])


def test_no_margin_is_the_scaled_cosine() -> None:
    cosine, target = cosines(N, V), classes(N)
    np.testing.assert_allclose(margin_logits(cosine, target), 64 * cosine, rtol=1e-13)


@pytest.mark.parametrize("options", [o for o in MARGINS if "easy_margin" not in o])
def test_the_target_is_monotone_and_continuous(options: dict[str, Any]) -> None:
    """Also beyond half a turn, for margins up to a whole one."""
    angle = np.linspace(0, np.pi, 20_001)
    for more in (0.0, 2.0, 2.0 * np.pi):
        given = options | {"m2": options.get("m2", 0.0) + more}
        got = margin_logits(np.cos(angle)[:, None], np.zeros(angle.size, int), scale=1, **given)
        steps = -np.diff(got[:, 0])
        assert steps.min() >= -1e-7
        assert steps.max() < 1e-3 * given.get("m1", 1.0)


def test_the_margin_lowers_the_target() -> None:
    cosine, target = cosines(N, V), classes(N)
    index = np.arange(N), target
    for options in ({"m2": 0.5}, {"m3": 0.35}, {"m1": 2.0}):
        assert (margin_logits(cosine, target, **options)[index] < 64 * cosine[index]).all()


@pytest.mark.parametrize("options", MARGINS)
def test_gradient_of_margins(options: dict[str, Any]) -> None:
    cosine, target, d = cosines(N, V), classes(N), normal(N, V)

    def total() -> float:
        return float((d * margin_logits(cosine, target, **options)).sum())

    got = margin_logits_backward(d, cosine, target, **options)
    np.testing.assert_allclose(got, numeric(total, cosine), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradients_at_the_ends_are_finite(dtype: Any) -> None:
    """They are those at the neighbouring number; m1^2 for a multiple of the angle."""
    one = np.ones((1, 1), dtype)
    kind = np.float64 if dtype is np.float64 else np.float32
    inside = np.nextafter(kind(1), kind(0)).reshape(1, 1)
    for sign in (dtype(1), dtype(-1)):
        got = margin_logits_backward(one, sign * one, [0], m2=0.5, scale=1).astype(np.float64)
        want = margin_logits_backward(np.ones((1, 1)), kind(sign) * inside, [0], m2=0.5, scale=1)
        np.testing.assert_allclose(got, want, rtol=np.finfo(dtype).eps)
        assert got[0, 0] <= (2900 if kind is np.float32 else 1e8)
        multiple = margin_logits_backward(one, sign * one, [0], m1=3, scale=1)
        np.testing.assert_allclose(multiple, 9, rtol=1e-3)


def test_cosines_beyond_1_by_rounding_are_clipped() -> None:
    beyond = np.array([[np.nextafter(np.float32(1), np.float32(2))]])
    for sign in (1, -1):
        want = margin_logits(np.array([[sign]], np.float32), [0], m2=0.5)
        np.testing.assert_array_equal(margin_logits(sign * beyond, [0], m2=0.5), want)
        assert np.isfinite(margin_logits_backward(beyond, sign * beyond, [0], m2=0.5)).all()


def test_margins_of_rows() -> None:
    cosine, target, d = cosines(N, V), classes(N), normal(N, V)
    each = {"m1": np.linspace(1, 3, N), "m2": np.linspace(0, 1, N), "m3": np.linspace(0.5, 0, N)}
    got = margin_logits(cosine, target, **each)
    gradient = margin_logits_backward(d, cosine, target, **each)
    for i in range(N):
        own = {name: float(m[i]) for name, m in each.items()}
        row = margin_logits(cosine[i], target[i], **own)
        np.testing.assert_array_equal(got[i], row)
        of_row = margin_logits_backward(d[i], cosine[i], target[i], **own)
        np.testing.assert_array_equal(gradient[i], of_row)


def test_more_axes_and_layouts() -> None:
    cosine, target = cosines(2, 3, V), classes(2, 3)
    want = margin_logits(cosine.reshape(6, V), target.reshape(6), m2=0.5).reshape(2, 3, V)
    for layout in (np.asfortranarray(cosine), cosine[:, ::-1].copy()[:, ::-1], cosine.tolist()):
        np.testing.assert_array_equal(margin_logits(layout, target, m2=0.5), want)


def test_out_may_be_the_input() -> None:
    cosine, target, d = cosines(N, V), classes(N), normal(N, V)
    want, gradient = (
        margin_logits(cosine, target, m2=0.5),
        margin_logits_backward(d, cosine, target, m2=0.5),
    )
    kept = cosine.copy()
    assert margin_logits(kept, target, m2=0.5, out=kept) is kept
    np.testing.assert_array_equal(kept, want)
    assert margin_logits_backward(d, cosine, target, m2=0.5, out=d) is d
    np.testing.assert_array_equal(d, gradient)
    columns = np.empty((V, N)).T
    margin_logits(cosine, target, m2=0.5, out=columns)
    np.testing.assert_array_equal(columns, want)


def test_margins_by_name() -> None:
    cosine, target = cosines(N, V), classes(N)
    pairs = [
        (additive_margin(cosine, target), {"m3": 0.35, "scale": 30}),
        (additive_margin(cosine, target, 0.2, 5), {"m3": 0.2, "scale": 5}),
        (arc_margin(cosine, target), {"m2": 0.5, "scale": 64}),
        (arc_margin(cosine, target, 0.2, 5), {"m2": 0.2, "scale": 5}),
        (sphere_margin(cosine, target), {"m1": 4, "scale": 30}),
        (sphere_margin(cosine, target, 2, 5), {"m1": 2, "scale": 5}),
    ]
    for got, options in pairs:
        np.testing.assert_array_equal(got, margin_logits(cosine, target, **options))


# ---- refusals

X, W, COSINE, TARGET = normal(N, D), normal(V, D), cosines(N, V), classes(N)
REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: cosine_logits(X[0], W), ValueError, f"features must be (N, D), got shape ({D},)"),
    (lambda: cosine_logits(X, W[0]), ValueError, f"centers must be (V, D), got shape ({D},)"),
    (
        lambda: cosine_logits(X, W[:, :3]),
        ValueError,
        f"centers must have the width of features, {D}, got shape ({V}, 3)",
    ),
    (lambda: cosine_logits(X, W, scale=0), ValueError, "scale must be positive and finite, got 0"),
    (lambda: cosine_logits(X, W, eps=-1), ValueError, "eps must be positive and finite, got -1"),
    (lambda: cosine_logits(X + 1j, W), TypeError, "features must be float16, float32, float64"),
    (
        lambda: cosine_logits_backward(X, X, W),
        ValueError,
        f"d_logits must have shape ({N}, {V}), got ({N}, {D})",
    ),
    (
        lambda: subcenter_cosine(X, W),
        ValueError,
        f"centers must be (V, C, D), got shape ({V}, {D})",
    ),
    (
        lambda: subcenter_cosine(X, W[:, None], pooling="mean"),
        ValueError,
        "pooling must be one of 'max', 'soft', got 'mean'",
    ),
    (lambda: subcenter_cosine(X, W[:, None], gamma=0), ValueError, "gamma must be > 0"),
    (
        lambda: subcenter_cosine(X, np.empty((V, 0, D))),
        ValueError,
        f"centers must have one or more for each class, got shape ({V}, 0, {D})",
    ),
    (
        lambda: subcenter_cosine_backward(COSINE, X, np.empty((V, 0, D))),
        ValueError,
        f"centers must have one or more for each class, got shape ({V}, 0, {D})",
    ),
    (
        lambda: cosine_logits_backward(COSINE, X, W, eps=0),
        ValueError,
        "eps must be positive and finite, got 0",
    ),
    (
        lambda: noisy_logits(COSINE, TARGET, alpha=1, noise="all", first_row=-1),
        ValueError,
        "first_row must be from 0 to",
    ),
    (lambda: margin_logits(COSINE, TARGET + V), IndexError, "target "),
    (lambda: margin_logits(COSINE, TARGET[1:]), ValueError, "target must have one class for each"),
    (lambda: margin_logits(COSINE, TARGET, m1=0), ValueError, "m1 must be positive, got 0"),
    (lambda: margin_logits(COSINE, TARGET, m2=np.inf), ValueError, "m2 must be finite, got inf"),
    (
        lambda: margin_logits(COSINE, TARGET, m3=np.ones(N + 1)),
        ValueError,
        f"m3 of shape ({N + 1},) does not broadcast to one per row, ({N},)",
    ),
    (
        lambda: margin_logits(64 * COSINE, TARGET),
        ValueError,
        "cosine must be from -1 to 1, got ",
    ),
    (lambda: margin_logits(1.0, 0), ValueError, "cosine must have classes on the last axis"),
    (lambda: noisy_logits(COSINE, TARGET, alpha=-1), ValueError, "alpha must be finite and not"),
    (
        lambda: noisy_logits(COSINE, TARGET, alpha=1),
        TypeError,
        'weight_norm is None; noise="target" needs one length per class',
    ),
    (
        lambda: noisy_logits(COSINE, TARGET, alpha=1, **lengths() | {"cosine": np.ones(2)}),
        ValueError,
        f"cosine must have one cosine per row, ({N},), got shape (2,)",
    ),
    (
        lambda: noisy_logits(COSINE, TARGET, alpha=1, noise="some"),
        ValueError,
        "noise must be one of 'target', 'all', got 'some'",
    ),
    (lambda: MarginSoftmax(0, D), ValueError, "n_classes must be at least 1, got 0"),
    (lambda: MarginSoftmax(V, 0), ValueError, "n_features must be at least 1, got 0"),
    (lambda: MarginSoftmax(V, D, m1=-1), ValueError, "m1 must be positive, got -1"),
    (lambda: MarginSoftmax(V, D, m2=np.ones(2)), TypeError, "m2 must be a real number"),
    (lambda: MarginSoftmax(V, D, scale=-1), ValueError, "scale must be positive and finite"),
    (lambda: MarginSoftmax(V, D, noise_alpha=-1), ValueError, "noise_alpha must be finite and not"),
    (lambda: MarginSoftmax(V, D, centers_per_class=0), ValueError, "centers_per_class must be at"),
    (lambda: MarginSoftmax(V, D, dtype="f2"), TypeError, "dtype must be float32 or float64"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        call()


def test_refused_calls_write_nothing() -> None:
    out = np.full((N, V), 7.0)
    for options in ({"m1": -1}, {"scale": 0}, {"m2": np.ones(9)}):
        with pytest.raises(ValueError, match=r"^(m1|scale|m2) "):
            margin_logits(COSINE, TARGET, out=out, **options)
    assert (out == 7).all()


# ---- peers


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    x, c, d = normal(N, D), normal(V, D, seed=1), normal(N, V, seed=2)
    given = [torch.tensor(a, requires_grad=True) for a in (x, c)]
    normalize = torch.nn.functional.normalize
    logits = 9 * torch.nn.functional.linear(*(normalize(a) for a in given))
    logits.backward(torch.tensor(d))
    np.testing.assert_allclose(cosine_logits(x, c, scale=9), logits.detach().numpy(), atol=1e-13)
    for got, want in zip(cosine_logits_backward(d, x, c, scale=9), given, strict=True):
        np.testing.assert_allclose(got, want.grad.numpy(), atol=1e-13)


def test_pytorch_metric_learning_agrees() -> None:
    """Losses with one margin, several centres, and a multiple of the angle."""
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    warnings.simplefilter("ignore")  # those of the other package
    x, y = normal(N, D), classes(N)

    def check(loss: Any, logits: Callable[[Array], Array]) -> None:
        weights = loss.fc if hasattr(loss, "fc") else loss.W
        with torch.no_grad():
            want = loss.double()(torch.tensor(x), torch.tensor(y)).item()
        got = boltzmax.cross_entropy(logits(weights.detach().double().numpy().T), y)
        assert got == pytest.approx(want, rel=1e-10)

    def of_centers(centers: Array, **options: Any) -> Array:
        return subcenter_cosine(x, centers.reshape(V, C, D), **options)

    half = np.deg2rad(28.6)  # their margin is in degrees
    lengths_of_x = np.linalg.norm(x, axis=1, keepdims=True)
    check(losses.ArcFaceLoss(V, D), lambda w: arc_margin(cosine_logits(x, w), y, half))
    check(losses.CosFaceLoss(V, D, scale=30), lambda w: additive_margin(cosine_logits(x, w), y))
    check(
        losses.SphereFaceLoss(V, D, margin=4, scale=1),
        lambda w: lengths_of_x * sphere_margin(cosine_logits(x, w), y, scale=1),
    )
    check(
        losses.SubCenterArcFaceLoss(num_classes=V, embedding_size=D, sub_centers=C),
        lambda w: arc_margin(of_centers(w), y, half),
    )
    check(
        losses.SoftTripleLoss(num_classes=V, embedding_size=D, centers_per_class=C),
        lambda w: additive_margin(of_centers(w, pooling="soft"), y, 0.01, 20),
    )

"""Targets, weights and options of every kind, and the messages for invalid ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import boltzmax
import loss_samples
from boltzmax.losses.registry import LOSSES, Loss

Array = npt.NDArray[Any]
ml_dtypes = pytest.importorskip("ml_dtypes")

FLOATS = [
    *(np.float16, np.float32, np.float64, np.longdouble, ">f4", ">f8", ml_dtypes.bfloat16),
    *(ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.float4_e2m1fn),
]
ONE_HOT = np.array([[1, 0, 0], [0, 1, 0]])
X, LAYER = np.zeros((2, 3)), np.eye(3)
FULL_LAYER = boltzmax.LinearSoftmax(3, 3)
TREE_LAYER = boltzmax.HierarchicalSoftmax(boltzmax.Tree.balanced(3), 3)

OF_ROWS = [loss for loss in LOSSES.values() if not loss.per_element]


def losses_of(losses: list[Loss]) -> list[Callable[[Array], Any]]:
    """Calls with a target, with and without the gradient."""
    functions = [f for loss in losses for f in (loss.function, loss.with_grad)]
    linear = [loss.is_linear for loss in losses for _ in range(2)]
    return [partial(f, X, *[LAYER] * n) for f, n in zip(functions, linear, strict=True)]


SOFT = losses_of([loss for loss in OF_ROWS if loss.soft])
HARD: list[Callable[[Array], Any]] = [
    *losses_of([loss for loss in OF_ROWS if not loss.soft]),
    partial(boltzmax.linear_log_prob, X, LAYER),
    partial(boltzmax.row_stats, X),
    partial(TREE_LAYER.log_prob, X),
    partial(FULL_LAYER.log_prob, X),
]


# ---- floats ----


def test_bits_do_not_depend_on_the_memory_order_of_probabilities() -> None:
    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(3, 300)), rng.dirichlet(np.ones(300), 3)
    weight = rng.random(300)
    for options in ({}, {"weight": weight}, {"label_smoothing": 0.1}):
        wanted = boltzmax.cross_entropy_with_grad(x, q, **options)
        got = boltzmax.cross_entropy_with_grad(x, np.asfortranarray(q), **options)
        assert got[0] == wanted[0]
        assert np.array_equal(got[1], wanted[1])


@pytest.mark.parametrize("kind", FLOATS, ids=lambda t: np.dtype(t).str + np.dtype(t).name)
def test_probabilities_of_any_float(kind: Any) -> None:
    """Same results as in float64; a half and a quarter are exact in all dtypes."""
    exact = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    p = exact.astype(kind)
    logits = loss_samples.normal(2, 3)
    calls: list[Callable[[Array], Any]] = [
        lambda p: boltzmax.cross_entropy(logits, p),
        lambda p: boltzmax.cross_entropy(logits.T, p.T, axis=0),
        lambda p: boltzmax.linear_cross_entropy(logits, LAYER, p),
        lambda p: boltzmax.kl_divergence(boltzmax.log_softmax(logits), p),
        lambda p: boltzmax.binary_cross_entropy_with_logits(logits, p),
        lambda p: boltzmax.cross_entropy(logits, [0, 1], weight=p[0], sample_weight=p[0, :2]),
        lambda p: boltzmax.focal_loss(logits, [0, 1], alpha=p[0]),
        lambda p: boltzmax.nll_loss(logits, [0, 1], weight=p[0]),
        lambda p: boltzmax.linear_cross_entropy(logits, LAYER, [0, 1], p[0], class_weight=p[0]),
        lambda p: boltzmax.class_weights(p[0]),
        lambda p: boltzmax.balanced_softmax(logits, p[0]),
        lambda p: boltzmax.Tree.huffman(p[0]).expected_depth(p[0]),
    ]
    for i, call in enumerate(calls):
        np.testing.assert_array_equal(call(p), call(exact), err_msg=str(i))


def test_gradients_by_probabilities(dtype: np.dtype[Any]) -> None:
    """For logits and probabilities of one dtype, gradients are rounded once."""
    logits = loss_samples.normal(4, 3).astype(dtype)
    p = boltzmax.softmax(loss_samples.normal(4, 3, seed=1)).astype(dtype)
    wide, d_wide = boltzmax.cross_entropy_with_grad(logits.astype(float), p.astype(float))
    loss, gradient = boltzmax.cross_entropy_with_grad(logits, p)
    assert gradient.dtype == dtype
    eps = 2 * float(ml_dtypes.finfo(dtype).eps)
    assert loss == pytest.approx(wide, rel=max(eps**2, 1e-6) if dtype.itemsize < 8 else 1e-14)
    np.testing.assert_allclose(gradient.astype(float), d_wide, rtol=eps, atol=eps)


@pytest.mark.parametrize("kind", FLOATS[-3:], ids=str)
def test_layers_of_small_floats(kind: Any) -> None:
    """Computed in float32, which represents them exactly."""
    hidden = np.array([[0.5, 1.0], [2.0, -1.0]]).astype(kind)
    loss = boltzmax.linear_cross_entropy(hidden, hidden, [0, 1])
    wide = hidden.astype(np.float32)
    assert loss == boltzmax.linear_cross_entropy(wide, wide, np.array([0, 1]))
    assert loss.dtype == np.float32


# ---- classes out of range ----


def test_messages_name_ignore_index_only_if_it_exists() -> None:
    """Functions without the argument do not mention it."""
    bad = np.array([0, 3])
    for i, call in enumerate([*SOFT, *HARD]):
        with pytest.raises(IndexError, match="target 3 at position 1 is out of range") as error:
            call(bad)
        spoken = "ignore_index, -100)" in str(error.value)
        assert spoken == (i < len(SOFT) + len(HARD) - 2)
        assert "ignore_index" not in str(error.value) or spoken
    with pytest.raises(IndexError, match="ignore_index, -7"):
        boltzmax.cross_entropy(X, bad, ignore_index=-7)


# ---- one-hot targets ----


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_one_hot_targets(dtype: Any) -> None:
    """The message gives advice for them."""
    for calls, floats in ((SOFT, "make them float for class probabilities, or "), (HARD, "")):
        for call in calls:
            hint = rf"one-hot targets: {floats}take target\.argmax\(axis=(1|-1)\)$"
            with pytest.raises((TypeError, ValueError), match=hint):
                call(ONE_HOT.astype(dtype))
    with pytest.raises((TypeError, ValueError), match=r"argmax\(axis=0\)"):
        boltzmax.cross_entropy(X.T, ONE_HOT.T.astype(dtype), axis=0)


def test_the_advice_works() -> None:
    for call in SOFT:
        floats, classes = call(ONE_HOT.astype(float)), call(ONE_HOT.argmax(axis=1))
        for a, b in zip(np.ravel(floats[0] if isinstance(floats, tuple) else floats),
                        np.ravel(classes[0] if isinstance(classes, tuple) else classes),
                        strict=True):  # fmt: skip
            assert a == pytest.approx(b, rel=1e-14)


def test_floats_where_only_classes_are_allowed() -> None:
    for call in HARD:
        with pytest.raises(TypeError, match=r"integers of shape \(2,\), got.*take target\.argmax"):
            call(ONE_HOT.astype(float))


def test_other_shapes_get_no_advice() -> None:
    for call in [*SOFT, *HARD]:
        for target in (np.zeros((3, 2), int), np.zeros(3, int), np.zeros((2, 3), complex)):
            with pytest.raises((TypeError, ValueError)) as error:
                call(target)
            assert "one-hot" not in str(error.value)


# ---- numbers ----


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("z_loss", v) for v in (np.inf, np.nan, -1.0)),
        *(("label_smoothing", v) for v in (np.inf, np.nan, -0.1, 1.1)),
        *(("temperature", v) for v in (np.inf, np.nan, 0.0, -1.0)),
        *(("softcap", v) for v in (np.inf, np.nan, 0.0, -1.0)),
    ],
)
def test_bad_numbers_raise_the_same_error(name: str, bad: float) -> None:
    """For losses of logits and of layers, on the general path and the compiled one."""
    for target in (np.array([0, 1]), [0, 1], np.full((2, 3), 1 / 3)):
        for call in (
            lambda t, **o: boltzmax.cross_entropy(X, t, **o),
            lambda t, **o: boltzmax.cross_entropy_with_grad(X, t, **o),
            lambda t, **o: boltzmax.linear_cross_entropy(X, LAYER, t, **o),
            lambda t, **o: boltzmax.linear_cross_entropy_with_grad(X, LAYER, t, **o),
        ):
            with pytest.raises(ValueError, match=f"^{name} must be"):
                call(target, **{name: bad})
            for no_number in ("1", [1.0], 1j):
                with pytest.raises(TypeError, match=f"^{name} must be a real number, got"):
                    call(target, **{name: no_number})


def test_other_numbers() -> None:
    for bad in (np.inf, np.nan, -1.0):
        with pytest.raises(ValueError, match="gamma must be from 0"):
            boltzmax.focal_loss(X, [0, 1], gamma=bad)
        with pytest.raises(ValueError, match="temperature must be > 0"):
            boltzmax.row_stats(X, temperature=bad)


# ---- gradients ----


@pytest.mark.parametrize("function", [boltzmax.softmax_backward, boltzmax.log_softmax_backward])
def test_halves_without_a_common_dtype(function: Callable[..., Any]) -> None:
    dy, y = np.zeros(2, ml_dtypes.bfloat16), np.zeros(2, np.float16)
    for a, b in ((dy, y), (y, dy)):
        with pytest.raises(TypeError, match=r"no common dtype.*convert one") as error:
            function(a, b)
        assert error.type is TypeError

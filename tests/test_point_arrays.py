"""Point losses on arrays of any dtype, layout and overlap, with threads; and divergences by their
definition."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import ulp
from boltzmax import (
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_with_grad,
    kl_divergence,
    kl_divergence_with_grad,
    nll_loss,
    nll_loss_with_grad,
)
from layouts import LAYOUTS
from loss_samples import classes, log_probs, normal, positive
from point_oracle import close_sum, divergences, loss_dtype, ulps, wide

Array = npt.NDArray[Any]
Loss = Callable[..., Any]
INF, NAN = np.inf, np.nan
LOSSES: tuple[tuple[Loss, Loss], ...] = (
    (nll_loss, nll_loss_with_grad),
    (kl_divergence, kl_divergence_with_grad),
    (binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_with_grad),
)


def arguments(loss: Loss, *shape: int, dtype: Any = np.float64) -> list[Array]:
    """Scores and targets."""
    x = log_probs(*shape).astype(dtype)
    if loss is nll_loss:
        return [x, classes(shape[-1], *shape[:-1])]
    return [x, np.random.default_rng(7).uniform(0, 1, shape).astype(dtype)]


def weights(loss: Loss, shape: tuple[int, ...]) -> dict[str, Array]:
    """All weights that a loss takes."""
    if loss is nll_loss:
        return {"weight": positive(shape[-1]), "sample_weight": positive(*shape[:-1], seed=4)}
    if loss is kl_divergence:
        return {}
    return {"weight": positive(*shape), "pos_weight": positive(shape[-1])}


# ---- divergences


@pytest.mark.parametrize("log_target", [False, True])
def test_divergences(isa: str, dtype: np.dtype[Any], log_target: bool) -> None:
    rng = np.random.default_rng(3)
    log_q = rng.uniform(-50, 0, 5003).astype(dtype)
    log_p = np.concatenate([log_q[:2500].astype(float), rng.uniform(-50, 3, 2503)])
    p = (log_p if log_target else np.exp(log_p)).astype(dtype)
    exact = divergences(log_q, p, log_target)
    result = loss_dtype(dtype)
    # A float64 difference is as accurate as the logarithms.
    share = np.exp(wide(p)) if log_target else wide(p)
    unit = 3 * 2.0**-52 * share * (np.abs(wide(log_q)) + 50)
    losses = kl_divergence(log_q, p, log_target=log_target, reduction="none")
    assert losses.dtype == result
    narrow = (4 if log_target else 0.51) * ulp.ulp(exact, result) if result == np.float32 else 0
    assert np.all(np.abs(wide(losses) - exact) <= unit + narrow)

    _, gradient = kl_divergence_with_grad(log_q, p, log_target=log_target, reduction="sum")
    assert gradient.dtype == dtype
    assert ulps(gradient, -share, dtype) <= 1.5


@pytest.mark.parametrize("n", [1, 2, 9, 17, 100, 2048, 2049, 70_001])
def test_sums_of_divergences(isa: str, dtype: np.dtype[Any], n: int) -> None:
    log_q, p = np.full(n, -20).astype(dtype), positive(n).astype(dtype)
    close_sum(kl_divergence(log_q, p, reduction="sum"), divergences(log_q, p, False))
    close_sum(kl_divergence(log_q, p, reduction="mean"), divergences(log_q, p, False), n)


def test_probabilities_of_every_size(isa: str) -> None:
    """Subnormal probabilities, and numbers that are not probabilities."""
    p = np.array([5e-324, 1e-310, 2.3e-308, 1e300, INF, 0, -0.0, -1, NAN] * 3)
    x = np.full(p.size, -1.5)
    ours = kl_divergence(x, p, reduction="none")
    np.testing.assert_allclose(
        ours, divergences(x, p, False).astype(float), rtol=1e-15, atol=5e-324
    )
    log_p = np.array([-INF, -800.0, -740.0, 599.9, 600.1, 709.7, 710.0, 5e3, INF, NAN] * 3)
    x = np.full(log_p.size, 0.5)
    ours = kl_divergence(x, log_p, log_target=True, reduction="none")
    with np.errstate(all="ignore"):
        expected = np.exp(log_p) * (log_p - 0.5)
    expected[log_p == -INF] = 0
    np.testing.assert_allclose(ours, expected, rtol=1e-14, atol=5e-322)
    single = kl_divergence(x.astype("f4"), log_p.astype("f4"), log_target=True, reduction="none")
    narrow = divergences(x.astype("f4"), log_p.astype("f4"), True)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(single, narrow.astype("f4"), rtol=1e-6)


# ---- arrays


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(losses: tuple[Loss, Loss], layout: str, dtype: np.dtype[Any]) -> None:
    lay = LAYOUTS[layout]
    for shape in ((3, 7), (2, 5, 1500)):
        x, target = arguments(losses[0], *shape, dtype=dtype)
        options = weights(losses[0], shape)
        expected = losses[1](x, target, **options)
        each = losses[0](x, target, reduction="none", **options)
        laid = {name: lay(w) for name, w in options.items()}
        loss, gradient = losses[1](lay(x), lay(target), **laid)
        assert loss == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])
        again = losses[0](lay(x), lay(target), reduction="none", **laid)
        np.testing.assert_array_equal(again, each)
        out = lay(np.full(shape, 7, dtype))
        if not out.flags.writeable:
            out.flags.writeable = True
        assert losses[1](x, target, out=out, **options)[1] is out
        np.testing.assert_array_equal(out, expected[1])


@pytest.mark.parametrize("losses", LOSSES)
def test_in_place(losses: tuple[Loss, Loss], dtype: np.dtype[Any]) -> None:
    for shape in ((4, 10), (3, 5000)):
        x, target = arguments(losses[0], *shape, dtype=dtype)
        loss, gradient = losses[1](x, target)
        assert losses[1](x, target, out=x)[0] == loss
        np.testing.assert_array_equal(x, gradient)


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("shift", [0, 1, 8, 40])
def test_out_that_overlaps(losses: tuple[Loss, Loss], shift: int) -> None:
    """Everything is read before it is overwritten."""
    shape, n = (50, 100), 5000
    x, target = arguments(losses[0], *shape)
    options = weights(losses[0], shape)
    expected = losses[1](x, target, **options)
    if losses[0] is nll_loss:
        target = target.astype(np.int64)
    for name in ("x", "target", *options):
        given = {"x": x, "target": target, **options}
        value = given[name]
        memory = np.zeros(8 * (2 * n + 100), np.uint8)
        read = memory[8 * shift :][: value.nbytes].view(value.dtype).reshape(value.shape)
        read[...] = value
        given[name] = read
        out = memory[: 8 * n].view(np.float64).reshape(shape)
        loss, gradient = losses[1](given.pop("x"), given.pop("target"), **given, out=out)
        assert loss == expected[0]
        assert gradient is out
        np.testing.assert_array_equal(out, expected[1])


def test_out_that_repeats_elements() -> None:
    out = np.lib.stride_tricks.as_strided(np.zeros(3), (4, 3), (0, 8))
    binary_cross_entropy_with_logits_with_grad(np.zeros((4, 3)), np.ones((4, 3)), out=out)
    np.testing.assert_array_equal(out, np.full((4, 3), -0.5 / 12))


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("shape", [(40, 9000), (90_000, 5)])
def test_threads_do_not_matter(
    isa: str, losses: tuple[Loss, Loss], shape: tuple[int, int], threads: Callable[[int], None]
) -> None:
    x, target = arguments(losses[0], *shape, dtype=np.float32)
    options = weights(losses[0], shape)
    threads(1)
    expected = losses[1](x, target, **options)
    for n in (2, 3):
        threads(n)
        loss, gradient = losses[1](x, target, **options)
        assert loss == expected[0] == losses[0](x, target, **options)
        np.testing.assert_array_equal(gradient, expected[1])


# ---- warnings and errors


@pytest.mark.parametrize("losses", LOSSES)
def test_nothing_warns(losses: tuple[Loss, Loss], dtype: np.dtype[Any]) -> None:
    loss, with_grad = losses
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        x, target = arguments(loss, 6, 9, dtype=dtype)
        x[0], x[1], x[2] = INF, -INF, NAN
        for t in (target, target.tolist(), target.astype(np.longdouble)):
            if loss is nll_loss and not isinstance(t, list):
                t = target
            with_grad(x, t)
            with_grad(x.tolist(), t)
            loss(x, t, reduction="none")
        loss(x[:0], target[:0])
        large = np.full((3, 4), np.longdouble(1e300) ** 4)
        if loss is nll_loss:
            with_grad(x, target, weight=large[0, 0] * np.ones(9), sample_weight=large[0, 0])
            loss(x, target, sample_weight=0)
        else:
            with_grad(normal(3, 4).astype(dtype), large)


@pytest.mark.parametrize("losses", LOSSES)
def test_errors_write_nothing(losses: tuple[Loss, Loss]) -> None:
    x, target = arguments(losses[0], 6, 9)
    out = x.copy()
    bad = target + 5 if losses[0] is nll_loss else np.zeros((5, 9))
    with pytest.raises(IndexError if losses[0] is nll_loss else ValueError):
        losses[1](out, bad, out=out)
    np.testing.assert_array_equal(out, x)


def test_the_first_target_out_of_range(threads: Callable[[int], None]) -> None:
    threads(2)
    x, target = np.zeros((300_000, 2), np.float32), np.zeros(300_000, np.int32)
    target[[123_456, 250_000]] = 7, 9
    with pytest.raises(IndexError, match="target 7 at position 123456 is out of range for 2"):
        nll_loss(x, target)
    huge = np.array([2**63 + 5, 0], np.uint64)
    assert nll_loss(np.eye(2), huge, ignore_index=2**63 + 5, reduction="sum") == 0
    with pytest.raises(IndexError, match=f"target {2**63 + 5} at position 0"):
        nll_loss(np.eye(2), huge, ignore_index=2**63 - 1)

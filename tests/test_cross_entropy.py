"""Cross-entropy and focal loss, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import boltzmax
import ulp
from loss_samples import cross_entropy as reference
from loss_samples import differences

Array = npt.NDArray[Any]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"label_smoothing": 0.1},
    {"weight": True},
    {"weight": True, "label_smoothing": 0.3},
    {"sample_weight": True},
    {"z_loss": 0.01},
    {"softcap": 3.0},
    {"temperature": 0.5},
    {"weight": True, "label_smoothing": 0.2, "z_loss": 0.1, "softcap": 5.0, "temperature": 2.0},
    {"weight": True, "sample_weight": True, "label_smoothing": 0.2, "reduction": "sum"},
]


def problem(
    shape: tuple[int, ...], options: dict[str, Any], seed: int = 0, dtype: Any = np.float64
) -> tuple[Array, Array, dict[str, Any]]:
    """Return logits, targets (some of them ignored), and the options with arrays filled in."""
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal(shape)).astype(dtype)
    target = rng.integers(shape[-1], size=shape[:-1])
    target = np.where(rng.random(shape[:-1]) < 0.2, -100, target)
    target.flat[0] = 0
    options = dict(options)
    if options.get("weight"):
        options["weight"] = rng.uniform(0.1, 2, shape[-1])
    if options.get("sample_weight"):
        options["sample_weight"] = rng.uniform(0.1, 2, shape[:-1])
    return logits, target, options


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 11), (4,), (3, 1)])
def test_loss_and_gradient(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    """They match the definition, computed by sums and by central differences."""
    logits, target, options = problem(shape, options, seed=1)
    if target.ndim == 0:
        target = np.asarray(1)
    expected = reference(logits, target, options)
    assert float(boltzmax.cross_entropy(logits, target, **options)) == pytest.approx(
        expected, rel=1e-12
    )
    loss, gradient = boltzmax.cross_entropy_with_grad(logits, target, **options)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    slopes = differences(lambda x: reference(x, target, options), logits)
    np.testing.assert_allclose(gradient, slopes, atol=1e-8)


@pytest.mark.parametrize("options", OPTIONS)
def test_probabilities_as_targets(options: dict[str, Any]) -> None:
    """A target may be a distribution."""
    logits, _, options = problem((6, 9), options)
    target = np.random.default_rng(3).dirichlet(np.ones(9), 6)
    expected = reference(logits, target, options)
    loss, gradient = boltzmax.cross_entropy_with_grad(logits, target, **options)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    slopes = differences(lambda x: reference(x, target, options), logits)
    np.testing.assert_allclose(gradient, slopes, atol=1e-8)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(5, 3), (9, 130), (3, 1000), (2, 70_000)])
def test_other_dtypes(isa: str, name: str, shape: tuple[int, int]) -> None:
    """Within the precision of each dtype, on every instruction set, and on long rows."""
    dtype = ulp.dtype_of(name)
    logits, target, _ = problem(shape, {}, dtype=dtype)
    loss, gradient = boltzmax.cross_entropy_with_grad(logits, target)
    wide = logits.astype(np.float64)
    assert float(loss) == pytest.approx(reference(wide, target, {}), rel=1e-6)
    exact = boltzmax.cross_entropy_with_grad(wide, target)[1]
    assert gradient.dtype == dtype
    eps = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}[name]
    np.testing.assert_allclose(gradient.astype(np.float64), exact, rtol=eps, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "options", [{}, {"weight": True}, {"weight": True, "label_smoothing": 0.2}]
)
def test_matches_pytorch(reduction: str, options: dict[str, Any]) -> None:
    """Values and gradients match PyTorch's."""
    torch = pytest.importorskip("torch")
    logits, target, options = problem((12, 7), options)
    x = torch.tensor(logits, requires_grad=True)
    theirs = dict(options)
    if "weight" in options:
        theirs["weight"] = torch.tensor(options["weight"])
    expected = torch.nn.functional.cross_entropy(
        x, torch.tensor(target), reduction=reduction, **theirs
    )
    ours = boltzmax.cross_entropy(logits, target, reduction=reduction, **options)
    np.testing.assert_allclose(ours, expected.detach().numpy(), rtol=1e-12)
    if reduction != "none":
        expected.backward()
        _, d = boltzmax.cross_entropy_with_grad(logits, target, reduction=reduction, **options)
        np.testing.assert_allclose(d, x.grad.numpy(), rtol=1e-9, atol=1e-15)


def test_no_counted_rows() -> None:
    """If all rows are ignored, or there are none, the mean is NaN and the sum 0."""
    logits, ignored = np.zeros((3, 4)), np.full(3, -100)
    assert np.isnan(boltzmax.cross_entropy(logits, ignored))
    assert boltzmax.cross_entropy(logits, ignored, reduction="sum") == 0
    loss, gradient = boltzmax.cross_entropy_with_grad(logits, ignored, reduction="sum")
    assert loss == 0
    assert not gradient.any()
    assert np.isnan(boltzmax.cross_entropy(np.zeros((0, 4)), np.zeros(0, int)))
    nan = np.full((1, 4), np.nan)
    _, gradient = boltzmax.cross_entropy_with_grad(nan, [-100], reduction="sum")
    assert not gradient.any()


@pytest.mark.parametrize(
    "name", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)
def test_integer_targets(name: str) -> None:
    """Any integer dtype works."""
    logits = np.random.default_rng(0).standard_normal((5, 6))
    target = np.array([0, 5, 2, 3, 1])
    expected = boltzmax.cross_entropy(logits, target)
    assert boltzmax.cross_entropy(logits, target.astype(name)) == expected


def test_out() -> None:
    """`out` receives the gradient, even over the logits and with strides."""
    for options in OPTIONS:
        logits, target, options = problem((8, 50), options)
        loss, expected = boltzmax.cross_entropy_with_grad(logits, target, **options)
        out = np.empty_like(logits)
        assert boltzmax.cross_entropy_with_grad(logits, target, out=out, **options)[1] is out
        np.testing.assert_array_equal(out, expected)
        strided = np.empty((8, 100))[:, ::2]
        boltzmax.cross_entropy_with_grad(logits[::-1][::-1], target, out=strided, **options)
        np.testing.assert_array_equal(strided, expected)
        again, _ = boltzmax.cross_entropy_with_grad(logits, target, out=logits, **options)
        assert again == loss
        np.testing.assert_array_equal(logits, expected)


def test_errors() -> None:
    """Messages name the bad value, and nothing is written."""
    logits, out = np.zeros((2, 3)), np.full((2, 3), 7.0)
    with pytest.raises(IndexError, match=r"target 3 at position 1 .* 3 classes"):
        boltzmax.cross_entropy_with_grad(logits, [0, 3], out=out)
    assert (out == 7).all()
    for bad in (
        {"reduction": "average"},
        {"label_smoothing": 1.5},
        {"z_loss": -1.0},
        {"softcap": 0.0},
        {"temperature": 0.0},
        {"weight": [1.0]},
        {"sample_weight": np.ones(5)},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            boltzmax.cross_entropy(logits, [0, 1], **bad)
    with pytest.raises(ValueError, match="scalar"):
        boltzmax.cross_entropy_with_grad(logits, [0, 1], reduction="none")
    with pytest.raises(TypeError):
        boltzmax.cross_entropy(logits, [0.5, 0.5])
    with pytest.raises(ValueError, match="classes"):
        boltzmax.cross_entropy(np.zeros((2, 0)), [0, 0])


def test_confident_rows_keep_their_digits() -> None:
    """Where p is nearly 1, its logarithm and the gradient keep their digits."""
    loss, gradient = boltzmax.cross_entropy_with_grad([[0.0, -40.0]], [0])
    assert float(loss) == pytest.approx(np.exp(-40.0), rel=1e-12)
    np.testing.assert_allclose(gradient, [[-np.exp(-40.0), np.exp(-40.0)]], rtol=1e-12)


def test_threads_do_not_matter() -> None:
    """Bits do not depend on the number of threads."""
    logits, target, _ = problem((64, 20_000), {}, dtype=np.float32)
    before = boltzmax.get_num_threads()
    results = []
    for n in (1, 2, 3):
        boltzmax.set_num_threads(n)
        results.append(boltzmax.cross_entropy_with_grad(logits, target)[1])
    boltzmax.set_num_threads(before)
    assert all(np.array_equal(results[0], r) for r in results)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_rows_of_the_gradient_sum_to_zero(rows: int, classes: int, seed: int) -> None:
    """Adding a number to all logits of a row changes nothing."""
    logits, target, _ = problem((rows, classes), {}, seed)
    _, gradient = boltzmax.cross_entropy_with_grad(logits, target, reduction="sum")
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal(gamma: float) -> None:
    """The loss matches its definition, the gradient central differences."""
    logits, target, _ = problem((9, 6), {})
    alpha = np.linspace(0.5, 1.5, 6)
    counted = target != -100

    def definition(x: Array) -> float:
        log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
        t = np.where(counted, target, 0)
        log_pt = log_p[np.arange(len(x)), t]
        each = -alpha[t] * (1 - np.exp(log_pt)) ** gamma * log_pt
        return float(each[counted].mean())

    loss, gradient = boltzmax.focal_loss_with_grad(logits, target, gamma=gamma, alpha=alpha)
    assert float(loss) == pytest.approx(definition(logits), rel=1e-12)
    assert loss == boltzmax.focal_loss(logits, target, gamma=gamma, alpha=alpha)
    np.testing.assert_allclose(gradient, differences(definition, logits), atol=1e-8)


@pytest.mark.parametrize("bits", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FC00000])
def test_nan_weights_of_any_kind(isa: str, dtype: np.dtype[Any], bits: int) -> None:
    """A NaN whose mantissa is all ones stays NaN in a 16-bit gradient."""
    x = np.linspace(-3, 3, 120).reshape(3, 40).astype(dtype)
    weight = np.ones(3, np.float32)
    weight[1] = np.uint32(bits).view(np.float32)
    loss, gradient = boltzmax.cross_entropy_with_grad(
        x, np.array([1, 2, 3]), sample_weight=weight, reduction="sum"
    )
    assert np.isnan(float(loss))
    assert np.isnan(gradient.astype(float)).all(axis=1).tolist() == [False, True, False]
    assert np.isfinite(gradient[[0, 2]].astype(float)).all()

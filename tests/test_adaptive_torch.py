"""The adaptive softmax compared with ``torch.nn.AdaptiveLogSoftmaxWithLoss``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from boltzmax import AdaptiveSoftmax
from layer_samples import COUNTS, D, V, both, filled, rows, tolerance

torch: Any = pytest.importorskip("torch")


def module_of(dtype: str, **options: Any) -> Any:
    torch.manual_seed(0)
    options = {"cutoffs": [5, 12], "div_value": 1.5} | options
    return torch.nn.AdaptiveLogSoftmaxWithLoss(D, V, dtype=getattr(torch, dtype), **options)


@both
@pytest.mark.parametrize("head_bias", [False, True])
@pytest.mark.parametrize("div_value", [1.0, 1.5, 2.0])
def test_weights_of_torch(dtype: str, head_bias: bool, div_value: float) -> None:
    """The same numbers: log-probabilities, losses, predictions, and gradients."""
    module = module_of(dtype, head_bias=head_bias, div_value=div_value)
    layer = AdaptiveSoftmax.from_torch(module.state_dict())
    assert (layer.cutoffs, layer.dtype, layer.order) == ((5, 12), dtype, None)
    hidden, target = rows(30, dtype)
    x = torch.tensor(hidden, requires_grad=True)
    near = tolerance(dtype)
    np.testing.assert_allclose(layer.log_prob_all(hidden), module.log_prob(x).detach(), **near)
    output, loss = module(x, torch.tensor(target))
    np.testing.assert_allclose(layer.log_prob(hidden, target), output.detach(), **near)
    np.testing.assert_array_equal(layer.predict(hidden), module.predict(x))
    loss.backward()
    found = layer.loss_with_grad(hidden, target)
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    pairs = [(found.d_hidden, x), (found.d_weight, module.head.weight)]
    pairs += [(found.d_bias, module.head.bias)] if head_bias else []
    for mine, theirs in zip(found.tails, module.tail, strict=True):
        assert mine is not None
        pairs += [(mine.d_projection, theirs[0].weight), (mine.d_weight, theirs[1].weight)]
    for analytic, parameter in pairs:
        np.testing.assert_allclose(analytic, parameter.grad, **near)


@both
def test_there_and_back(dtype: str) -> None:
    """Bit for bit, in copies, with the permutation; vectors of tails may have any length."""
    layer = filled(AdaptiveSoftmax(D, V, [5, 12], counts=COUNTS, dtype=dtype, seed=0))
    module, order = layer.to_torch()
    hidden, target = rows(9, dtype)
    place = np.argsort(order)
    output = module(torch.tensor(hidden), torch.tensor(place[target])).output
    np.testing.assert_allclose(output.detach(), layer.log_prob(hidden, target), **tolerance(dtype))
    back = AdaptiveSoftmax.from_torch(module, order=torch.tensor(order))
    np.testing.assert_array_equal(back.log_prob_all(hidden), layer.log_prob_all(hidden))
    with torch.no_grad():
        module.head.weight.zero_()
        module.tail[0][1].weight.zero_()
    assert back.weight.any()
    assert layer.weight.any()
    assert layer.tails[0].weight.any()


def test_a_step_is_that_of_torch() -> None:
    module = module_of("float64", head_bias=True)
    layer = AdaptiveSoftmax.from_torch(module)
    hidden, target = rows(20, "float64")
    for _ in range(3):
        module.zero_grad()
        module(torch.tensor(hidden), torch.tensor(target)).loss.backward()
        with torch.no_grad():  # torch.optim.SGD takes seconds to import
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad
        layer.sgd_step(hidden, target, 0.1 / 20)
    for mine, theirs in zip(
        (layer.weight, layer.tails[1].projection, layer.tails[1].weight),
        (module.head.weight, module.tail[1][0].weight, module.tail[1][1].weight),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs.detach(), rtol=1e-12)


def test_arrays_on_a_device() -> None:
    """They are copied to the host first, and may be parameters."""

    class OnDevice:
        def __init__(self, tensor: Any) -> None:
            self.detach = lambda: self
            self.cpu = tensor.detach

    module = module_of("float32")
    state = {name: OnDevice(tensor) for name, tensor in module.state_dict(keep_vars=True).items()}
    found = AdaptiveSoftmax.from_torch(state_dict=state)
    np.testing.assert_array_equal(found.weight, module.head.weight.detach())


def test_refusals() -> None:
    state = module_of("float32").state_dict()
    for change, message in (
        ({"tail.0.1.weight": None}, "state_dict has no 'tail.0.1.weight'"),
        ({"head.weight": None}, "state_dict has no 'head.weight'"),
        ({"tail.0.1.weight": torch.ones(3)}, "must be a matrix, got shape"),
        ({"tail.0.1.weight": torch.ones(7, 9)}, "tail0_weight does not fit the clusters"),
        ({"head.weight": torch.ones(2, D)}, "bounds do not increase from 1"),
        ({"spare": torch.ones(3)}, "'spare', which an adaptive softmax does not have"),
    ):
        changed = {k: v for k, v in (state | change).items() if v is not None}
        with pytest.raises(ValueError, match=message):
            AdaptiveSoftmax.from_torch(changed)
    for dtype, message in (("float16", "float32 or float64, got float16"), ("bfloat16", "float()")):
        with pytest.raises(TypeError, match=message):
            AdaptiveSoftmax.from_torch(module_of(dtype))
    with pytest.raises(TypeError, match="state_dict must be one, or a module, got int"):
        AdaptiveSoftmax.from_torch(3)
    mixed = state | {"tail.0.1.weight": state["tail.0.1.weight"].double()}
    with pytest.raises(ValueError, match=r"it is float64 of shape \(7, 4\), not float32"):
        AdaptiveSoftmax.from_torch(mixed)
    with pytest.raises(ValueError, match="order does not have each of 23 classes once"):
        AdaptiveSoftmax.from_torch(state, order=[1, 2])
    with pytest.raises(TypeError, match="order is a masked array"):
        AdaptiveSoftmax.from_torch(state, order=np.ma.arange(V))
    with pytest.raises(ValueError, match="tails have no biases"):
        AdaptiveSoftmax(D, V, [5], bias=True).to_torch()
    with pytest.raises(ValueError, match="at least one tail"):
        AdaptiveSoftmax(D, V, ()).to_torch()

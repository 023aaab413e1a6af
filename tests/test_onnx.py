"""cross_entropy against ONNX SoftmaxCrossEntropyLoss, as its reference implementation has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import boltzmax

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")


def onnx_loss(
    scores: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    weights: np.ndarray[Any, Any] | None,
    **attributes: Any,
) -> Any:
    """Run the operator alone."""
    helper, types = onnx.helper, onnx.TensorProto
    names = ["scores", "labels"] + ([] if weights is None else ["weights"])
    node = helper.make_node("SoftmaxCrossEntropyLoss", names, ["loss"], **attributes)
    kinds = {"scores": types.FLOAT, "labels": types.INT64, "weights": types.FLOAT}
    inputs = [helper.make_tensor_value_info(name, kinds[name], None) for name in names]
    output = helper.make_tensor_value_info("loss", types.FLOAT, None)
    graph = helper.make_graph([node], "loss", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    feeds = {"scores": scores, "labels": labels} | ({} if weights is None else {"weights": weights})
    return reference.ReferenceEvaluator(model).run(None, feeds)[0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [None, 2, -1])
def test_cross_entropy(reduction: str, weighted: bool, ignore_index: int | None) -> None:
    rng = np.random.default_rng(0)
    scores = (3 * rng.standard_normal((40, 7))).astype(np.float32)
    labels = rng.integers(7, size=40)
    if ignore_index is not None:
        labels[::5] = ignore_index
    weights = rng.random(7).astype(np.float32) if weighted else None
    ignored = {} if ignore_index is None else {"ignore_index": ignore_index}
    expected = onnx_loss(scores, labels, weights, reduction=reduction, **ignored)
    got = boltzmax.cross_entropy(scores, labels, weight=weights, reduction=reduction, **ignored)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)

"""The weights of an adaptive softmax as those of ``torch.nn.AdaptiveLogSoftmaxWithLoss``."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from boltzmax._lib.numbers import real_array
from boltzmax._lib.output_layer import Array, Classes
from boltzmax.adaptive.clusters import Clusters, Tail


class TorchAdaptive(NamedTuple):
    """A PyTorch module, and the classes that its classes are in the layer."""

    module: Any
    order: Classes | None


def read_torch_state(state_dict: Any) -> dict[str, Array]:
    """Return the arrays of a layer's file for a module or its ``state_dict()``."""
    given = state_dict.state_dict() if hasattr(state_dict, "state_dict") else state_dict
    try:
        names = {str(name): value for name, value in dict(given).items()}
    except (TypeError, ValueError):
        raise TypeError(
            f"state_dict must be one, or a module, got {type(state_dict).__name__}"
        ) from None
    weight = _matrix(names, "head.weight")
    arrays = {"weight": weight}
    if "head.bias" in names:
        arrays["bias"] = _numbers(names, "head.bias")
    n_tails = 0
    while f"tail.{n_tails}.0.weight" in names:
        n_tails += 1
    known = {"head.weight", "head.bias"}
    known |= {f"tail.{i}.{j}.weight" for i in range(n_tails) for j in (0, 1)}
    if unknown := sorted(names.keys() - known):
        raise ValueError(f"state_dict has {unknown[0]!r}, which an adaptive softmax does not have")
    shortlist = len(weight) - n_tails
    bounds = [shortlist]
    for i in range(n_tails):
        arrays[f"tail{i}_projection"] = _matrix(names, f"tail.{i}.0.weight")
        arrays[f"tail{i}_weight"] = _matrix(names, f"tail.{i}.1.weight")
        bounds.append(bounds[-1] + len(arrays[f"tail{i}_weight"]))
    arrays["bounds"] = np.array(bounds, np.int64)
    return arrays


def _numbers(names: dict[str, Any], name: str) -> Array:
    if name not in names:
        raise ValueError(f"state_dict has no {name!r}")
    value = names[name]
    on_cpu = value.detach().cpu() if hasattr(value, "detach") else value
    array = real_array(on_cpu, f"state_dict[{name!r}]")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"state_dict[{name!r}] must be float32 or float64, got {array.dtype}")
    return array


def _matrix(names: dict[str, Any], name: str) -> Array:
    array = _numbers(names, name)
    if array.ndim != 2:
        raise ValueError(f"state_dict[{name!r}] must be a matrix, got shape {array.shape}")
    return array


def torch_module(
    weight: Array, bias: Array | None, clusters: Clusters, tails: tuple[Tail, ...]
) -> Any:
    """Return a module with copies of the weights."""
    if any(tail.bias is not None for tail in tails):
        raise ValueError("PyTorch's tails have no biases, but those of this layer do")
    if not tails:
        raise ValueError("PyTorch's module needs at least one tail, and this layer has none")
    torch = importlib.import_module("torch")
    module = torch.nn.AdaptiveLogSoftmaxWithLoss(
        weight.shape[1],
        clusters.n_classes,
        list(clusters.cutoffs),
        div_value=1.0,
        device="meta",  # without memory: its layers are replaced
    )

    def linear(values: Array, biases: Array | None = None) -> Any:
        layer = torch.nn.Linear(*values.shape[::-1], bias=False, device="meta")
        layer.weight = torch.nn.Parameter(torch.from_numpy(values.copy()))
        if biases is not None:
            layer.bias = torch.nn.Parameter(torch.from_numpy(biases.copy()))
        return layer

    module.head = linear(weight, bias)
    module.head_bias = bias is not None
    module.tail = torch.nn.ModuleList(
        torch.nn.Sequential(linear(tail.projection), linear(tail.weight)) for tail in tails
    )
    return module

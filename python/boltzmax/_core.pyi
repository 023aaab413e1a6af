from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

compiler: str
version: str

_Axis = int | Sequence[int] | None

def softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def log_softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
@overload
def logsumexp(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any: ...
@overload
def logsumexp(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any: ...
def softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: _Axis = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]: ...
def log_softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: _Axis = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]: ...
def run(
    op: int,
    x: NDArray[Any],
    out: NDArray[Any],
    reduced: int,
    mask: NDArray[np.bool_] | None,
    temperature: NDArray[np.float64] | None,
) -> None: ...
def run_backward(
    op: int, dy: NDArray[Any], y: NDArray[Any], dx: NDArray[Any], reduced: int
) -> None: ...
def empty_like(like: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]: ...
def register_bfloat16(dtype: np.dtype[Any]) -> None: ...
def set_doc(name: str, doc: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def select_isa(name: str) -> None: ...
def cpu() -> str: ...
def cross_entropy(
    logits: NDArray[Any],
    target: NDArray[np.int64],
    temperature: float,
    lse: NDArray[np.float64],
    log_prob: NDArray[np.float64],
    distances: NDArray[np.float64] | None,
    gradient: NDArray[Any] | None,
    gain: NDArray[np.float64] | None,
    lse_gain: NDArray[np.float64] | None,
    add: NDArray[np.float64] | None,
    target_gain: NDArray[np.float64] | None,
) -> None: ...
def row_stats(
    logits: NDArray[Any],
    target: NDArray[np.int64] | None,
    temperature: float,
    k: int,
    lse: NDArray[np.float64],
    entropy: NDArray[np.float64] | None,
    top_id: NDArray[np.int64] | None,
    top_log_prob: NDArray[np.float64] | None,
    target_log_prob: NDArray[np.float64] | None,
    target_rank: NDArray[np.int64] | None,
) -> None: ...

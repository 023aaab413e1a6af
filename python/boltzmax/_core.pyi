from collections.abc import Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

compiler: str
version: str
_C_API: object
# The name, the name of its gradient, whether it reduces, and whether its results are logarithms.
operations: tuple[tuple[str, str | None, bool, bool], ...]

_Axis = int | Sequence[int] | None

def softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    empty: str = "nan",
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def log_softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    empty: str = "nan",
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
    function: str,
    x: NDArray[Any],
    out: NDArray[Any],
    reduced: int,
    mask: NDArray[np.bool_] | None,
    temperature: NDArray[np.float64] | None,
) -> None: ...
def run_backward(
    function: str, dy: NDArray[Any], y: NDArray[Any], dx: NDArray[Any], reduced: int
) -> None: ...
def run_function(
    function: str,
    x: NDArray[Any],
    other: NDArray[Any] | None,
    out: NDArray[Any],
    reduced: int,
    mask: NDArray[np.bool_] | None,
    temperature: NDArray[np.float64] | None,
    number: float = 0.0,
    count: int = 0,
    key: int = 0,
    first_row: int = 0,
    flag: bool = False,
) -> None: ...
def run_mixture(x: NDArray[Any], log_weights: NDArray[np.float64], out: NDArray[Any]) -> None: ...
def run_scan_gradient(
    scan: str,
    dy: NDArray[np.float64],
    x: NDArray[np.float64],
    out: NDArray[np.float64],
    half: int = 0,
) -> None: ...
def run_segments(
    function: str,
    x: NDArray[Any],
    other: NDArray[Any] | None,
    out: NDArray[Any],
    indptr: NDArray[np.int64],
) -> None: ...
def sort_by_segment(
    ids: NDArray[np.int64], order: NDArray[np.int64], indptr: NDArray[np.int64]
) -> int: ...
def label_scores(
    x: NDArray[Any],
    rule: tuple[int, float, float],
    label: NDArray[np.int64],
    u: NDArray[np.float64],
    score: NDArray[np.float64],
) -> None: ...
def prediction_sets(
    x: NDArray[Any],
    rule: tuple[int, float, float],
    threshold: float,
    thresholds: NDArray[np.float64] | None,
    u: NDArray[np.float64],
    size: NDArray[np.int64],
    classes: NDArray[np.int32],
    probabilities: NDArray[Any],
) -> int: ...
def draw(
    x: NDArray[Any],
    temperature: NDArray[np.float64] | None,
    key: int,
    first_row: int,
    ids: NDArray[np.int64],
    scores: NDArray[np.float64] | None,
) -> None: ...
def sample(
    x: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    biases: list[Any],
    lines: list[tuple[str, Any, Any, int]],
    key: int,
    counters: NDArray[np.uint64] | None,
    state: NDArray[np.uint8],
    replace: bool,
    ids: NDArray[np.int64],
    log_probs: NDArray[np.float64],
    kept: NDArray[np.int64],
) -> None: ...
def plain_sample(
    logits: object,
    temperature: object,
    top_k: object,
    top_p: object,
    min_p: object,
    rng: object,
    /,
) -> tuple[Any, Any, Any] | None: ...
def filter_logits(
    x: NDArray[Any],
    mask: NDArray[np.bool_] | None,
    biases: list[Any],
    lines: list[tuple[str, Any, Any, int]],
    key: int,
    counters: NDArray[np.uint64] | None,
    state: NDArray[np.uint8],
    y: NDArray[Any],
    probabilities: bool,
) -> None: ...
def run_weighted(
    x: NDArray[Any],
    b: NDArray[Any],
    log_size: NDArray[Any],
    sign: NDArray[Any] | None,
    reduced: int,
    mask: NDArray[np.bool_] | None,
    temperature: NDArray[np.float64] | None,
) -> None: ...
def run_complex_sum(
    x: NDArray[Any],
    b: NDArray[Any] | None,
    log_size: NDArray[np.float64],
    sum: NDArray[np.complex128],
    special: NDArray[np.bool_],
    reduced: int,
    mask: NDArray[np.bool_] | None,
    temperature: NDArray[np.float64] | None,
) -> None: ...
def run_complex_softmax(
    wants_log: bool, x: NDArray[Any], y: NDArray[Any], special: NDArray[np.bool_], reduced: int
) -> None: ...
def exact_sum(
    re: NDArray[np.float64],
    im: NDArray[np.float64],
    w_re: NDArray[np.float64],
    w_im: NDArray[np.float64],
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]: ...
def empty_like(like: NDArray[Any], dtype: np.dtype[Any], reduced: int = 0) -> NDArray[Any]: ...
def register_bfloat16(dtype: np.dtype[Any]) -> None: ...
def set_doc(name: str, doc: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def cpu_quota(root: str) -> int: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def select_isa(name: str) -> None: ...
def cpu() -> str: ...
def add_to_bins(
    p: NDArray[Any],
    happened: NDArray[np.bool_],
    edges: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> int: ...
def temperature_derivatives(
    logits: NDArray[Any],
    target: NDArray[np.int64],
    weight: NDArray[np.float64] | None,
    temperature: float,
) -> tuple[float, float]: ...
def cross_entropy(
    logits: NDArray[Any],
    target: NDArray[np.int64],
    temperature: float,
    lse: NDArray[np.float64],
    log_prob: NDArray[np.float64],
    distance: NDArray[np.float64] | None,
    gradient: NDArray[Any] | None,
    gain: NDArray[np.float64] | None,
    lse_gain: NDArray[np.float64] | None,
    add: NDArray[np.float64] | None,
    target_gain: NDArray[np.float64] | None,
) -> None: ...
def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    reduction: str,
    empty: str,
    with_grad: bool,
    out: NDArray[Any] | None,
) -> Any: ...
def kl_divergence(
    log_q: ArrayLike,
    p: ArrayLike,
    log_target: bool,
    reduction: str,
    empty: str,
    with_grad: bool,
    out: NDArray[Any] | None,
) -> Any: ...
def nll_loss(
    log_prob: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int,
    reduction: str,
    axis: SupportsIndex,
    empty: str,
    with_grad: bool,
    out: NDArray[Any] | None,
) -> Any: ...
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

_Shares = tuple[NDArray[Any] | None, NDArray[Any] | None, float, float]
_Columns = tuple[Any, ...]

def linear_add_tile(
    x: NDArray[Any],
    first: int,
    bias: NDArray[Any] | None,
    temperature: float,
    softcap: float,
    shares: _Shares,
    totals: _Columns,
    top: _Columns,
) -> None: ...
def linear_finish_top(totals: _Columns, top: _Columns) -> None: ...
def linear_losses(
    totals: _Columns,
    hard: NDArray[np.float64] | None,
    shares: bool,
    z_loss: float,
    losses: NDArray[np.float64],
) -> None: ...
def linear_slopes(
    x: NDArray[Any],
    first: int,
    scored: bool,
    bias: NDArray[Any] | None,
    temperature: float,
    softcap: float,
    shares: _Shares,
    totals: _Columns,
    hard: NDArray[np.float64] | None,
    z_loss: float,
    scale: NDArray[np.float64],
    column_sums: NDArray[np.float64] | None,
) -> None: ...
def linear_small_loss(*args: object) -> Any: ...
def linear_small_loss_with_grad(
    *args: object,
) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any] | None] | None: ...
def linear_small_logsumexp(*args: object) -> NDArray[Any] | None: ...
def linear_small_log_prob(*args: object) -> NDArray[Any] | None: ...
def linear_small_topk(*args: object) -> tuple[NDArray[np.int64], NDArray[Any]] | None: ...

_I32 = NDArray[np.int32]
_I64 = NDArray[np.int64]
_F64 = NDArray[np.float64]
_Tree = object  # the handle that make_tree returns first

def make_tree(parents: _I64) -> tuple[_Tree, _I32, _I32, _I64, _I32, _I64, _I32, _I32]: ...
def huffman_parents(counts: _F64, arity: int) -> _I64: ...
def balanced_parents(n: int, arity: int) -> _I64: ...
def touched_units(tree: _Tree, target: _I64) -> _I64: ...
def mean_loss(loss: _F64, weight: _F64) -> float: ...
def try_log_prob(layer: object, hidden: ArrayLike, target: ArrayLike) -> NDArray[Any] | None: ...
def try_topk(
    layer: object, hidden: ArrayLike, k: int, beam: int | None, min_prob: float
) -> tuple[_I64, NDArray[Any], _I64] | None: ...
def try_descend(
    layer: object,
    hidden: ArrayLike,
    target: ArrayLike,
    lr: float,
    sample_weight: ArrayLike | None,
    update: str,
    squares: _F64 | None,
    eps: float,
) -> tuple[float, NDArray[Any]] | None: ...
def layer_log_prob(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    hidden: NDArray[Any],
    target: _I64,
    out: NDArray[Any],
) -> None: ...
def layer_log_prob_of_nodes(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    hidden: NDArray[Any],
    out: NDArray[Any],
) -> None: ...
def layer_loss_gradient(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    hidden: NDArray[Any],
    target: _I64,
    scale: _F64,
    loss: _F64,
    d_hidden: NDArray[Any],
    units: _I64,
    d_weight: NDArray[Any],
    d_bias: NDArray[Any] | None,
) -> None: ...
def layer_descend(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    hidden: NDArray[Any],
    target: _I64,
    scale: _F64,
    rate: float,
    squares: _F64 | None,
    epsilon: float,
    lock_free: bool,
    together: int,
    loss: _F64,
    d_hidden: NDArray[Any],
) -> None: ...
def layer_descend_pairs(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    table: NDArray[Any],
    ids: _I64,
    target: _I64,
    rate: float,
    squares: _F64 | None,
    epsilon: float,
    lock_free: bool,
    together: int,
    loss: _F64,
) -> None: ...
def layer_topk(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    hidden: NDArray[Any],
    k: int,
    beam: int,
    min_log_prob: float,
    ids: _I64,
    log_probs: NDArray[Any],
    visited: _I64,
) -> None: ...
def layer_sample(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    hidden: NDArray[Any],
    seed: NDArray[np.uint64],
    out: _I64,
) -> None: ...
def layer_sure_nodes(
    tree: _Tree,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    hidden: NDArray[Any],
    min_log_prob: float,
    nodes: _I64,
    log_probs: NDArray[Any],
) -> None: ...

# Ordinary calls of public functions, with arguments by position; None for any other call.
def cross_entropy_call(*arguments: Any) -> Any: ...
def cross_entropy_with_grad_call(*arguments: Any) -> Any: ...
def focal_loss_call(*arguments: Any) -> Any: ...
def focal_loss_with_grad_call(*arguments: Any) -> Any: ...
def row_stats_call(*arguments: Any) -> Any: ...

from collections.abc import Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

compiler: str
version: str
_C_API: object
xla_version: tuple[int, int]
# The name, the name of its gradient, whether it reduces, and whether its results are logarithms.
operations: tuple[tuple[str, str | None, bool, bool], ...]

_Array = NDArray[Any]
_I32 = NDArray[np.int32]
_I64 = NDArray[np.int64]
_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]
_Bool = NDArray[np.bool_]
_Axis = int | Sequence[int] | None

def softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    empty: str = "nan",
    dtype: DTypeLike | None = None,
    out: _Array | None = None,
) -> _Array: ...
def log_softmax(
    x: ArrayLike,
    axis: _Axis = -1,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 1.0,
    empty: str = "nan",
    dtype: DTypeLike | None = None,
    out: _Array | None = None,
) -> _Array: ...
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
    out: _Array | None = None,
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
    out: _Array | None = None,
) -> Any: ...
def softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: _Axis = -1, *, out: _Array | None = None
) -> _Array: ...
def log_softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: _Axis = -1, *, out: _Array | None = None
) -> _Array: ...
def run(
    function: str,
    x: _Array,
    out: _Array,
    reduced: int,
    mask: _Bool | None,
    temperature: _F64 | None,
) -> None: ...
def run_backward(function: str, dy: _Array, y: _Array, dx: _Array, reduced: int) -> None: ...
def run_function(
    function: str,
    x: _Array,
    other: _Array | None,
    out: _Array,
    reduced: int,
    mask: _Bool | None,
    temperature: _F64 | None,
    number: float = 0.0,
    count: int = 0,
    key: int = 0,
    first_row: int = 0,
    flag: bool = False,
) -> None: ...
def map_rows(*arguments: Any) -> Any: ...
def gradient_of_rows(*arguments: Any) -> Any: ...
def run_mixture(x: _Array, log_weights: _F64, out: _Array) -> None: ...
def run_scan_gradient(scan: str, dy: _F64, x: _F64, out: _F64, half: int = 0) -> None: ...
def run_segments(
    function: str, x: _Array, other: _Array | None, out: _Array, indptr: _I64
) -> None: ...
def require_ascending(indptr: _I64) -> None: ...
def sort_by_segment(ids: _I64, order: _I64, indptr: _I64) -> int: ...
def exact_totals_add(x: _Array, first: int, temperature: float, totals: _I64) -> None: ...
def exact_totals_merge(totals: _I64, other: _I64, temperature: float) -> None: ...
def exact_totals_finish(totals: _I64, temperature: float, log_sum: _F64, sum: _F64) -> None: ...
def exact_totals_map(
    x: _Array,
    temperature: float,
    max: _F64,
    log_sum: _F64,
    sum: _F64,
    wants_log: bool,
    y: _Array,
) -> None: ...
def signed_sums_add(x: _F64, sums: _I64) -> None: ...
def signed_sums_merge(sums: _I64, other: _I64) -> None: ...
def signed_sums_round(sums: _I64, high: _F64, low: _F64) -> None: ...
def label_scores(
    x: _Array, rule: tuple[int, float, float], label: _I64, u: _F64, score: _F64
) -> None: ...
def prediction_sets(
    x: _Array,
    rule: tuple[int, float, float],
    threshold: float,
    thresholds: _F64 | None,
    u: _F64,
    size: _I64,
    classes: _I32,
    probabilities: _Array,
) -> int: ...
def build_alias(weights: _F64, log_p: _F64 | None, slots: NDArray[Any]) -> None: ...
def draw_candidates(
    proposal: tuple[Any, ...], key: int, first_row: int, unique: bool, *arrays: _Array | None
) -> None: ...
def candidate_log_p(proposal: tuple[Any, ...], ids: _I64, log_p: _F64) -> None: ...
def quadratic_size(classes: int, features: int) -> tuple[int, int, int]: ...
def update_quadratic(weight: _Array, sums: _Array, leaves: _I64 | None) -> None: ...
def draw_quadratic(
    weight: _Array, sums: _Array, hidden: _Array, alpha: float, key: int, *rest: Any
) -> None: ...
def quadratic_log_p(
    weight: _Array, sums: _Array, hidden: _Array, alpha: float, ids: _I64, log_p: _F64
) -> None: ...
def draw(
    x: _Array, temperature: _F64 | None, key: int, first_row: int, ids: _I64, scores: _F64 | None
) -> None: ...
def uniform(key: int, first_row: int, first: int, u: _F64) -> None: ...
def sample(
    x: _Array,
    mask: _Bool | None,
    biases: list[Any],
    lines: list[tuple[str, Any, Any, int]],
    key: int,
    counters: NDArray[np.uint64] | None,
    state: NDArray[np.uint8],
    replace: bool,
    ids: _I64,
    log_probs: _F64,
    kept: _I64,
) -> None: ...
def plain_sample(
    logits: object,
    temperature: object,
    top_k: object,
    top_p: object,
    min_p: object,
    rng: object,
    n: object,
    /,
) -> tuple[Any, Any, Any] | None: ...
def filter_logits(
    x: _Array,
    mask: _Bool | None,
    biases: list[Any],
    lines: list[tuple[str, Any, Any, int]],
    key: int,
    counters: NDArray[np.uint64] | None,
    state: NDArray[np.uint8],
    y: _Array,
    probabilities: bool,
) -> None: ...
def run_weighted(
    x: _Array,
    b: _Array,
    log_size: _Array,
    sign: _Array | None,
    reduced: int,
    mask: _Bool | None,
    temperature: _F64 | None,
) -> None: ...
def run_complex_sum(
    x: _Array,
    b: _Array | None,
    log_size: _F64,
    sum: NDArray[np.complex128],
    special: _Bool,
    reduced: int,
    mask: _Bool | None,
    temperature: _F64 | None,
) -> None: ...
def run_complex_softmax(
    wants_log: bool, x: _Array, y: _Array, special: _Bool, reduced: int
) -> None: ...
def exact_sum(
    re: _F64, im: _F64, w_re: _F64, w_im: _F64
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]: ...
def empty_like(like: _Array, dtype: np.dtype[Any], reduced: int = 0) -> _Array: ...
def register_bfloat16(dtype: np.dtype[Any]) -> None: ...
def set_doc(name: str, doc: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def cpu_quota(root: str) -> int: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def select_isa(name: str) -> None: ...
def cpu() -> str: ...
def add_to_bins(p: _Array, happened: _Bool, edges: _F64, sums: _F64) -> int: ...
def temperature_derivatives(
    logits: _Array, target: _I64, weight: _F64 | None, temperature: float
) -> tuple[float, float]: ...
def cross_entropy(
    logits: _Array,
    target: _I64,
    temperature: float,
    lse: _F64,
    log_prob: _F64,
    distance: _F64 | None,
    gradient: _Array | None,
    gain: _F64 | None,
    lse_gain: _F64 | None,
    add: _F64 | None,
    target_gain: _F64 | None,
) -> None: ...
def binary_cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    reduction: str,
    empty: str,
    with_grad: bool,
    out: _Array | None,
) -> Any: ...
def kl_divergence(
    log_q: ArrayLike,
    p: ArrayLike,
    log_target: bool,
    reduction: str,
    empty: str,
    with_grad: bool,
    out: _Array | None,
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
    out: _Array | None,
) -> Any: ...
def row_stats(
    logits: _Array,
    target: _I64 | None,
    temperature: float,
    k: int,
    lse: _Array,
    energy: _Array,
    entropy: _Array | None,
    top_id: _I64 | None,
    top_log_prob: _Array | None,
    target_log_prob: _Array | None,
    target_rank: _I64 | None,
) -> None: ...

_Shares = tuple[_Array | None, _Array | None, float, float]
_Columns = tuple[Any, ...]

def linear_add_tile(
    x: _Array,
    first: int,
    bias: _Array | None,
    temperature: float,
    softcap: float,
    shares: _Shares,
    totals: _Columns,
    top: _Columns,
) -> None: ...
def linear_finish_top(totals: _Columns, top: _Columns) -> None: ...
def linear_rescore(
    hidden: _F32,
    weight: _F32,
    bias: _F32 | None,
    indptr: _I64,
    ids: _I64,
    scores: _F64,
    errors: _F64,
) -> None: ...
def linear_rescored_top(
    hidden: _F32,
    weight: _F32,
    bias: _F32 | None,
    indptr: _I64,
    ids: _I64,
    lower: _F64,
    upper: _F64,
    most: int,
    top: tuple[_I64, _F64, _F64],
    proven: NDArray[np.uint8],
    rescored: _I64,
) -> None: ...
def linear_winners(
    lower: _F64, upper: _F64, first: int, key: int, first_row: int, best: _F64
) -> tuple[_I64, _I64, _F64, _F64]: ...
def linear_losses(
    totals: _Columns, hard: _F64 | None, shares: bool, z_loss: float, losses: _F64
) -> None: ...
def linear_slopes(
    x: _Array,
    first: int,
    scored: bool,
    bias: _Array | None,
    temperature: float,
    softcap: float,
    shares: _Shares,
    totals: _Columns,
    hard: _F64 | None,
    z_loss: float,
    scale: _F64,
    column_sums: _F64 | None,
) -> None: ...
def linear_add_to_columns(x: _Array, largest: _F64, sum: _F64) -> None: ...
def linear_pair_slopes(
    x: _Array,
    first: int,
    scored: bool,
    temperature: float,
    totals: _Columns,
    scale: _F64,
    column_lse: _F64,
    column_scale: float,
) -> None: ...
def copy_rows(matrix: _Array, at: _I64 | None, to: _Array) -> None: ...
def dot_rows(a: _Array, a_at: _I64 | None, b: _Array, b_at: _I64 | None, z: _F64) -> None: ...
def add_rows(
    sums: _Array, sums_at: _I64 | None, gain: _F64 | None, rows: _Array, rows_at: _I64 | None
) -> None: ...
def logistic_tile(
    x: _Array, bias: _Array | None, scale: _F64 | None, losses: _F64, column_sums: _F64 | None
) -> None: ...
def linear_small_loss(*args: object) -> Any: ...
def linear_small_loss_with_grad(
    *args: object,
) -> tuple[Any, _Array, _Array, _Array | None] | None: ...
def linear_small_logsumexp(*args: object) -> _Array | None: ...
def linear_small_log_prob(*args: object) -> _Array | None: ...
def linear_small_topk(*args: object) -> tuple[_I64, _Array] | None: ...

_Tree = object  # the handle that make_tree returns first

def make_tree(parents: _I64) -> tuple[_Tree, _I32, _I32, _I64, _I32, _I64, _I32, _I32]: ...
def huffman_parents(counts: _F64, arity: int) -> _I64: ...
def balanced_parents(n: int, arity: int) -> _I64: ...
def touched_units(tree: _Tree, target: _I64) -> _I64: ...
def mean_loss(loss: _F64, weight: _F64) -> float: ...
def try_log_prob(layer: object, hidden: ArrayLike, target: ArrayLike) -> _Array | None: ...
def try_topk(
    layer: object, hidden: ArrayLike, k: int, beam: int | None, min_prob: float
) -> tuple[_I64, _Array, _I64] | None: ...
def try_descend(
    layer: object,
    hidden: ArrayLike,
    target: ArrayLike,
    lr: float,
    sample_weight: ArrayLike | None,
    update: str,
    squares: _F64 | None,
    eps: float,
) -> tuple[float, _Array] | None: ...
def layer_log_prob(
    tree: _Tree, weight: _Array, bias: _Array | None, hidden: _Array, target: _I64, out: _Array
) -> None: ...
def layer_log_prob_of_nodes(
    tree: _Tree, weight: _Array, bias: _Array | None, hidden: _Array, out: _Array
) -> None: ...
def layer_loss_gradient(
    tree: _Tree,
    weight: _Array,
    bias: _Array | None,
    hidden: _Array,
    target: _I64,
    scale: _F64,
    loss: _F64,
    d_hidden: _Array,
    units: _I64,
    d_weight: _Array,
    d_bias: _Array | None,
) -> None: ...
def layer_descend(
    tree: _Tree,
    weight: _Array,
    bias: _Array | None,
    hidden: _Array,
    target: _I64,
    scale: _F64,
    rate: float,
    squares: _F64 | None,
    epsilon: float,
    lock_free: bool,
    together: int,
    loss: _F64,
    d_hidden: _Array,
) -> None: ...
def layer_descend_pairs(
    tree: _Tree,
    weight: _Array,
    bias: _Array | None,
    table: _Array,
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
    weight: _Array,
    bias: _Array | None,
    hidden: _Array,
    k: int,
    beam: int,
    min_log_prob: float,
    ids: _I64,
    log_probs: _Array,
    visited: _I64,
) -> None: ...
def layer_sample(
    tree: _Tree,
    weight: _Array,
    bias: _Array | None,
    hidden: _Array,
    seed: NDArray[np.uint64],
    out: _I64,
) -> None: ...
def layer_sure_nodes(
    tree: _Tree,
    weight: _Array,
    bias: _Array | None,
    hidden: _Array,
    min_log_prob: float,
    nodes: _I64,
    log_probs: _Array,
) -> None: ...

# Layers of weights in few bits: (bits, classes, ..., floats).
_Few = tuple[Any, ...]

class QuantisedRows:
    def __init__(self, layer: _Few, x: _F64, rounding: float, few_bits: bool) -> None: ...

def quantised_encode(layer: _Few, weight: _F64, first: int, rounding: float) -> int: ...
def quantised_centers(layer: _Few, rows: QuantisedRows, first: int, last: int, z: _F64) -> None: ...
def quantised_intervals(
    layer: _Few, rows: QuantisedRows, first: int, last: int, lower: _F64, upper: _F64
) -> None: ...
def quantised_row_bounds(rows: QuantisedRows, bounds: _F64) -> None: ...
def quantised_candidates(
    layer: _Few, rows: QuantisedRows, k: int
) -> tuple[_I64, _I64, _F64, _F64]: ...
def quantised_winners(
    layer: _Few, rows: QuantisedRows, stored: bool, key: int, first_row: int
) -> tuple[_I64, _I64, _F64]: ...
def quantised_split(
    layer: _Few, rows: QuantisedRows, bar: _F64, levels: tuple[Any, ...] | None
) -> tuple[tuple[_I64, _I64, _F64, _F64], _F64, _F64]: ...
def quantised_table() -> str: ...
def use_dot_products(use: bool) -> None: ...
def uses_dot_products() -> bool: ...

# Ordinary calls of public functions, with arguments by position; None for any other call.
def cross_entropy_call(*arguments: Any) -> Any: ...
def cross_entropy_with_grad_call(*arguments: Any) -> Any: ...
def focal_loss_call(*arguments: Any) -> Any: ...
def focal_loss_with_grad_call(*arguments: Any) -> Any: ...
def row_stats_call(*arguments: Any) -> Any: ...
def xla_handlers(minor: int) -> dict[str, object]: ...

// Cross-entropy of a linear layer: the work on a tile of logits between the products.
#pragma once

#include "row_sum.cuh"
#include "task.hpp"

namespace boltzmax::cuda {

inline constexpr int kTileWarps = 8;
inline constexpr int kTileThreads = 32 * kTileWarps;

// Half-precision slopes p - [c = t] of many classes would be subnormal: they are scaled by this factor.
template <class S>
inline constexpr float kSlopeScale = 1.0f;
template <>
inline constexpr float kSlopeScale<Half> = 1024.0f;

// The factors of products: for slopes (1 / T, and for a mean also 1 / the number of rows that count); then 0, and 1. If
// no row counts, all slopes are 0, and so are the gradients.
template <class S>
__global__ void Factors(const __grid_constant__ LinearTask task, Compute<S>* factors) {
  const double scale = task.scale == nullptr ? 1.0 : *task.scale;
  const double factor = scale - scale == 0 ? scale * task.temperature.inverse : 0.0;
  factors[0] = static_cast<Compute<S>>(factor / static_cast<double>(kSlopeScale<S>));
  factors[1] = Compute<S>(0);
  factors[2] = Compute<S>(1);
}

template <class S>
__global__ void __launch_bounds__(kTileThreads)
    CountedRows(const __grid_constant__ LinearTask task, const S* hidden, const int64_t* target, S* counted) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * task.features;
  const bool counts = target[blockIdx.x] >= 0;
  for (int64_t f = static_cast<int64_t>(threadIdx.x); f < task.features; f += kTileThreads) {
    counted[row + f] = counts ? hidden[row + f] : S{};
  }
}

// The gradient of rows that do not count is 0, even with infinite weights.
template <class S>
__global__ void __launch_bounds__(kTileThreads) ClearUncounted(const __grid_constant__ LinearTask task) {
  const int64_t r = static_cast<int64_t>(blockIdx.x);
  if (task.target[r] >= 0) return;
  auto* const d_hidden = static_cast<Compute<S>*>(task.d_hidden) + r * task.features;
  for (int64_t f = static_cast<int64_t>(threadIdx.x); f < task.features; f += kTileThreads) d_hidden[f] = Compute<S>(0);
}

// Classes [first, first + width) of rows from `row` on. In memory, rows are `step` elements apart.
struct Tile {
  int64_t row, height, first, width, step;
};

// A row of a tile: logits with their bias added.
template <class S>
struct RowOfTile {
  using T = Compute<S>;
  const T* logits;
  const S* bias;

  BOLTZMAX_DEVICE RowOfTile(const LinearTask& task, const Tile& tile, const T* all)
      : logits(all + static_cast<int64_t>(blockIdx.x) * tile.step),
        bias(task.bias == nullptr ? nullptr : static_cast<const S*>(task.bias) + tile.first) {}
  BOLTZMAX_DEVICE T operator[](int64_t c) const { return bias == nullptr ? logits[c] : logits[c] + Widen(bias[c]); }
};

// Adds a tile to the sums of its rows, and stores the targets' logits.
template <class S>
__global__ void __launch_bounds__(kTileThreads)
    SumsOfTile(const __grid_constant__ LinearTask task, const __grid_constant__ Tile tile, const Compute<S>* logits,
               RowSum<Compute<S>>* sums, Compute<S>* own) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(T, shared_max, kTileWarps);
  BOLTZMAX_SHARED(Terms<T>, shared_terms, kTileWarps);
  const RowOfTile<S> row(task, tile, logits);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<T> exp(temperature);
  T max = -Infinity<T>();
  for (int64_t c = static_cast<int64_t>(threadIdx.x); c < tile.width; c += kTileThreads) max = Max(max, row[c]);
  max = Fold<kTileWarps>(max, shared_max, TakeLarger());
  auto sum = RowSum<T>::Empty();
  sum.max = max;
  for (int64_t c = static_cast<int64_t>(threadIdx.x); c < tile.width; c += kTileThreads) {
    sum.AddElement(row[c], exp);
  }
  sum.terms = Fold<kTileWarps>(sum.terms, shared_terms, Join());
  if (threadIdx.x != 0) return;
  const int64_t r = tile.row + static_cast<int64_t>(blockIdx.x), target = task.target[r] - tile.first;
  if (tile.first > 0) {
    RowSum<T> before = sums[r];
    before.Merge(sum, temperature);
    sum = before;
  }
  sums[r] = sum;
  if (target >= 0 && target < tile.width) own[r] = row[target];
}

// A row's sum, applied to its logits.
template <class T>
struct RowOfLayer {
  RowTotals<T> totals;
  Temperature<T> temperature;
  int64_t target;
  bool counts, is_class;

  BOLTZMAX_DEVICE RowOfLayer(const LinearTask& task, int64_t r, const RowSum<T>& sum, bool wants_log)
      : totals(sum),
        temperature(task.temperature),
        target(task.target[r]),
        counts(target >= 0),
        is_class(target < task.classes) {
    if (wants_log) totals.FindLog(sum);
  }
  BOLTZMAX_DEVICE T Loss(T own) const {
    if (!counts) return T(0);
    if (!is_class) return NotANumber<T>();
    return totals.log_hi - (temperature.Divide(own - totals.max) - totals.log_lo);
  }
  // p - [c = t]
  BOLTZMAX_DEVICE T Slope(int64_t c, T x) const {
    if (!counts) return T(0);
    if (!is_class || totals.max - totals.max != T(0)) return NotANumber<T>();
    const T e = x == totals.max ? T(1) : Exp(x - totals.max, temperature);
    return MulAdd(e, totals.inverse_hi, e * totals.inverse_lo) - (c == target ? T(1) : T(0));
  }
};

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    LossesOfRows(const __grid_constant__ LinearTask task, const RowSum<T>* sums, const T* own) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kTileThreads + static_cast<int64_t>(threadIdx.x);
  if (r >= task.rows) return;
  static_cast<T*>(task.losses)[r] = RowOfLayer<T>(task, r, sums[r], true).Loss(own[r]);
}

// Computes slopes from logits; they may replace them.
template <class S>
__global__ void __launch_bounds__(kTileThreads)
    SlopesOfTile(const __grid_constant__ LinearTask task, const __grid_constant__ Tile tile, const Compute<S>* logits,
                 const RowSum<Compute<S>>* sums, S* slopes) {
  using T = Compute<S>;
  const RowOfTile<S> row(task, tile, logits);
  const int64_t r = tile.row + static_cast<int64_t>(blockIdx.x);
  const RowOfLayer<T> layer(task, r, sums[r], false);
  S* out = slopes + static_cast<int64_t>(blockIdx.x) * tile.step;
  for (int64_t c = static_cast<int64_t>(threadIdx.x); c < tile.width; c += kTileThreads) {
    out[c] = Narrow<S>(layer.Slope(tile.first + c, row[c]) * static_cast<T>(kSlopeScale<S>));
  }
}

// The gradient by the bias: the sum of each column of slopes. Neighbouring threads read neighbouring columns; the warps
// of a block divide the rows of 32 columns among them.
template <class S>
__global__ void __launch_bounds__(kTileThreads)
    BiasOfTile(const __grid_constant__ LinearTask task, const __grid_constant__ Tile tile, const S* slopes,
               const Compute<S>* factors) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<T>, sums, kTileThreads);
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * 32 + lane;
  auto sum = WideSum<T>::Zero();
  if (c < tile.width) {
    for (int64_t i = warp; i < tile.height; i += kTileWarps) sum.Add(Widen(slopes[i * tile.step + c]));
  }
  sums[warp * 32 + lane] = sum;
  __syncthreads();
  if (warp != 0 || c >= tile.width) return;
  for (int w = 1; w < kTileWarps; ++w) sum.Join(sums[w * 32 + lane]);
  T& out = static_cast<T*>(task.d_bias)[tile.first + c];
  out = MulAdd(factors[0], sum.Total(), tile.row == 0 ? T(0) : out);
}

}  // namespace boltzmax::cuda

// The arithmetic of a layer whose units are rows of a weight matrix, of which only a few are looked at: dot products with
// scattered rows, their updates, and the logistic function.
#pragma once

#include "passes.hpp"

namespace boltzmax::kernels {
namespace {

// The sum of a vector's lanes, halves onto halves.
template <class V>
inline double SumOfLanes(V v) {
  typename V::Scalar lanes[V::kLanes];
  Store(lanes, v);
  FoldLanes<V::kLanes / 2>(lanes, [](auto a, auto b) { return a + b; });
  return static_cast<double>(lanes[0]);
}

// z_j = h . rows_j for R rows at once. Each has two sums of its own, so its bits do not depend on its neighbours.
template <class T, size_t R>
inline void DotGroup(const T* h, const T* const* rows, size_t n, double* z) {
  using V = Vec<T>;
  constexpr size_t kStep = 2 * V::kLanes;
  Block<V, 2> sums[R];
  BOLTZMAX_UNROLL
  for (size_t j = 0; j < R; ++j) sums[j] = Set<V>(0);
  const auto add = [&](size_t i, auto lanes) {
    const auto x = LoadLanes<V>(h + i, lanes, T(0));
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < R; ++j) sums[j] = MulAdd(LoadLanes<V>(rows[j] + i, lanes, T(0)), x, sums[j]);
  };
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) add(i, Whole<2>{});
  if (i < n) add(i, Partial<2>{n - i});
  BOLTZMAX_UNROLL
  for (size_t j = 0; j < R; ++j) z[j] = SumOfLanes(sums[j].part[0] + sums[j].part[1]);
}

template <class T>
BOLTZMAX_KERNEL inline void DotRows(const T* h, const T* const* rows, size_t m, size_t n, double* z) {
  size_t j = 0;
  for (; j + 4 <= m; j += 4) DotGroup<T, 4>(h, rows + j, n, z + j);
  for (; j < m; ++j) DotGroup<T, 1>(h, rows + j, n, z + j);
}

// sum += gain_0 rows_0 + gain_1 rows_1 + ...
template <class T>
BOLTZMAX_KERNEL inline void AddRows(T* sum, const T* const* rows, const double* gain, size_t m, size_t n) {
  using V = Vec<T>;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    auto total = LoadLanes<V>(sum + i, lanes, T(0));
    for (size_t j = 0; j < m; ++j) {
      const decltype(total) slope = Set<V>(static_cast<T>(gain[j]));
      total = MulAdd(LoadLanes<V>(rows[j] + i, lanes, T(0)), slope, total);
    }
    StoreLanes(sum + i, total, lanes);
  });
}

// rows_j += gain_j h
template <class T>
BOLTZMAX_KERNEL inline void AddToRows(const T* h, T* const* rows, const double* gain, size_t m, size_t n) {
  using V = Vec<T>;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto x = LoadLanes<V>(h + i, lanes, T(0));
    for (size_t j = 0; j < m; ++j) {
      const decltype(x) slope = Set<V>(static_cast<T>(gain[j]));
      StoreLanes(rows[j] + i, MulAdd(x, slope, LoadLanes<V>(rows[j] + i, lanes, T(0))), lanes);
    }
  });
}

// AddRows(dh, rows, gain) and then AddToRows(h, rows, step), with one reading of the rows.
template <class T>
BOLTZMAX_KERNEL inline void StepRows(const T* h, T* dh, T* const* rows, const double* gain, const double* step,
                                     size_t m, size_t n) {
  using V = Vec<T>;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto x = LoadLanes<V>(h + i, lanes, T(0));
    auto total = LoadLanes<V>(dh + i, lanes, T(0));
    for (size_t j = 0; j < m; ++j) {
      const decltype(total) slope = Set<V>(static_cast<T>(gain[j])), move = Set<V>(static_cast<T>(step[j]));
      const auto row = LoadLanes<V>(rows[j] + i, lanes, T(0));
      total = MulAdd(row, slope, total);
      StoreLanes(rows[j] + i, MulAdd(x, move, row), lanes);
    }
    StoreLanes(dh + i, total, lanes);
  });
}

// log sigma(z) = min(z, 0) - log1p(exp(-|z|)), and sigma(-z), for n numbers.
BOLTZMAX_KERNEL inline void LogSigmoid(const double* z, size_t n, double* log_p, double* q) {
  using V = Vec<double>;
  const V zero = Set<V>(0), one = Set<V>(1);
  const ExpShift<V, false> shift(zero, MakeTemperature<V>(1));
  ForEachBlock<V, 1>(n, [&](size_t i, auto lanes) {
    const V x = LoadLanes<V>(z + i, lanes, 0.0).part[0];
    const V e = ScaledExp(zero - Abs(x), shift) * Set<V>(ExpConstants<double>::kUnscale);
    const V sum = one + e;
    const Pair<V> softplus = Join<double>(LogPartsOf<double>(sum, e - (sum - one), zero));
    // Max gives its second operand where either is NaN.
    const V below = zero - Max(zero, zero - x);
    const auto is_positive = Lt(zero, x);
    StoreLanes(log_p + i, Block<V, 1>((below - softplus.hi) - softplus.lo), lanes);
    StoreLanes(q + i, Block<V, 1>(IfThenElse(is_positive, e, one) / sum), lanes);
  });
}

}  // namespace
}  // namespace boltzmax::kernels

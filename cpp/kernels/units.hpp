// The arithmetic of a layer whose units are rows of a weight matrix, of which only a few are looked at: dot products with
// scattered rows, their updates, and the logistic function.
#pragma once

#include "passes.hpp"

namespace boltzmax::kernels {
namespace {

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
  for (size_t j = 0; j < R; ++j) z[j] = static_cast<double>(ReduceAdd(sums[j].part[0] + sums[j].part[1]));
}

template <class T>
BOLTZMAX_KERNEL inline void DotRows(const T* h, const T* const* rows, size_t m, size_t n, double* z) {
  size_t j = 0;
  for (; j + 4 <= m; j += 4) DotGroup<T, 4>(h, rows + j, n, z + j);
  if (m - j == 3) DotGroup<T, 3>(h, rows + j, n, z + j);
  if (m - j == 2) DotGroup<T, 2>(h, rows + j, n, z + j);
  if (m - j == 1) DotGroup<T, 1>(h, rows + j, n, z + j);
}

// sum += gain_0 rows_0 + gain_1 rows_1 + ...
template <class T>
BOLTZMAX_KERNEL inline void AddRows(T* sum, const T* const* rows, const double* gain, size_t m, size_t n) {
  using V = Vec<T>;
  // The rows are a chain for each vector: as many vectors side by side as there are registers for.
  ForEachBlock<V, V::kUnroll>(n, [&](size_t i, auto lanes) {
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

// log sigma(z) = min(z, 0) - log1p(e) with e = exp(-|z|), and sigma(-z), for n numbers. With s = e / (2 + e), which is at
// most 1/3, log1p(e) = 2 atanh(s) = 2s + s^3 P(s^2): all the digits of however small an e, to about 2 ulp.
BOLTZMAX_KERNEL inline void LogSigmoid(const double* z, size_t n, double* log_p, double* q) {
  using V = Vec<double>;
  // Chebyshev on s^2 <= 1/9: relative error 7e-18.
  constexpr double kPoly[] = {0x1.4b0a26c5f2aefp-3, 0x1.687a6e7c95176p-4, 0x1.eb905e8575054p-4, 0x1.10ac75dc602b1p-3,
                              0x1.3b18b294bebf9p-3, 0x1.745cf0b0e03bdp-3, 0x1.c71c727143318p-3, 0x1.24924923d44c6p-2,
                              0x1.999999999a3ddp-2, 0x1.5555555555555p-1};
  const V zero = Set<V>(0), one = Set<V>(1), two = Set<V>(2);
  const ExpShift<V, false> shift(zero, MakeTemperature<V>(1));
  const auto take = [&]<size_t U>(size_t i, auto lanes, const Block<V, U>& x) {
    using B = Block<V, U>;
    const B nothing = zero, e = ScaledExp(IfThenElse(Lt(x, nothing), x, nothing - x), shift) *
                                B(Set<V>(ExpConstants<double>::kUnscale));
    const B s = e / (B(two) + e), t = s * s;
    B p = Set<V>(kPoly[0]);
    BOLTZMAX_UNROLL
    for (size_t k = 1; k < sizeof(kPoly) / sizeof(kPoly[0]); ++k) p = MulAdd(p, t, B(Set<V>(kPoly[k])));
    const B log1p = MulAdd(s * t, p, s + s);
    // Max gives its second operand where either is NaN.
    const B below = nothing - Max(nothing, nothing - x);
    StoreLanes(log_p + i, below - log1p, lanes);
    StoreLanes(q + i, IfThenElse(Lt(nothing, x), e, B(one)) / (B(one) + e), lanes);
  };
  ForEachBlock<V, 2>(n, [&](size_t i, auto lanes) { take(i, lanes, LoadLanes<V>(z + i, lanes, 0.0)); });
}

}  // namespace
}  // namespace boltzmax::kernels

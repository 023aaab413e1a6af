// Arithmetic of a layer whose units are rows of a weight matrix of which a call reads only a few: dot products with
// scattered rows, updates of them, and the logistic function.
#pragma once

#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

// z_cj = x_c . rows_j, C x R of them in registers. Each has two sums of its own, so its bits do not depend on its
// neighbours.
template <class T, size_t C, size_t R>
inline void DotTile(const T* const* x, const T* const* rows, size_t n, T* z, size_t stride) {
  using V = Vec<T>;
  constexpr size_t kStep = 2 * V::kLanes, kAtOnce = 4;
  static_assert(R <= kAtOnce);
  Block<V, 2> sums[C][kAtOnce];
  BOLTZMAX_UNROLL
  for (size_t c = 0; c < C; ++c) {
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kAtOnce; ++j) sums[c][j] = Set<V>(0);
  }
  const auto add = [&](size_t i, auto lanes) {
    Block<V, 2> part[C];
    BOLTZMAX_UNROLL
    for (size_t c = 0; c < C; ++c) part[c] = LoadLanes<V>(x[c] + i, lanes, T(0));
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < R; ++j) {
      const auto row = LoadLanes<V>(rows[j] + i, lanes, T(0));
      BOLTZMAX_UNROLL
      for (size_t c = 0; c < C; ++c) sums[c][j] = MulAdd(row, part[c], sums[c][j]);
    }
  };
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) add(i, Whole<2>{});
  if (i < n) add(i, Partial<2>{n - i});
  BOLTZMAX_UNROLL
  for (size_t c = 0; c < C; ++c) {
    V whole[kAtOnce];
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kAtOnce; ++j) whole[j] = sums[c][j].part[0] + sums[c][j].part[1];
    T total[kAtOnce];
    ReduceAdd4(whole, total);
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < R; ++j) z[c * stride + j] = total[j];
  }
}

template <class T, size_t C>
inline void DotStrip(const T* const* x, const T* const* rows, size_t m, size_t n, T* z) {
  size_t j = 0;
  for (; j + 4 <= m; j += 4) DotTile<T, C, 4>(x, rows + j, n, z + j, m);
  if (m - j == 3) DotTile<T, C, 3>(x, rows + j, n, z + j, m);
  if (m - j == 2) DotTile<T, C, 2>(x, rows + j, n, z + j, m);
  if (m - j == 1) DotTile<T, C, 1>(x, rows + j, n, z + j, m);
}

// z_cj = x_c . rows_j for `count` vectors x and m rows.
template <class T>
BOLTZMAX_KERNEL inline void DotRows(const T* const* x, size_t count, const T* const* rows, size_t m, size_t n, T* z) {
  size_t c = 0;
  if constexpr (Vec<T>::kUnroll >= 8) {
    for (; c + 2 <= count; c += 2) DotStrip<T, 2>(x + c, rows, m, n, z + c * m);
  }
  for (; c < count; ++c) DotStrip<T, 1>(x + c, rows, m, n, z + c * m);
}

template <class T, size_t S>
inline void AddTile(T* const* sums, const T* const* rows, size_t m, const Coefficients<T>& gain, size_t n) {
  using V = Vec<T>;
  ForEachBlock<V, S == 1 ? V::kUnroll : V::kUnroll / 2>(n, [&](size_t i, auto lanes) {
    using B = Block<V, decltype(lanes)::kVectors>;
    B total[S];
    BOLTZMAX_UNROLL
    for (size_t s = 0; s < S; ++s) total[s] = Set<V>(0);
    for (size_t j = 0; j < m; ++j) {
      const auto row = LoadLanes<V>(rows[j] + i, lanes, T(0));
      BOLTZMAX_UNROLL
      for (size_t s = 0; s < S; ++s) total[s] = MulAdd(row, B(Set<V>(gain(s, j))), total[s]);
    }
    BOLTZMAX_UNROLL
    for (size_t s = 0; s < S; ++s) StoreLanes(sums[s] + i, LoadLanes<V>(sums[s] + i, lanes, T(0)) + total[s], lanes);
  });
}

// sums_s += gain_s0 rows_0 + gain_s1 rows_1 + ... for `count` sums, of which some may be the same, and m rows.
template <class T>
BOLTZMAX_KERNEL inline void AddRows(T* const* sums, size_t count, const T* const* rows, size_t m,
                                    const Coefficients<T>& gain, size_t n) {
  size_t s = 0;
  for (; s + 4 <= count; s += 4) AddTile<T, 4>(sums + s, rows, m, gain.From(s), n);
  for (; s + 2 <= count; s += 2) AddTile<T, 2>(sums + s, rows, m, gain.From(s), n);
  if (s < count) AddTile<T, 1>(sums + s, rows, m, gain.From(s), n);
}

// P of 2 atanh(s) = 2s + s^3 P(s^2), by Chebyshev on s^2 <= 1/9, highest first. Error of the whole: 7e-18 and 4e-10.
template <class T>
struct UnitAtanhPoly;
template <>
struct UnitAtanhPoly<double> {
  static constexpr double kTerms[] = {
      0x1.4b0a26c5f2aefp-3, 0x1.687a6e7c95176p-4, 0x1.eb905e8575054p-4, 0x1.10ac75dc602b1p-3, 0x1.3b18b294bebf9p-3,
      0x1.745cf0b0e03bdp-3, 0x1.c71c727143318p-3, 0x1.24924923d44c6p-2, 0x1.999999999a3ddp-2, 0x1.5555555555555p-1};
};
template <>
struct UnitAtanhPoly<float> {
  static constexpr float kTerms[] = {0x1.dba25ep-3f, 0x1.bc8cfap-3f, 0x1.24c926p-2f, 0x1.9998d4p-2f, 0x1.555556p-1f};
};

// log sigma(z) and sigma(-z) for n numbers. Max error about 2 ULP, valid for every z.
//
// log sigma(z) = min(z, 0) - log1p(e) with e = exp(-|z|). With s = e / (2 + e), at most 1/3, log1p(e) = 2 atanh(s)
// keeps all the digits even of a tiny e.
template <class T>
BOLTZMAX_KERNEL inline void LogSigmoid(const T* z, size_t n, T* log_p, T* q) {
  using V = Vec<T>;
  const V zero = Set<V>(0), one = Set<V>(1), two = Set<V>(2);
  const ExpShift<V, false> shift(zero, MakeTemperature<V>(1));
  const auto take = [&]<size_t U>(size_t i, auto lanes, const Block<V, U>& x) {
    using B = Block<V, U>;
    constexpr auto& kTerms = UnitAtanhPoly<T>::kTerms;
    const B nothing = zero,
            e = ScaledExp(IfThenElse(Lt(x, nothing), x, nothing - x), shift) * B(Set<V>(ExpConstants<T>::kUnscale));
    const B s = e / (B(two) + e), t = s * s;
    B p = Set<V>(kTerms[0]);
    BOLTZMAX_UNROLL
    for (size_t k = 1; k < sizeof(kTerms) / sizeof(T); ++k) p = MulAdd(p, t, B(Set<V>(kTerms[k])));
    const B log1p = MulAdd(s * t, p, s + s);
    // Max returns its second operand where either is NaN.
    const B below = nothing - Max(nothing, nothing - x);
    StoreLanes(log_p + i, below - log1p, lanes);
    StoreLanes(q + i, IfThenElse(Lt(nothing, x), e, B(one)) / (B(one) + e), lanes);
  };
  ForEachBlock<V, 2>(n, [&](size_t i, auto lanes) { take(i, lanes, LoadLanes<V>(z + i, lanes, T(0))); });
}

}  // namespace
}  // namespace boltzmax::kernels

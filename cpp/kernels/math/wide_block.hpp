// Blocks of floats as blocks of doubles, and back; a block of doubles is one already.
#pragma once

#include "wide_sum.hpp"

namespace boltzmax::kernels {
namespace {

// The vectors of doubles that hold a vector of V, or a block of U of them.
template <class V>
inline constexpr size_t kWide = V::kLanes / F64::kLanes;
template <class V, size_t U>
using WideBlock = Block<F64, U * kWide<V>>;

template <size_t U>
inline WideBlock<F32, U> InDouble(const Block<F32, U>& b) {
  WideBlock<F32, U> wide;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) {
    wide.part[2 * u] = PromoteLower(b.part[u]);
    wide.part[2 * u + 1] = PromoteUpper(b.part[u]);
  }
  return wide;
}
template <size_t U>
inline Block<F64, U> InDouble(const Block<F64, U>& b) {
  return b;
}

template <class V, size_t W>
inline Block<V, W / kWide<V>> Rounded(const Block<F64, W>& wide) {
  if constexpr (kWide<V> == 1) {
    return wide;
  } else {
    Block<V, W / 2> b;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < W / 2; ++u) b.part[u] = Demote(wide.part[2 * u], wide.part[2 * u + 1]);
    return b;
  }
}

// Adds numbers in double to a sum: compensated, or to that of floats, which has digits to spare.
template <size_t W>
inline void AddWide(WideSum<F64>* sum, const Block<F64, W>& b) {
  AddEach(sum, b);
}
template <size_t W>
inline void AddWide(WideSum<F32>* sum, const Block<F64, W>& b) {
  BOLTZMAX_UNROLL
  for (size_t w = 0; w < W; w += 2) {
    sum->lower = sum->lower + b.part[w];
    sum->upper = sum->upper + b.part[w + 1];
  }
}

}  // namespace
}  // namespace boltzmax::kernels

// Blocks of numbers in double precision, and their logarithms.
#pragma once

#include "../math/wide_sum.hpp"
#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

template <size_t U>
inline Block<F64, 2 * U> InDouble(const Block<F32, U>& b) {
  Block<F64, 2 * U> wide;
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

// A block as it is, or in double.
template <class Wanted, class V, size_t U>
inline auto As(const Block<V, U>& b) {
  if constexpr (Wanted::kLanes == V::kLanes) {
    return b;
  } else {
    return InDouble(b);
  }
}

template <class V, size_t W>
inline Block<V, W * F64::kLanes / V::kLanes> Rounded(const Block<F64, W>& wide) {
  if constexpr (V::kLanes == F64::kLanes) {
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

// log(x 2^k) for results of type T. Max error 2^-36 for floats, 1.5 ULP of the larger of its two parts, j ln 2 and the
// logarithm of a number near 1, for doubles; valid for x > 0 and normal. log(1) is 0.
template <class T, class D>
inline D LogOf(const D& x, const D& k) {
  const auto parts = LogPartsOf<float>(x, D(Const(0)), k);
  const D s = Quotient<T>(parts.f, D(Const(2)) + parts.f), z = s * s;
  return parts.base + (MulAdd(s * z, AtanhPoly<T>(z), s + s) + parts.extra);
}

}  // namespace
}  // namespace boltzmax::kernels

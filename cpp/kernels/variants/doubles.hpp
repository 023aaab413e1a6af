// Logarithms in double precision.
#pragma once

#include "../math/wide_block.hpp"
#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

// A block as it is, or in double.
template <class Wanted, class V, size_t U>
inline auto As(const Block<V, U>& b) {
  if constexpr (Wanted::kLanes == V::kLanes) {
    return b;
  } else {
    return InDouble(b);
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

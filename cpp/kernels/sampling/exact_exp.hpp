// exp in double with the same bits on every ISA: no multiplication is fused with an addition.
//
// With k = round(d log2 e) and r = d - k ln 2, exp(d) = 2^k P(r), where P is Taylor's polynomial of degree 13: for |r|
// <= ln(2) / 2 its error is below 5e-18. Max error 2 ULP, valid for -708 <= d <= 0; below, the result is 0. exp(0) is
// exactly 1.
#pragma once

#include "../isa/block.hpp"

namespace boltzmax::kernels {
namespace {

inline constexpr double kLeastExponent = -708.0;

// 1 / n! from n = 13 down to 2.
inline constexpr double kInverseFactorials[] = {
    1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
    1.0 / 5040.0,       1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,      1.0 / 6.0,      1.0 / 2.0};

template <class B>
inline B ExactExp(const B& distance) {
  const auto set = [](double x) { return B(Set<F64>(x)); };
  constexpr double kMagic = 0x1.8p52, kBias = 1023.0;
  const B least = set(kLeastExponent), d = Max(distance, least);
  const B k = (d * set(0x1.71547652b82fep+0) + set(kMagic)) - set(kMagic);
  const B r = (d - k * set(0x1.62e42feep-1)) - k * set(0x1.a39ef35793c76p-33);
  B p = set(kInverseFactorials[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof kInverseFactorials / sizeof(double); ++i) p = p * r + set(kInverseFactorials[i]);
  const B e = (r + (r * r) * p) + set(1.0);
  return IfThenElse(Lt(distance, least), set(0.0), e * Pow2(k + set(kMagic + kBias)));
}

}  // namespace
}  // namespace boltzmax::kernels

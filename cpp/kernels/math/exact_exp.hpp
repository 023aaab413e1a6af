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
// Added to k, and to the bias of exponents, it leaves k in the low bits.
inline constexpr double kExactMagic = 0x1.8p52, kExactBias = 1023.0;

// 1 / n! from n = 13 down to 2.
inline constexpr double kInverseFactorials[] = {
    1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
    1.0 / 5040.0,       1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,      1.0 / 6.0,      1.0 / 2.0};

// mantissa * 2^exponent; the mantissa is from 0.7 to 1.42.
template <class B>
struct ExactParts {
  B mantissa, exponent;
};

// P(r).
template <class B>
inline B ExactMantissa(const B& r) {
  const auto set = [](double x) { return B(Set<F64>(x)); };
  B p = set(kInverseFactorials[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof kInverseFactorials / sizeof(double); ++i) p = p * r + set(kInverseFactorials[i]);
  return (r + (r * r) * p) + set(1.0);
}

// exp(d + low), or exp(d). Max error 2 ULP, valid for |d| <= 2^19: then k ln 2 is exact to 2^-66.
template <bool kHasLow, class B>
inline ExactParts<B> ExactPartsOf(const B& d, const B& low) {
  const auto set = [](double x) { return B(Set<F64>(x)); };
  const B k = (d * set(0x1.71547652b82fep+0) + set(kExactMagic)) - set(kExactMagic);
  B r = (d - k * set(0x1.62e42feep-1)) - k * set(0x1.a39ef35793c76p-33);
  if constexpr (kHasLow) r = r + low;
  return {ExactMantissa(r), k};
}

template <class B>
inline B ExactExp(const B& distance) {
  const auto set = [](double x) { return B(Set<F64>(x)); };
  const B least = set(kLeastExponent), d = Max(distance, least);
  const auto [e, k] = ExactPartsOf<false>(d, d);
  return IfThenElse(Lt(distance, least), set(0.0), e * Pow2(k + set(kExactMagic + kExactBias)));
}

// Up to a vector of elements as doubles; `fill` beyond them.
inline F64 LoadDoubles(const double* x, size_t n, double fill) {
  return n >= F64::kLanes ? Load(x) : LoadN(x, n, fill);
}
inline F64 LoadDoubles(const float* x, size_t n, double fill) {
  if (n >= F64::kLanes) return LoadPromoted(x);
  float lanes[F64::kLanes];
  for (size_t j = 0; j < F64::kLanes; ++j) lanes[j] = j < n ? x[j] : static_cast<float>(fill);
  return LoadPromoted(lanes);
}

}  // namespace
}  // namespace boltzmax::kernels

// Square roots of a vector's lanes. Max error 0.5 ULP on x86, 2 ULP elsewhere; valid for 0 and normal positive numbers.
#pragma once

#include "../isa/block.hpp"

namespace boltzmax::kernels {
namespace {

#if defined(__AVX512F__)
inline F32 Sqrt(F32 v) { return {_mm512_sqrt_ps(v.raw)}; }
inline F64 Sqrt(F64 v) { return {_mm512_sqrt_pd(v.raw)}; }
#elif defined(__AVX2__)
inline F32 Sqrt(F32 v) { return {_mm256_sqrt_ps(v.raw)}; }
inline F64 Sqrt(F64 v) { return {_mm256_sqrt_pd(v.raw)}; }
#else
// Halving the bits of a number, exponent and all, about halves its logarithm. The constant turns that into an estimate
// of 1 / sqrt(v) within 3.5%, whose digits each Newton step doubles (Lomont, "Fast inverse square root", 2003).
template <class V, class Bits>
inline V NewtonSqrt(V v, Bits magic) {
  Bits bits[V::kLanes];
  typename V::Scalar lanes[V::kLanes];
  memcpy(bits, &v.raw, sizeof bits);
  for (Bits& b : bits) b = magic - (b >> 1);
  memcpy(lanes, bits, sizeof lanes);
  V inverse = Load(lanes);
  const V half = v * Set<V>(0.5f);
  for (int step = 0; step < 4; ++step) inverse = inverse * (Set<V>(1.5f) - half * inverse * inverse);
  const V root = v * inverse;
  return root + Set<V>(0.5f) * inverse * (v - root * root);
}
inline F32 Sqrt(F32 v) { return NewtonSqrt(v, uint32_t{0x5f375a86}); }
inline F64 Sqrt(F64 v) { return NewtonSqrt(v, uint64_t{0x5fe6eb50c7b537a9}); }
#endif

template <class V, size_t U>
inline Block<V, U> Sqrt(const Block<V, U>& b) {
  Block<V, U> r;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) r.part[u] = Sqrt(b.part[u]);
  return r;
}

}  // namespace
}  // namespace boltzmax::kernels

// Sums of 16 lanes with AVX-512. See dots.hpp.
#pragma once

#include <string.h>

#include "../quantised_types.hpp"

namespace boltzmax::kernels {
namespace {

struct Sums {
  __m512i raw = _mm512_setzero_si512();
};
inline Sums operator+(Sums a, Sums b) { return {_mm512_add_epi32(a.raw, b.raw)}; }
inline Sums Times256(Sums a) { return {_mm512_slli_epi32(a.raw, 8)}; }
inline Sums AllLanes(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline void StoreSums(int32_t* z, Sums sums) { _mm512_storeu_si512(z, sums.raw); }

inline constexpr size_t kBlocksAtOnce = 2, kRowsAtOnce = 8, kChains = 4;

template <class T>
inline __m512i FourBytes(const T* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

inline uint32_t MaskOfReaching(const UpperBounds& bounds, size_t i, float least) {
  const __m512 z = _mm512_cvtepi32_ps(_mm512_loadu_si512(bounds.z + i));
  const __m512 inner = _mm512_fmadd_ps(z, _mm512_set1_ps(bounds.t), _mm512_set1_ps(bounds.by_scale));
  const __m512 rest = _mm512_fmadd_ps(_mm512_loadu_ps(bounds.error + i), _mm512_set1_ps(bounds.by_error),
                                      _mm512_loadu_ps(bounds.bias + i));
  const __m512 upper = _mm512_fmadd_ps(inner, _mm512_loadu_ps(bounds.scale + i), rest);
  return _mm512_cmp_ps_mask(upper, _mm512_set1_ps(least), _CMP_NLT_UQ);
}

}  // namespace
}  // namespace boltzmax::kernels

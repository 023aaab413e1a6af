// Sums of 16 lanes with AVX2. See dots.hpp.
#pragma once

#include <string.h>

#include "../quantised_types.hpp"

namespace boltzmax::kernels {
namespace {

struct Sums {
  __m256i part[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
};
inline Sums operator+(const Sums& a, const Sums& b) {
  return {{_mm256_add_epi32(a.part[0], b.part[0]), _mm256_add_epi32(a.part[1], b.part[1])}};
}
inline Sums Times256(const Sums& a) { return {{_mm256_slli_epi32(a.part[0], 8), _mm256_slli_epi32(a.part[1], 8)}}; }
inline Sums AllLanes(int32_t x) { return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}}; }
inline void StoreSums(int32_t* z, const Sums& sums) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(z), sums.part[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(z + 8), sums.part[1]);
}

inline constexpr size_t kBlocksAtOnce = 1, kRowsAtOnce = 4, kChains = 2;

template <class T>
inline __m256i FourBytes(const T* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}
inline __m256i Bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

inline uint32_t HalfOfReaching(const UpperBounds& bounds, size_t i, float least) {
  const __m256 z = _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bounds.z + i)));
  const __m256 inner = _mm256_fmadd_ps(z, _mm256_set1_ps(bounds.t), _mm256_set1_ps(bounds.by_scale));
  const __m256 rest = _mm256_fmadd_ps(_mm256_loadu_ps(bounds.error + i), _mm256_set1_ps(bounds.by_error),
                                      _mm256_loadu_ps(bounds.bias + i));
  const __m256 upper = _mm256_fmadd_ps(inner, _mm256_loadu_ps(bounds.scale + i), rest);
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(upper, _mm256_set1_ps(least), _CMP_NLT_UQ)));
}
inline uint32_t MaskOfReaching(const UpperBounds& bounds, size_t i, float least) {
  return HalfOfReaching(bounds, i, least) | HalfOfReaching(bounds, i + 8, least) << 8;
}

}  // namespace
}  // namespace boltzmax::kernels

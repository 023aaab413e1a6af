// 16 lanes with AVX2: products of pairs of 16 bits. See dots.hpp.
#pragma once

#include "sums_avx2.hpp"

namespace boltzmax::kernels {
namespace {

// The even and the odd bytes, as numbers of 16 bits. A pair of products is below 2^25; maddubs, which adds pairs of
// products of bytes in 16 bits, would saturate.
struct Codes {
  __m256i even[2], odd[2];
};
inline constexpr bool kSignedCodes = false;
using Number = int16_t;

inline Codes FromBytes(__m256i a, __m256i b) {
  const __m256i low = _mm256_set1_epi16(255);
  return {{_mm256_and_si256(a, low), _mm256_and_si256(b, low)}, {_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8)}};
}
inline Codes CodesOf8(const uint8_t* p) { return FromBytes(Bytes(p), Bytes(p + 32)); }
inline Codes CodesOf4(const uint8_t* p, Codes* second) {
  const __m256i half = _mm256_set1_epi8(15), a = Bytes(p), b = Bytes(p + 32);
  *second = FromBytes(_mm256_and_si256(_mm256_srli_epi16(a, 4), half), _mm256_and_si256(_mm256_srli_epi16(b, 4), half));
  return FromBytes(_mm256_and_si256(a, half), _mm256_and_si256(b, half));
}
inline void AddProducts(Sums* sums, const Codes& codes, const int16_t* p) {
  const __m256i even = FourBytes(p), odd = FourBytes(p + 2);
  for (size_t h = 0; h < 2; ++h) {
    const __m256i pair = _mm256_add_epi32(_mm256_madd_epi16(codes.even[h], even), _mm256_madd_epi16(codes.odd[h], odd));
    sums->part[h] = _mm256_add_epi32(sums->part[h], pair);
  }
}

}  // namespace
}  // namespace boltzmax::kernels

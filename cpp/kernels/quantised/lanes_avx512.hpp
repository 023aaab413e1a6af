// 16 lanes with AVX-512: products of pairs of 16 bits. See dots.hpp.
#pragma once

#include "sums_avx512.hpp"

namespace boltzmax::kernels {
namespace {

// The even and the odd bytes, as numbers of 16 bits. A pair of products is below 2^25.
struct Codes {
  __m512i even, odd;
};
inline constexpr bool kSignedCodes = false;
using Number = int16_t;

inline Codes FromBytes(__m512i bytes) {
  return {_mm512_and_si512(bytes, _mm512_set1_epi16(255)), _mm512_srli_epi16(bytes, 8)};
}
inline Codes CodesOf8(const uint8_t* p) { return FromBytes(_mm512_loadu_si512(p)); }
inline Codes CodesOf4(const uint8_t* p, Codes* second) {
  const __m512i both = _mm512_loadu_si512(p), half = _mm512_set1_epi8(15);
  *second = FromBytes(_mm512_and_si512(_mm512_srli_epi16(both, 4), half));
  return FromBytes(_mm512_and_si512(both, half));
}
inline void AddProducts(Sums* sums, const Codes& codes, const int16_t* p) {
  const __m512i even = _mm512_madd_epi16(codes.even, FourBytes(p));
  const __m512i odd = _mm512_madd_epi16(codes.odd, FourBytes(p + 2));
  sums->raw = _mm512_add_epi32(sums->raw, _mm512_add_epi32(even, odd));
}

}  // namespace
}  // namespace boltzmax::kernels

// 16 lanes with AVX-VNNI: products of four bytes. See dots.hpp.
#pragma once

#include "sums_avx2.hpp"

namespace boltzmax::kernels {
namespace {

struct Codes {
  __m256i part[2];
};
inline constexpr bool kSignedCodes = false;
using Number = int8_t;

inline Codes CodesOf8(const uint8_t* p) { return {{Bytes(p), Bytes(p + 32)}}; }
inline Codes CodesOf4(const uint8_t* p, Codes* second) {
  const __m256i half = _mm256_set1_epi8(15), a = Bytes(p), b = Bytes(p + 32);
  *second = {{_mm256_and_si256(_mm256_srli_epi16(a, 4), half), _mm256_and_si256(_mm256_srli_epi16(b, 4), half)}};
  return {{_mm256_and_si256(a, half), _mm256_and_si256(b, half)}};
}
inline void AddProducts(Sums* sums, const Codes& codes, const int8_t* p) {
  const __m256i four = FourBytes(p);
  sums->part[0] = _mm256_dpbusd_avx_epi32(sums->part[0], codes.part[0], four);
  sums->part[1] = _mm256_dpbusd_avx_epi32(sums->part[1], codes.part[1], four);
}

}  // namespace
}  // namespace boltzmax::kernels

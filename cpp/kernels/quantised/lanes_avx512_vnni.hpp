// 16 lanes with VNNI: products of four bytes. See dots.hpp.
#pragma once

#include "sums_avx512.hpp"

namespace boltzmax::kernels {
namespace {

struct Codes {
  __m512i raw;
};
inline constexpr bool kSignedCodes = false;
using Number = int8_t;

inline Codes CodesOf8(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline Codes CodesOf4(const uint8_t* p, Codes* second) {
  const __m512i both = _mm512_loadu_si512(p), half = _mm512_set1_epi8(15);
  second->raw = _mm512_and_si512(_mm512_srli_epi16(both, 4), half);
  return {_mm512_and_si512(both, half)};
}
inline void AddProducts(Sums* sums, const Codes& codes, const int8_t* p) {
  sums->raw = _mm512_dpbusd_epi32(sums->raw, codes.raw, FourBytes(p));
}

}  // namespace
}  // namespace boltzmax::kernels

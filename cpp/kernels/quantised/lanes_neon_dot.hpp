// 16 lanes with SDOT: products of four bytes. See dots.hpp.
#pragma once

#include "sums_neon.hpp"

namespace boltzmax::kernels {
namespace {

struct Codes {
  int8x16_t part[4];
};
using Number = int8_t;
inline constexpr bool kSignedCodes = true;
inline constexpr size_t kRowsAtOnce = 4, kChains = 2;

inline Codes CodesOf8(const uint8_t* p) {
  Codes codes;
  for (size_t h = 0; h < 4; ++h) codes.part[h] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 16 * h), vdupq_n_u8(128)));
  return codes;
}
inline Codes CodesOf4(const uint8_t* p, Codes* second) {
  Codes first;
  for (size_t h = 0; h < 4; ++h) {
    const uint8x16_t both = vld1q_u8(p + 16 * h);
    first.part[h] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    second->part[h] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
  }
  return first;
}
inline void AddProducts(Sums* sums, const Codes& codes, const int8_t* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  const int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
  for (size_t h = 0; h < 4; ++h) sums->part[h] = vdotq_s32(sums->part[h], codes.part[h], all);
}

}  // namespace
}  // namespace boltzmax::kernels

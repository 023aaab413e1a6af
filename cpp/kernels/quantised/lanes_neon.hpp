// 16 lanes with NEON: products of 16 bits. See dots.hpp.
#pragma once

#include "sums_neon.hpp"

namespace boltzmax::kernels {
namespace {

// Byte i of each lane, as numbers of 16 bits.
struct Codes {
  int16x8_t byte[4][2];
};
using Number = int16_t;
inline constexpr bool kSignedCodes = false;
inline constexpr size_t kRowsAtOnce = 2, kChains = 1;

inline int16x8_t Widened(uint8x8_t bytes) { return vreinterpretq_s16_u16(vmovl_u8(bytes)); }
inline Codes FromBytes(const uint8x16_t* byte) {
  Codes codes;
  for (size_t i = 0; i < 4; ++i) {
    codes.byte[i][0] = Widened(vget_low_u8(byte[i]));
    codes.byte[i][1] = Widened(vget_high_u8(byte[i]));
  }
  return codes;
}
inline Codes CodesOf8(const uint8_t* p) { return FromBytes(vld4q_u8(p).val); }
inline Codes CodesOf4(const uint8_t* p, Codes* second) {
  const uint8x16x4_t both = vld4q_u8(p);
  uint8x16_t low[4], high[4];
  for (size_t i = 0; i < 4; ++i) {
    low[i] = vandq_u8(both.val[i], vdupq_n_u8(15));
    high[i] = vshrq_n_u8(both.val[i], 4);
  }
  *second = FromBytes(high);
  return FromBytes(low);
}
inline void AddProducts(Sums* sums, const Codes& codes, const int16_t* p) {
  const int16_t in_order[4] = {p[0], p[2], p[1], p[3]};
  for (size_t i = 0; i < 4; ++i) {
    for (size_t h = 0; h < 2; ++h) {
      sums->part[2 * h] = vmlal_n_s16(sums->part[2 * h], vget_low_s16(codes.byte[i][h]), in_order[i]);
      sums->part[2 * h + 1] = vmlal_n_s16(sums->part[2 * h + 1], vget_high_s16(codes.byte[i][h]), in_order[i]);
    }
  }
}

}  // namespace
}  // namespace boltzmax::kernels

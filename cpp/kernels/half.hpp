// 16-bit formats in integer arithmetic, for processors without conversion instructions and for code that must not use
// them: the compiler's own conversion may call a library function that raises the glibc version of a wheel's tag.
#pragma once

#include "types.hpp"

namespace boltzmax {
namespace {

inline uint32_t FloatBits(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float FloatFromBits(uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline float ToFloat(BFloat16 b) { return FloatFromBits(static_cast<uint32_t>(b.bits) << 16); }
inline float ToFloat(Half h) {
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000) << 16, rest = h.bits & 0x7fffu;
  if (rest >= 0x7c00) return FloatFromBits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // Multiplying by 2^112 moves the exponent's bias, and makes subnormals normal.
  return FloatFromBits(sign | FloatBits(FloatFromBits(rest << 13) * 0x1p112f));
}

// Rounds to nearest, ties to even; NaN stays NaN.
inline BFloat16 ToBFloat16(float x) {
  const uint32_t bits = FloatBits(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {static_cast<uint16_t>((nan ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
inline Half ToHalf(float x) {
  const uint32_t bits = FloatBits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x1ffu);
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;  // rounds to infinity
  } else if (magnitude < 0x38800000u) {
    half = FloatBits(FloatFromBits(magnitude) + 0.5f) - FloatBits(0.5f);  // subnormal: the sum rounds at 2^-24
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

}  // namespace
}  // namespace boltzmax

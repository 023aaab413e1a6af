// Element types, one number at a time, and their units in the last place: plain, slow, and independent of the library.
#pragma once

#include <boltzmax/boltzmax.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace boltzmax::fuzz {

using Real = long double;

// A binary format: the bits after the point, the range of exponents, and the precision in which results are computed.
struct Format {
  int bits, min_exponent, max_exponent;
  Real compute_eps;

  Real Eps() const { return std::ldexp(Real{1}, -bits); }
  Real Smallest() const { return std::ldexp(Real{1}, min_exponent - bits); }
  Real Largest() const { return std::ldexp(2 - Eps(), max_exponent); }
  // The spacing of the numbers around x.
  Real Ulp(Real x) const {
    const int exponent = x == 0 ? min_exponent : std::isfinite(x) ? std::ilogb(x) : max_exponent;
    const int known = exponent < min_exponent ? min_exponent : exponent > max_exponent ? max_exponent : exponent;
    return std::ldexp(Real{1}, known - bits);
  }
};

inline Format FormatOf(int dtype) {
  switch (dtype) {
    case BOLTZMAX_FLOAT64: return {52, -1022, 1023, 0x1p-52L};
    case BOLTZMAX_FLOAT16: return {10, -14, 15, 0x1p-23L};
    case BOLTZMAX_BFLOAT16: return {7, -126, 127, 0x1p-23L};
    default: return {23, -126, 127, 0x1p-23L};
  }
}

inline bool IsHalf(int dtype) { return dtype == BOLTZMAX_FLOAT16 || dtype == BOLTZMAX_BFLOAT16; }

inline size_t SizeOf(int dtype) {
  constexpr size_t kSizes[] = {4, 8, 2, 2, 1, 1, 1, 2, 2, 4, 4, 8, 8};
  return kSizes[dtype];
}

template <class T>
T Load(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// The number with these 16 bits, by the definition of the format.
inline Real FromBits(uint16_t bits, const Format& format) {
  const int fraction = bits & ((1 << format.bits) - 1), exponent = (bits & 0x7fff) >> format.bits;
  const Real sign = bits >> 15 != 0 ? -1 : 1;
  if (exponent == 2 * format.max_exponent + 1) return fraction != 0 ? NAN : sign * INFINITY;
  const int implied = exponent == 0 ? 0 : 1 << format.bits;
  return sign *
         std::ldexp(Real(implied + fraction), (exponent == 0 ? 1 : exponent) - format.max_exponent - format.bits);
}

inline Real Read(int dtype, const char* p) {
  switch (dtype) {
    case BOLTZMAX_FLOAT32: return Load<float>(p);
    case BOLTZMAX_FLOAT64: return Load<double>(p);
    case BOLTZMAX_FLOAT16:
    case BOLTZMAX_BFLOAT16: return FromBits(Load<uint16_t>(p), FormatOf(dtype));
    case BOLTZMAX_INT8: return Load<int8_t>(p);
    case BOLTZMAX_INT16: return Load<int16_t>(p);
    case BOLTZMAX_UINT16: return Load<uint16_t>(p);
    case BOLTZMAX_INT32: return Load<int32_t>(p);
    case BOLTZMAX_UINT32: return Load<uint32_t>(p);
    case BOLTZMAX_INT64: return static_cast<Real>(Load<int64_t>(p));
    case BOLTZMAX_UINT64: return static_cast<Real>(Load<uint64_t>(p));
    default: return Load<uint8_t>(p);
  }
}

// Writes a multiple of 1/4 below 64, which every floating-point format holds.
inline void WriteSmall(int dtype, int quarters, char* p) {
  const double value = quarters / 4.0;
  if (dtype == BOLTZMAX_FLOAT32) {
    const auto x = static_cast<float>(value);
    std::memcpy(p, &x, sizeof x);
  } else if (dtype == BOLTZMAX_FLOAT64) {
    std::memcpy(p, &value, sizeof value);
  } else {
    const Format format = FormatOf(dtype);
    uint16_t bits = 0;
    if (quarters != 0) {
      const int exponent = std::ilogb(value);
      const auto fraction = static_cast<int>(std::ldexp(std::fabs(value), format.bits - exponent)) - (1 << format.bits);
      bits = static_cast<uint16_t>((quarters < 0) << 15 | (exponent + format.max_exponent) << format.bits | fraction);
    }
    std::memcpy(p, &bits, sizeof bits);
  }
}

}  // namespace boltzmax::fuzz

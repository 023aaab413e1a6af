// 16 lanes in portable C++. See dots.hpp.
#pragma once

#include "../quantised_types.hpp"

namespace boltzmax::kernels {
namespace {

struct Sums {
  uint32_t lane[kClassLanes] = {};
};
inline Sums operator+(const Sums& a, const Sums& b) {
  Sums sum;
  for (size_t i = 0; i < kClassLanes; ++i) sum.lane[i] = a.lane[i] + b.lane[i];
  return sum;
}
inline Sums Times256(const Sums& a) {
  Sums result;
  for (size_t i = 0; i < kClassLanes; ++i) result.lane[i] = a.lane[i] << 8;
  return result;
}
inline Sums AllLanes(int32_t x) {
  Sums result;
  for (uint32_t& lane : result.lane) lane = static_cast<uint32_t>(x);
  return result;
}
inline void StoreSums(int32_t* z, const Sums& sums) { memcpy(z, sums.lane, sizeof sums.lane); }

inline constexpr size_t kBlocksAtOnce = 1, kRowsAtOnce = 2, kChains = 1;
using Number = int16_t;
inline constexpr bool kSignedCodes = false;

struct Codes {
  uint8_t byte[4 * kClassLanes];
};
inline Codes CodesOf8(const uint8_t* p) {
  Codes codes;
  memcpy(codes.byte, p, sizeof codes.byte);
  return codes;
}
inline Codes CodesOf4(const uint8_t* p, Codes* second) {
  Codes first;
  for (size_t i = 0; i < 4 * kClassLanes; ++i) {
    first.byte[i] = p[i] & 15;
    second->byte[i] = static_cast<uint8_t>(p[i] >> 4);
  }
  return first;
}
inline void AddProducts(Sums* sums, const Codes& codes, const int16_t* p) {
  for (size_t i = 0; i < kClassLanes; ++i) {
    const uint8_t* four = codes.byte + 4 * i;
    sums->lane[i] += static_cast<uint32_t>(four[0] * p[0] + four[2] * p[1] + four[1] * p[2] + four[3] * p[3]);
  }
}

inline uint32_t MaskOfReaching(const UpperBounds& bounds, size_t i, float least) {
  uint32_t mask = 0;
  for (size_t j = 0; j < kClassLanes; ++j) {
    const float inner = static_cast<float>(bounds.z[i + j]) * bounds.t + bounds.by_scale;
    const float upper = inner * bounds.scale[i + j] + (bounds.error[i + j] * bounds.by_error + bounds.bias[i + j]);
    mask |= static_cast<uint32_t>(!(upper < least)) << j;
  }
  return mask;
}

}  // namespace
}  // namespace boltzmax::kernels

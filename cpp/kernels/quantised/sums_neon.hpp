// Sums of 16 lanes with NEON. See dots.hpp.
#pragma once

#include <arm_neon.h>
#include <string.h>

#include "../quantised_types.hpp"

namespace boltzmax::kernels {
namespace {

struct Sums {
  int32x4_t part[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
};
inline Sums operator+(const Sums& a, const Sums& b) {
  return {{vaddq_s32(a.part[0], b.part[0]), vaddq_s32(a.part[1], b.part[1]), vaddq_s32(a.part[2], b.part[2]),
           vaddq_s32(a.part[3], b.part[3])}};
}
inline Sums Times256(const Sums& a) {
  return {{vshlq_n_s32(a.part[0], 8), vshlq_n_s32(a.part[1], 8), vshlq_n_s32(a.part[2], 8), vshlq_n_s32(a.part[3], 8)}};
}
inline Sums AllLanes(int32_t x) {
  const int32x4_t all = vdupq_n_s32(x);
  return {{all, all, all, all}};
}
inline void StoreSums(int32_t* z, const Sums& sums) {
  for (size_t h = 0; h < 4; ++h) vst1q_s32(z + 4 * h, sums.part[h]);
}

inline constexpr size_t kBlocksAtOnce = 1;

inline uint32_t MaskOfReaching(const UpperBounds& bounds, size_t i, float least) {
  constexpr uint32_t kBits[4] = {1, 2, 4, 8};
  const uint32x4_t bit = vld1q_u32(kBits);
  uint32_t mask = 0;
  for (size_t h = 0; h < 4; ++h) {
    const size_t at = i + 4 * h;
    const float32x4_t z = vcvtq_f32_s32(vld1q_s32(bounds.z + at));
    const float32x4_t inner = vfmaq_n_f32(vdupq_n_f32(bounds.by_scale), z, bounds.t);
    const float32x4_t rest = vfmaq_n_f32(vld1q_f32(bounds.bias + at), vld1q_f32(bounds.error + at), bounds.by_error);
    const float32x4_t upper = vfmaq_f32(rest, inner, vld1q_f32(bounds.scale + at));
    const uint32x4_t below = vcltq_f32(upper, vdupq_n_f32(least));
    mask |= vaddvq_u32(vbicq_u32(bit, below)) << (4 * h);
  }
  return mask;
}

}  // namespace
}  // namespace boltzmax::kernels

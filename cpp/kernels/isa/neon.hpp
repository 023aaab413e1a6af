// The NEON that every AArch64 processor has: 4 floats or 2 doubles. Nothing optional is used: conversions between half
// and float are part of the baseline, those of bfloat16 are integer arithmetic. Tails go through a small buffer on the
// stack, so no byte beyond the row is touched.
#pragma once

#include <arm_neon.h>

#include "vec_concept.hpp"

namespace boltzmax::kernels {
namespace {

template <>
struct Vec<float> {
  using Scalar = float;
  static constexpr size_t kPart = 4;
  static constexpr size_t kInOrder = 8, kTransposed = 8;
  using Mask = uint32x4_t;
  static constexpr size_t kLanes = 4;
  static constexpr size_t kUnroll = 4;
  static constexpr bool kHasFma = true;
  static constexpr int kNodes = 1;
  static constexpr bool kHasPick = false;
  float32x4_t raw;
};

template <>
struct Vec<double> {
  using Scalar = double;
  static constexpr size_t kPart = 2;
  static constexpr size_t kInOrder = 8, kTransposed = 8;
  using Mask = uint64x2_t;
  static constexpr size_t kLanes = 2;
  static constexpr size_t kUnroll = 4;
  static constexpr bool kHasInverse = false;
  static constexpr bool kHasFma = true;
  static constexpr int kNodes = 1;
  static constexpr bool kHasPick = false;
  float64x2_t raw;
};

using F32 = Vec<float>;
using F64 = Vec<double>;

template <class V>
inline V Set(typename V::Scalar x);
template <>
inline F32 Set<F32>(float x) {
  return {vdupq_n_f32(x)};
}
template <>
inline F64 Set<F64>(double x) {
  return {vdupq_n_f64(x)};
}

inline F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.raw, b.raw)}; }
inline F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.raw, b.raw)}; }
inline F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.raw, b.raw)}; }
inline F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.raw, b.raw)}; }
inline F32 MulAdd(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.raw, a.raw, b.raw)}; }
inline F32 NegMulAdd(F32 a, F32 b, F32 c) { return {vfmsq_f32(c.raw, a.raw, b.raw)}; }
// Not the instruction fmax, which returns NaN if either operand is NaN: kernels rely on a NaN in a being ignored.
inline F32 Max(F32 a, F32 b) { return {vbslq_f32(vcgtq_f32(a.raw, b.raw), a.raw, b.raw)}; }
inline F32 Abs(F32 a) { return {vabsq_f32(a.raw)}; }
inline uint32x4_t Lt(F32 a, F32 b) { return vcltq_f32(a.raw, b.raw); }
inline uint32x4_t Eq(F32 a, F32 b) { return vceqq_f32(a.raw, b.raw); }
inline F32 IfThenElse(uint32x4_t m, F32 a, F32 b) { return {vbslq_f32(m, a.raw, b.raw)}; }
inline F32 Pow2(F32 t) { return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(t.raw), 23))}; }
inline float ReduceMax(F32 v) { return vmaxnmvq_f32(v.raw); }
inline void ReduceAdd4(const F32 (&v)[4], float* sums) {
  vst1q_f32(sums, vpaddq_f32(vpaddq_f32(v[0].raw, v[1].raw), vpaddq_f32(v[2].raw, v[3].raw)));
}

inline F64 operator+(F64 a, F64 b) { return {vaddq_f64(a.raw, b.raw)}; }
inline F64 operator-(F64 a, F64 b) { return {vsubq_f64(a.raw, b.raw)}; }
inline F64 operator*(F64 a, F64 b) { return {vmulq_f64(a.raw, b.raw)}; }
inline F64 operator/(F64 a, F64 b) { return {vdivq_f64(a.raw, b.raw)}; }
inline F64 MulAdd(F64 a, F64 b, F64 c) { return {vfmaq_f64(c.raw, a.raw, b.raw)}; }
inline F64 NegMulAdd(F64 a, F64 b, F64 c) { return {vfmsq_f64(c.raw, a.raw, b.raw)}; }
inline F64 Max(F64 a, F64 b) { return {vbslq_f64(vcgtq_f64(a.raw, b.raw), a.raw, b.raw)}; }
inline F64 Abs(F64 a) { return {vabsq_f64(a.raw)}; }
inline uint64x2_t Lt(F64 a, F64 b) { return vcltq_f64(a.raw, b.raw); }
inline uint64x2_t Eq(F64 a, F64 b) { return vceqq_f64(a.raw, b.raw); }
inline F64 IfThenElse(uint64x2_t m, F64 a, F64 b) { return {vbslq_f64(m, a.raw, b.raw)}; }
inline F64 Pow2(F64 t) { return {vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(t.raw), 52))}; }
inline double ReduceMax(F64 v) { return vmaxnmvq_f64(v.raw); }
inline void ReduceAdd4(const F64 (&v)[4], double* sums) {
  vst1q_f64(sums, vpaddq_f64(v[0].raw, v[1].raw));
  vst1q_f64(sums + 2, vpaddq_f64(v[2].raw, v[3].raw));
}
inline F64 SplitExponent(F64 x, F64* mantissa) {
  const uint64x2_t bits = vreinterpretq_u64_f64(x.raw);
  const uint64x2_t fraction = vandq_u64(bits, vdupq_n_u64(0xfffffffffffff));
  mantissa->raw = vreinterpretq_f64_u64(vorrq_u64(fraction, vdupq_n_u64(0x3ff0000000000000)));
  return {vsubq_f64(vcvtq_f64_u64(vshrq_n_u64(bits, 52)), vdupq_n_f64(1023.0))};
}

inline bool Any(uint32x4_t m) { return vmaxvq_u32(m) != 0; }
inline bool Any(uint64x2_t m) { return vmaxvq_u32(vreinterpretq_u32_u64(m)) != 0; }

inline F64 PromoteLower(F32 v) { return {vcvt_f64_f32(vget_low_f32(v.raw))}; }
inline F64 PromoteUpper(F32 v) { return {vcvt_high_f64_f32(v.raw)}; }
inline F64 LoadIntegers(const int64_t* p) { return {vcvtq_f64_s64(vld1q_s64(p))}; }
inline void StoreIntegers(int64_t* p, F64 v) { vst1q_s64(p, vcvtq_s64_f64(v.raw)); }
inline F64 LoadPromoted(const float* p) { return {vcvt_f64_f32(vld1_f32(p))}; }
inline F32 Demote(F64 lower, F64 upper) { return {vcvt_high_f32_f64(vcvt_f32_f64(lower.raw), upper.raw)}; }

// ---- lanes ----

inline float FirstLane(F32 v) { return vgetq_lane_f32(v.raw, 0); }
inline double FirstLane(F64 v) { return vgetq_lane_f64(v.raw, 0); }

// The hint to bypass the cache (stnp) exists for pairs of registers only: Stream is an ordinary store.
inline void StreamFence() {}

constexpr uint32_t kIndex32[] = {0, 1, 2, 3};
constexpr uint64_t kIndex64[] = {0, 1};

template <class V>
inline typename V::Mask FirstN(size_t n);
template <>
inline uint32x4_t FirstN<F32>(size_t n) {
  return vcgtq_u32(vdupq_n_u32(static_cast<uint32_t>(n)), vld1q_u32(kIndex32));
}
template <>
inline uint64x2_t FirstN<F64>(size_t n) {
  return vcgtq_u64(vdupq_n_u64(n), vld1q_u64(kIndex64));
}

template <class V>
inline typename V::Mask LoadMask(const uint8_t* p);
template <>
inline uint32x4_t LoadMask<F32>(const uint8_t* p) {
  uint32_t four;
  memcpy(&four, p, sizeof four);
  const uint32x4_t lanes = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
  return vtstq_u32(lanes, lanes);
}
template <>
inline uint64x2_t LoadMask<F64>(const uint8_t* p) {
  uint16_t two;
  memcpy(&two, p, sizeof two);
  const uint64x2_t lanes = vmovl_u32(vget_low_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(two))))));
  return vtstq_u64(lanes, lanes);
}

// Copies the first n < kLanes elements, in pieces of constant sizes, for which the compiler calls no function.
template <size_t kLanes, class T>
inline void CopyTail(T* to, const T* from, size_t n) {
  size_t i = 0;
  if constexpr (kLanes == 4) {
    if ((n & 2) != 0) {
      memcpy(to, from, 2 * sizeof(T));
      i = 2;
    }
  }
  if ((n & 1) != 0) to[i] = from[i];
}
template <class V>
inline typename V::Mask LoadMaskN(const uint8_t* p, size_t n) {
  return MaskOfFirst<V>(p, n);
}

// ---- float and double ----

inline F32 Load(const float* p) { return {vld1q_f32(p)}; }
inline F64 Load(const double* p) { return {vld1q_f64(p)}; }
inline void Store(float* p, F32 v) { vst1q_f32(p, v.raw); }
inline void Store(double* p, F64 v) { vst1q_f64(p, v.raw); }

// ---- 16-bit storage ----

inline F32 Widen(uint16x4_t bits, Half) { return {vcvt_f32_f16(vreinterpret_f16_u16(bits))}; }
inline F32 Widen(uint16x4_t bits, BFloat16) { return {vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(bits), 16))}; }
inline uint16x4_t Narrow(F32 v, Half) { return vreinterpret_u16_f16(vcvt_f16_f32(v.raw)); }
inline uint16x4_t Narrow(F32 v, BFloat16) {
  const uint32x4_t bits = vreinterpretq_u32_f32(v.raw);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  return vshrn_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
}

template <Storage16 S>
inline F32 Load(const S* p) {
  return Widen(vld1_u16(&p->bits), S{});
}
template <Storage16 S>
inline void Store(S* p, F32 v) {
  vst1_u16(&p->bits, Narrow(v, S{}));
}

// ---- all storage ----

template <class S>
inline Vec<Compute<S>> LoadN(const S* p, size_t n, Compute<S> fill) {
  using V = Vec<Compute<S>>;
  if (n == V::kLanes) return Load(p);
  S lanes[V::kLanes] = {};
  CopyTail<V::kLanes>(lanes, p, n);
  return IfThenElse(FirstN<V>(n), Load(lanes), Set<V>(fill));
}
template <class S>
inline void StoreN(S* p, Vec<Compute<S>> v, size_t n) {
  constexpr size_t kLanes = Vec<Compute<S>>::kLanes;
  if (n == kLanes) return Store(p, v);
  S lanes[kLanes];
  Store(lanes, v);
  CopyTail<kLanes>(p, lanes, n);
}
template <class S>
inline void Stream(S* p, Vec<Compute<S>> v) {
  Store(p, v);
}

}  // namespace
}  // namespace boltzmax::kernels

#include "parts_of_16_bytes.hpp"

// No particular ISA: 4 floats or 2 doubles in the compiler's portable vectors, for which it uses the baseline (SSE2 on
// x86-64). There is no FMA: MulAdd rounds twice. Wider vectors would run at the same speed but take minutes to compile
// and megabytes of code, as would inlining everything into each kernel.
#pragma once

#define BOLTZMAX_KERNEL [[gnu::noinline]]
#define BOLTZMAX_RARE [[gnu::noinline, gnu::cold]]

#include "../half.hpp"
#include "vec_concept.hpp"

namespace boltzmax::kernels {
namespace {

typedef float RawF32 __attribute__((vector_size(16)));
typedef double RawF64 __attribute__((vector_size(16)));
typedef int32_t RawMask32 __attribute__((vector_size(16)));
typedef int64_t RawMask64 __attribute__((vector_size(16)));
typedef uint32_t RawBits32 __attribute__((vector_size(16)));
typedef uint64_t RawBits64 __attribute__((vector_size(16)));
typedef float RawHalfF32 __attribute__((vector_size(8)));

template <>
struct Vec<float> {
  using Scalar = float;
  static constexpr size_t kPart = 4;
  static constexpr size_t kInOrder = 8, kTransposed = 8;
  using Mask = RawMask32;
  static constexpr size_t kLanes = 4;
  static constexpr size_t kUnroll = 4;
  static constexpr bool kHasFma = false;
  static constexpr int kNodes = 1;
  static constexpr bool kHasPick = false;
  RawF32 raw;
};

template <>
struct Vec<double> {
  using Scalar = double;
  static constexpr size_t kPart = 2;
  static constexpr size_t kInOrder = 8, kTransposed = 8;
  using Mask = RawMask64;
  static constexpr size_t kLanes = 2;
  static constexpr size_t kUnroll = 4;
  static constexpr bool kHasInverse = false;
  static constexpr bool kHasFma = false;
  static constexpr int kNodes = 1;
  static constexpr bool kHasPick = false;
  RawF64 raw;
};

using F32 = Vec<float>;
using F64 = Vec<double>;

template <class V>
inline V Set(typename V::Scalar x) {
  return {x - decltype(V::raw){}};
}

template <class V>
concept AnyVec = requires(V v) {
  v.raw;
  V::kLanes;
};

template <AnyVec V>
inline V operator+(V a, V b) {
  return {a.raw + b.raw};
}
template <AnyVec V>
inline V operator-(V a, V b) {
  return {a.raw - b.raw};
}
template <AnyVec V>
inline V operator*(V a, V b) {
  return {a.raw * b.raw};
}
template <AnyVec V>
inline V operator/(V a, V b) {
  return {a.raw / b.raw};
}
template <AnyVec V>
inline V MulAdd(V a, V b, V c) {
  return {a.raw * b.raw + c.raw};
}
template <AnyVec V>
inline V NegMulAdd(V a, V b, V c) {
  return {c.raw - a.raw * b.raw};
}
template <AnyVec V>
inline V Max(V a, V b) {
  return {a.raw > b.raw ? a.raw : b.raw};
}
template <AnyVec V>
inline V Abs(V a) {
  return {a.raw < 0 ? -a.raw : a.raw};
}
template <AnyVec V>
inline typename V::Mask Lt(V a, V b) {
  return a.raw < b.raw;
}
template <AnyVec V>
inline typename V::Mask Eq(V a, V b) {
  return a.raw == b.raw;
}
template <AnyVec V>
inline V IfThenElse(typename V::Mask m, V a, V b) {
  return {m ? a.raw : b.raw};
}

inline F32 Pow2(F32 t) { return {reinterpret_cast<RawF32>(reinterpret_cast<RawBits32>(t.raw) << 23)}; }
inline F64 Pow2(F64 t) { return {reinterpret_cast<RawF64>(reinterpret_cast<RawBits64>(t.raw) << 52)}; }

inline F64 SplitExponent(F64 x, F64* mantissa) {
  const RawBits64 bits = reinterpret_cast<RawBits64>(x.raw);
  mantissa->raw = reinterpret_cast<RawF64>((bits & 0xfffffffffffffu) | 0x3ff0000000000000u);
  // With the exponent's bits in place of the lowest of 2^52, the number is 2^52 + exponent.
  return {reinterpret_cast<RawF64>((bits >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0)};
}

inline bool Any(RawMask32 m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
inline bool Any(RawMask64 m) { return (m[0] | m[1]) != 0; }

inline F64 PromoteLower(F32 v) {
  const RawHalfF32 half = __builtin_shufflevector(v.raw, v.raw, 0, 1);
  return {__builtin_convertvector(half, RawF64)};
}
inline F64 PromoteUpper(F32 v) {
  const RawHalfF32 half = __builtin_shufflevector(v.raw, v.raw, 2, 3);
  return {__builtin_convertvector(half, RawF64)};
}
inline F64 LoadIntegers(const int64_t* p) {
  RawMask64 x;
  memcpy(&x, p, sizeof x);
  return {__builtin_convertvector(x, RawF64)};
}
inline void StoreIntegers(int64_t* p, F64 v) {
  const RawMask64 x = __builtin_convertvector(v.raw, RawMask64);
  memcpy(p, &x, sizeof x);
}
inline F64 LoadPromoted(const float* p) {
  RawHalfF32 half;
  memcpy(&half, p, sizeof half);
  return {__builtin_convertvector(half, RawF64)};
}
inline F32 Demote(F64 lower, F64 upper) {
  const RawHalfF32 low = __builtin_convertvector(lower.raw, RawHalfF32);
  const RawHalfF32 high = __builtin_convertvector(upper.raw, RawHalfF32);
  return {__builtin_shufflevector(low, high, 0, 1, 2, 3)};
}

// ---- lanes ----

template <AnyVec V>
inline typename V::Scalar FirstLane(V v) {
  return v.raw[0];
}

template <AnyVec V>
inline typename V::Scalar ReduceMax(V v) {
  typename V::Scalar lanes[V::kLanes];
  memcpy(lanes, &v.raw, sizeof lanes);
  typename V::Scalar max = lanes[0];
  for (size_t i = 1; i < V::kLanes; ++i) max = lanes[i] > max ? lanes[i] : max;
  return max;
}

template <AnyVec V>
inline void ReduceAdd4(const V (&v)[4], typename V::Scalar* sums) {
  for (size_t j = 0; j < 4; ++j) {
    typename V::Scalar lanes[V::kLanes];
    memcpy(lanes, &v[j].raw, sizeof lanes);
    sums[j] = 0;
    for (size_t i = 0; i < V::kLanes; ++i) sums[j] += lanes[i];
  }
}

inline void StreamFence() {}

// A mask from one byte per lane.
template <class V>
inline typename V::Mask LoadMask(const uint8_t* p) {
  V ones;
  typename V::Scalar lanes[V::kLanes];
  for (size_t i = 0; i < V::kLanes; ++i) lanes[i] = p[i];
  memcpy(&ones.raw, lanes, sizeof lanes);
  return ones.raw != 0;
}
template <class V>
inline typename V::Mask LoadMaskN(const uint8_t* p, size_t n) {
  return MaskOfFirst<V>(p, n);
}
template <class V>
inline typename V::Mask FirstN(size_t n) {
  V index;
  typename V::Scalar lanes[V::kLanes];
  for (size_t i = 0; i < V::kLanes; ++i) lanes[i] = static_cast<typename V::Scalar>(i);
  memcpy(&index.raw, lanes, sizeof lanes);
  return index.raw < Set<V>(static_cast<typename V::Scalar>(n)).raw;
}

// ---- memory ----

using boltzmax::ToFloat;
inline float ToFloat(float x) { return x; }
inline double ToFloat(double x) { return x; }
inline void FromFloat(float x, float* out) { *out = x; }
inline void FromFloat(double x, double* out) { *out = x; }
inline void FromFloat(float x, BFloat16* out) { *out = ToBFloat16(x); }
inline void FromFloat(float x, Half* out) { *out = ToHalf(x); }

template <class S>
inline Vec<Compute<S>> Load(const S* p) {
  using V = Vec<Compute<S>>;
  V v;
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    memcpy(&v.raw, p, sizeof v.raw);
  } else {
    Compute<S> lanes[V::kLanes];
    for (size_t i = 0; i < V::kLanes; ++i) lanes[i] = ToFloat(p[i]);
    memcpy(&v.raw, lanes, sizeof lanes);
  }
  return v;
}
template <class S>
inline Vec<Compute<S>> LoadN(const S* p, size_t n, Compute<S> fill) {
  using V = Vec<Compute<S>>;
  if (n == V::kLanes) return Load(p);
  Compute<S> lanes[V::kLanes];
  for (size_t i = 0; i < V::kLanes; ++i) lanes[i] = fill;
  for (size_t i = 0; i < n; ++i) lanes[i] = ToFloat(p[i]);
  V v;
  memcpy(&v.raw, lanes, sizeof lanes);
  return v;
}
template <class S>
inline void StoreN(S* p, const Vec<Compute<S>>& v, size_t n) {
  Compute<S> lanes[Vec<Compute<S>>::kLanes];
  memcpy(lanes, &v.raw, sizeof lanes);
  for (size_t i = 0; i < n; ++i) FromFloat(lanes[i], p + i);
}
template <class S>
inline void Store(S* p, const Vec<Compute<S>>& v) {
  if constexpr (sizeof(S) == sizeof(Compute<S>)) {
    memcpy(p, &v.raw, sizeof v.raw);
  } else {
    StoreN(p, v, Vec<Compute<S>>::kLanes);
  }
}
template <class S>
inline void Stream(S* p, const Vec<Compute<S>>& v) {
  Store(p, v);
}

}  // namespace
}  // namespace boltzmax::kernels

#include "parts_of_16_bytes.hpp"

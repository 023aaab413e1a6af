// AVX2 + FMA + F16C (Haswell, Zen): 8 floats or 4 doubles. Tails of 16-bit numbers and masks go through a small buffer
// on the stack; tails of floats and doubles are masked loads, which never touch a byte beyond the row.
#pragma once

#include <immintrin.h>

#include "x86.hpp"

namespace boltzmax::kernels {
namespace {

// A lane mask: each lane is all ones or all zeros.
struct Mask32 {
  __m256 raw;
};
struct Mask64 {
  __m256d raw;
};

template <>
struct Vec<float> {
  using Scalar = float;
  static constexpr size_t kPart = 4;
  static constexpr size_t kInOrder = 16, kTransposed = 16;
  using Mask = Mask32;
  static constexpr size_t kLanes = 8;
  static constexpr size_t kUnroll = 4;
  static constexpr bool kHasFma = true;
  static constexpr int kNodes = 1;
  static constexpr bool kHasPick = true;
  __m256 raw;
};

template <>
struct Vec<double> {
  using Scalar = double;
  static constexpr size_t kPart = 2;
  static constexpr size_t kInOrder = 8, kTransposed = 8;
  using Mask = Mask64;
  static constexpr size_t kLanes = 4;
  static constexpr size_t kUnroll = 4;
  static constexpr bool kHasInverse = false;
  static constexpr bool kHasFma = true;
  static constexpr int kNodes = 1;
  static constexpr bool kHasPick = false;
  __m256d raw;
};

using F32 = Vec<float>;
using F64 = Vec<double>;

template <class V>
inline V Set(typename V::Scalar x);
template <>
inline F32 Set<F32>(float x) {
  return {_mm256_set1_ps(x)};
}
template <>
inline F64 Set<F64>(double x) {
  return {_mm256_set1_pd(x)};
}

inline F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.raw, b.raw)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.raw, b.raw)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.raw, b.raw)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.raw, b.raw)}; }
inline F32 MulAdd(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.raw, b.raw, c.raw)}; }
inline F32 NegMulAdd(F32 a, F32 b, F32 c) { return {_mm256_fnmadd_ps(a.raw, b.raw, c.raw)}; }
inline F32 Max(F32 a, F32 b) { return {_mm256_max_ps(a.raw, b.raw)}; }
inline F32 Abs(F32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.raw)}; }
inline Mask32 Lt(F32 a, F32 b) { return {_mm256_cmp_ps(a.raw, b.raw, _CMP_LT_OQ)}; }
inline Mask32 Eq(F32 a, F32 b) { return {_mm256_cmp_ps(a.raw, b.raw, _CMP_EQ_OQ)}; }
inline F32 IfThenElse(Mask32 m, F32 a, F32 b) { return {_mm256_blendv_ps(b.raw, a.raw, m.raw)}; }
inline F32 Pow2(F32 t) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t.raw), 23))}; }
inline float ReduceMax(F32 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v.raw), _mm256_extractf128_ps(v.raw, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
inline void ReduceAdd4(const F32 (&v)[4], float* sums) {
  const auto fold = [](__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  };
  const __m256 ab = fold(v[0].raw, v[1].raw), cd = fold(v[2].raw, v[3].raw);
  // a a c c | b b d d, then every sum twice.
  __m256 all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  all = _mm256_add_ps(all, _mm256_permute_ps(all, 0xb1));
  const __m128 ac = _mm256_castps256_ps128(all), bd = _mm256_extractf128_ps(all, 1);
  _mm_storeu_ps(sums, _mm_unpacklo_ps(_mm_shuffle_ps(ac, ac, 0x88), _mm_shuffle_ps(bd, bd, 0x88)));
}

inline F64 operator+(F64 a, F64 b) { return {_mm256_add_pd(a.raw, b.raw)}; }
inline F64 operator-(F64 a, F64 b) { return {_mm256_sub_pd(a.raw, b.raw)}; }
inline F64 operator*(F64 a, F64 b) { return {_mm256_mul_pd(a.raw, b.raw)}; }
inline F64 operator/(F64 a, F64 b) { return {_mm256_div_pd(a.raw, b.raw)}; }
inline F64 MulAdd(F64 a, F64 b, F64 c) { return {_mm256_fmadd_pd(a.raw, b.raw, c.raw)}; }
inline F64 NegMulAdd(F64 a, F64 b, F64 c) { return {_mm256_fnmadd_pd(a.raw, b.raw, c.raw)}; }
inline F64 Max(F64 a, F64 b) { return {_mm256_max_pd(a.raw, b.raw)}; }
inline F64 Abs(F64 a) { return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.raw)}; }
inline Mask64 Lt(F64 a, F64 b) { return {_mm256_cmp_pd(a.raw, b.raw, _CMP_LT_OQ)}; }
inline Mask64 Eq(F64 a, F64 b) { return {_mm256_cmp_pd(a.raw, b.raw, _CMP_EQ_OQ)}; }
inline F64 IfThenElse(Mask64 m, F64 a, F64 b) { return {_mm256_blendv_pd(b.raw, a.raw, m.raw)}; }
inline F64 Pow2(F64 t) { return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(t.raw), 52))}; }
inline F32 PickLanes(F32 v, const uint8_t* p) {
  const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_permutevar8x32_ps(v.raw, lanes)};
}

inline bool Any(Mask32 m) { return _mm256_movemask_ps(m.raw) != 0; }
inline bool Any(Mask64 m) { return _mm256_movemask_pd(m.raw) != 0; }
inline F64 SplitExponent(F64 x, F64* mantissa) {
  const __m256i bits = _mm256_castpd_si256(x.raw);
  const __m256d fraction = _mm256_and_pd(x.raw, _mm256_castsi256_pd(_mm256_set1_epi64x(0xfffffffffffff)));
  mantissa->raw = _mm256_or_pd(fraction, _mm256_set1_pd(1.0));
  // With the exponent's bits in place of the lowest of 2^52, the number is 2^52 + exponent.
  const __m256i biased = _mm256_or_si256(_mm256_srli_epi64(bits, 52), _mm256_castpd_si256(_mm256_set1_pd(0x1p52)));
  return {_mm256_sub_pd(_mm256_castsi256_pd(biased), _mm256_set1_pd(0x1p52 + 1023.0))};
}
inline double ReduceMax(F64 v) {
  const __m128d m = _mm_max_pd(_mm256_castpd256_pd128(v.raw), _mm256_extractf128_pd(v.raw, 1));
  return _mm_cvtsd_f64(_mm_max_sd(m, _mm_unpackhi_pd(m, m)));
}
inline void ReduceAdd4(const F64 (&v)[4], double* sums) {
  const auto fold = [](__m256d a, __m256d b) {
    return _mm256_add_pd(_mm256_permute2f128_pd(a, b, 0x20), _mm256_permute2f128_pd(a, b, 0x31));
  };
  const __m256d ab = fold(v[0].raw, v[1].raw), cd = fold(v[2].raw, v[3].raw);
  const __m256d acbd = _mm256_add_pd(_mm256_unpacklo_pd(ab, cd), _mm256_unpackhi_pd(ab, cd));
  _mm256_storeu_pd(sums, _mm256_permute4x64_pd(acbd, 0xd8));
}

inline F64 PromoteLower(F32 v) { return {_mm256_cvtps_pd(_mm256_castps256_ps128(v.raw))}; }
inline F64 PromoteUpper(F32 v) { return {_mm256_cvtps_pd(_mm256_extractf128_ps(v.raw, 1))}; }
// The bits of 1.5 * 2^52 + integer are the bits of 1.5 * 2^52 plus the integer.
inline F64 LoadIntegers(const int64_t* p) {
  const __m256d magic = _mm256_set1_pd(0x1.8p52);
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm256_sub_pd(_mm256_castsi256_pd(_mm256_add_epi64(x, _mm256_castpd_si256(magic))), magic)};
}
inline void StoreIntegers(int64_t* p, F64 v) {
  const __m256d magic = _mm256_set1_pd(0x1.8p52);
  const __m256i bits = _mm256_castpd_si256(_mm256_add_pd(v.raw, magic));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_sub_epi64(bits, _mm256_castpd_si256(magic)));
}
inline F64 LoadPromoted(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p))}; }
inline F32 Demote(F64 lower, F64 upper) {
  return {_mm256_set_m128(_mm256_cvtpd_ps(upper.raw), _mm256_cvtpd_ps(lower.raw))};
}

// ---- lanes ----

inline float FirstLane(F32 v) { return _mm256_cvtss_f32(v.raw); }
inline double FirstLane(F64 v) { return _mm256_cvtsd_f64(v.raw); }

inline __m256i FirstN32(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i FirstN64(size_t n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)), _mm256_setr_epi64x(0, 1, 2, 3));
}
template <class V>
inline typename V::Mask FirstN(size_t n);
template <>
inline Mask32 FirstN<F32>(size_t n) {
  return {_mm256_castsi256_ps(FirstN32(n))};
}
template <>
inline Mask64 FirstN<F64>(size_t n) {
  return {_mm256_castsi256_pd(FirstN64(n))};
}

template <class V>
inline typename V::Mask LoadMask(const uint8_t* p);
template <>
inline Mask32 LoadMask<F32>(const uint8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m256i lanes = _mm256_cmpgt_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_setzero_si256());
  return {_mm256_castsi256_ps(lanes)};
}
template <>
inline Mask64 LoadMask<F64>(const uint8_t* p) {
  int four;
  memcpy(&four, p, sizeof four);
  const __m256i wide = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
  return {_mm256_castsi256_pd(_mm256_cmpgt_epi64(wide, _mm256_setzero_si256()))};
}
template <class V>
inline typename V::Mask LoadMaskN(const uint8_t* p, size_t n) {
  return MaskOfFirst<V>(p, n);
}

// ---- float ----

inline F32 Load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline F32 LoadN(const float* p, size_t n, float fill) {
  const __m256i lanes = FirstN32(n);
  return IfThenElse(Mask32{_mm256_castsi256_ps(lanes)}, F32{_mm256_maskload_ps(p, lanes)}, Set<F32>(fill));
}
inline void Store(float* p, F32 v) { _mm256_storeu_ps(p, v.raw); }
inline void StoreN(float* p, F32 v, size_t n) { _mm256_maskstore_ps(p, FirstN32(n), v.raw); }
inline void Stream(float* p, F32 v) { _mm256_stream_ps(p, v.raw); }

// ---- double ----

inline F64 Load(const double* p) { return {_mm256_loadu_pd(p)}; }
inline F64 LoadN(const double* p, size_t n, double fill) {
  const __m256i lanes = FirstN64(n);
  return IfThenElse(Mask64{_mm256_castsi256_pd(lanes)}, F64{_mm256_maskload_pd(p, lanes)}, Set<F64>(fill));
}
inline void Store(double* p, F64 v) { _mm256_storeu_pd(p, v.raw); }
inline void StoreN(double* p, F64 v, size_t n) { _mm256_maskstore_pd(p, FirstN64(n), v.raw); }
inline void Stream(double* p, F64 v) { _mm256_stream_pd(p, v.raw); }

// ---- 16-bit storage ----

inline F32 Widen(__m128i bits, Half) { return {_mm256_cvtph_ps(bits)}; }
inline F32 Widen(__m128i bits, BFloat16) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline __m128i Narrow(F32 v, Half) { return _mm256_cvtps_ph(v.raw, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m128i Narrow(F32 v, BFloat16) {
  const __m256i bits = _mm256_castps_si256(v.raw);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i high = _mm256_srli_epi32(rounded, 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}

template <Storage16 S>
inline F32 Load(const S* p) {
  return Widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), S{});
}
template <Storage16 S>
inline F32 LoadN(const S* p, size_t n, float fill) {
  S lanes[F32::kLanes] = {};
  memcpy(lanes, p, n * sizeof(S));
  return IfThenElse(FirstN<F32>(n), Load(lanes), Set<F32>(fill));
}
template <Storage16 S>
inline void Store(S* p, F32 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), Narrow(v, S{}));
}
template <Storage16 S>
inline void StoreN(S* p, F32 v, size_t n) {
  S lanes[F32::kLanes];
  Store(lanes, v);
  memcpy(p, lanes, n * sizeof(S));
}
template <Storage16 S>
inline void Stream(S* p, F32 v) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), Narrow(v, S{}));
}

// ---- parts: see vec_concept.hpp ----

inline __m128 LoadPartN(const float* p, size_t n) {
  if (n == 1) return _mm_load_ss(p);
  const __m128 two = _mm_loadl_pi(_mm_setzero_ps(), reinterpret_cast<const __m64*>(p));
  return n == 2 ? two : _mm_movelh_ps(two, _mm_load_ss(p + 2));
}
inline void StorePart(float* p, __m128 v) { _mm_storeu_ps(p, v); }
inline void StorePart(double* p, __m128d v) { _mm_storeu_pd(p, v); }
inline void StorePartN(float* p, __m128 v, size_t n) {
  if (n == 1) return _mm_store_ss(p, v);
  _mm_storel_pi(reinterpret_cast<__m64*>(p), v);
  if (n == 3) _mm_store_ss(p + 2, _mm_movehl_ps(v, v));
}
inline void StorePartN(double* p, __m128d v, size_t) { _mm_store_sd(p, v); }
inline F32 JoinParts(__m128 low, __m128 high) { return {_mm256_set_m128(high, low)}; }
inline F64 JoinParts(__m128d low, __m128d high) { return {_mm256_set_m128d(high, low)}; }
inline __m128 LowPart(F32 v) { return _mm256_castps256_ps128(v.raw); }
inline __m128d LowPart(F64 v) { return _mm256_castpd256_pd128(v.raw); }
inline __m128 HighPart(F32 v) { return _mm256_extractf128_ps(v.raw, 1); }
inline __m128d HighPart(F64 v) { return _mm256_extractf128_pd(v.raw, 1); }

template <class T, class Rows>
inline Vec<T> LoadParts(const T* p, Rows rows) {
  return JoinParts(LoadPart(RowAt(p, rows, 0)), LoadPart(RowAt(p, rows, Vec<T>::kPart)));
}
template <class T, class Rows>
inline Vec<T> LoadPartsN(const T* p, Rows rows, size_t n) {
  return JoinParts(LoadPartN(RowAt(p, rows, 0), n), LoadPartN(RowAt(p, rows, Vec<T>::kPart), n));
}
template <class T, class Rows>
inline void StoreParts(T* p, Rows rows, Vec<T> v) {
  StorePart(RowAt(p, rows, 0), LowPart(v));
  StorePart(RowAt(p, rows, Vec<T>::kPart), HighPart(v));
}
template <class T, class Rows>
inline void StorePartsN(T* p, Rows rows, Vec<T> v, size_t n) {
  StorePartN(RowAt(p, rows, 0), LowPart(v), n);
  StorePartN(RowAt(p, rows, Vec<T>::kPart), HighPart(v), n);
}
inline __m128i JoinParts16(uint64_t low, uint64_t high) {
  return _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
}
template <Storage16 S, class Rows>
inline F32 LoadParts(const S* p, Rows rows) {
  return Widen(JoinParts16(LoadPart16(RowAt(p, rows, 0)), LoadPart16(RowAt(p, rows, 4))), S{});
}
template <Storage16 S, class Rows>
inline F32 LoadPartsN(const S* p, Rows rows, size_t n) {
  return Widen(JoinParts16(LoadPartTail(RowAt(p, rows, 0), n), LoadPartTail(RowAt(p, rows, 4), n)), S{});
}

inline F32 UnpackLowPairs(F32 a, F32 b) {
  return {_mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a.raw), _mm256_castps_pd(b.raw)))};
}
inline F32 UnpackHighPairs(F32 a, F32 b) {
  return {_mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a.raw), _mm256_castps_pd(b.raw)))};
}
inline F32 UnpackLow(F32 a, F32 b) { return {_mm256_unpacklo_ps(a.raw, b.raw)}; }
inline F32 UnpackHigh(F32 a, F32 b) { return {_mm256_unpackhi_ps(a.raw, b.raw)}; }
inline F64 UnpackLow(F64 a, F64 b) { return {_mm256_unpacklo_pd(a.raw, b.raw)}; }
inline F64 UnpackHigh(F64 a, F64 b) { return {_mm256_unpackhi_pd(a.raw, b.raw)}; }

// The lower halves of a and b; then the upper halves.
inline F32 JoinLowHalves(F32 a, F32 b) { return {_mm256_permute2f128_ps(a.raw, b.raw, 0x20)}; }
inline F32 JoinHighHalves(F32 a, F32 b) { return {_mm256_permute2f128_ps(a.raw, b.raw, 0x31)}; }
inline F64 JoinLowHalves(F64 a, F64 b) { return {_mm256_permute2f128_pd(a.raw, b.raw, 0x20)}; }
inline F64 JoinHighHalves(F64 a, F64 b) { return {_mm256_permute2f128_pd(a.raw, b.raw, 0x31)}; }

}  // namespace
}  // namespace boltzmax::kernels

#include "parts_of_16_bits.hpp"

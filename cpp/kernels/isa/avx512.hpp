// AVX-512 (F, BW, VL, DQ): 16 floats or 8 doubles. Tails are masked loads and stores, which never touch a byte
// beyond the row.
#pragma once

#include <immintrin.h>

#include "../exp_constants.hpp"
#include "x86.hpp"

namespace boltzmax::kernels {
namespace {

template <>
struct Vec<float> {
  using Scalar = float;
  static constexpr size_t kPart = 4;
  static constexpr size_t kInOrder = 40, kTransposed = 12;
  using Mask = __mmask16;
  static constexpr size_t kLanes = 16;
  static constexpr size_t kUnroll = 8;
  static constexpr bool kHasFma = true;
  static constexpr int kNodes = 16;
  static constexpr bool kHasPick = true;
  __m512 raw;
};

template <>
struct Vec<double> {
  using Scalar = double;
  static constexpr size_t kPart = 2;
  static constexpr size_t kInOrder = 12, kTransposed = 12;
  using Mask = __mmask8;
  static constexpr size_t kLanes = 8;
  static constexpr size_t kUnroll = 8;
  static constexpr bool kHasInverse = true;
  static constexpr bool kHasFma = true;
  static constexpr int kNodes = 8;
  static constexpr bool kHasPick = true;
  __m512d raw;
};

using F32 = Vec<float>;
using F64 = Vec<double>;

template <class V>
inline V Set(typename V::Scalar x);
template <>
inline F32 Set<F32>(float x) {
  return {_mm512_set1_ps(x)};
}
template <>
inline F64 Set<F64>(double x) {
  return {_mm512_set1_pd(x)};
}

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.raw, b.raw)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.raw, b.raw)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.raw, b.raw)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.raw, b.raw)}; }
inline F32 MulAdd(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.raw, b.raw, c.raw)}; }
inline F32 NegMulAdd(F32 a, F32 b, F32 c) { return {_mm512_fnmadd_ps(a.raw, b.raw, c.raw)}; }
inline F32 Max(F32 a, F32 b) { return {_mm512_max_ps(a.raw, b.raw)}; }
inline F32 Abs(F32 a) { return {_mm512_abs_ps(a.raw)}; }
inline __mmask16 Lt(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.raw, b.raw, _CMP_LT_OQ); }
inline __mmask16 Eq(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.raw, b.raw, _CMP_EQ_OQ); }
inline F32 IfThenElse(__mmask16 m, F32 a, F32 b) { return {_mm512_mask_blend_ps(m, b.raw, a.raw)}; }
inline F32 Pow2(F32 t) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t.raw), 23))}; }
// A permutation uses only the low bits of an index.
inline F32 NodePower(F32 t) {
  return {_mm512_permutexvar_ps(_mm512_castps_si512(t.raw), _mm512_load_ps(ExpReduction<float, 16>::kPower))};
}
inline F32 NodeRest(F32 t) {
  return {_mm512_permutexvar_ps(_mm512_castps_si512(t.raw), _mm512_load_ps(ExpReduction<float, 16>::kRest))};
}
inline __mmask16 NotLess(F32 a, F32 b) { return _mm512_cmp_ps_mask(a.raw, b.raw, _CMP_NLT_UQ); }
inline F32 ScaleIf(__mmask16 m, F32 v, F32 k) { return {_mm512_maskz_scalef_ps(m, v.raw, k.raw)}; }
inline float ReduceMax(F32 v) { return _mm512_reduce_max_ps(v.raw); }
// Halves onto halves, two vectors in one: [a b] from a and b, then [a b c d], each in a quarter.
inline void ReduceAdd4(const F32 (&v)[4], float* sums) {
  const auto fold = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  };
  const __m512 ab = fold(v[0].raw, v[1].raw), cd = fold(v[2].raw, v[3].raw);
  __m512 all = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e));
  all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1));
  _mm_storeu_ps(sums, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, all)));
}

inline F64 operator+(F64 a, F64 b) { return {_mm512_add_pd(a.raw, b.raw)}; }
inline F64 operator-(F64 a, F64 b) { return {_mm512_sub_pd(a.raw, b.raw)}; }
inline F64 operator*(F64 a, F64 b) { return {_mm512_mul_pd(a.raw, b.raw)}; }
inline F64 operator/(F64 a, F64 b) { return {_mm512_div_pd(a.raw, b.raw)}; }
inline F64 MulAdd(F64 a, F64 b, F64 c) { return {_mm512_fmadd_pd(a.raw, b.raw, c.raw)}; }
inline F64 NegMulAdd(F64 a, F64 b, F64 c) { return {_mm512_fnmadd_pd(a.raw, b.raw, c.raw)}; }
inline F64 Max(F64 a, F64 b) { return {_mm512_max_pd(a.raw, b.raw)}; }
inline F64 Abs(F64 a) { return {_mm512_abs_pd(a.raw)}; }
inline __mmask8 Lt(F64 a, F64 b) { return _mm512_cmp_pd_mask(a.raw, b.raw, _CMP_LT_OQ); }
inline __mmask8 Eq(F64 a, F64 b) { return _mm512_cmp_pd_mask(a.raw, b.raw, _CMP_EQ_OQ); }
inline F64 IfThenElse(__mmask8 m, F64 a, F64 b) { return {_mm512_mask_blend_pd(m, b.raw, a.raw)}; }
inline F64 Pow2(F64 t) { return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(t.raw), 52))}; }
inline F64 NodePower(F64 t) {
  return {_mm512_permutexvar_pd(_mm512_castpd_si512(t.raw), _mm512_load_pd(ExpReduction<double, 8>::kPower))};
}
inline F64 NodeRest(F64 t) {
  return {_mm512_permutexvar_pd(_mm512_castpd_si512(t.raw), _mm512_load_pd(ExpReduction<double, 8>::kRest))};
}
inline __mmask8 NotLess(F64 a, F64 b) { return _mm512_cmp_pd_mask(a.raw, b.raw, _CMP_NLT_UQ); }
inline F64 ScaleIf(__mmask8 m, F64 v, F64 k) { return {_mm512_maskz_scalef_pd(m, v.raw, k.raw)}; }
inline double ReduceMax(F64 v) { return _mm512_reduce_max_pd(v.raw); }
inline void ReduceAdd4(const F64 (&v)[4], double* sums) {
  const auto fold = [](__m512d a, __m512d b) {
    return _mm512_add_pd(_mm512_shuffle_f64x2(a, b, 0x44), _mm512_shuffle_f64x2(a, b, 0xee));
  };
  const __m512d ab = fold(v[0].raw, v[1].raw), cd = fold(v[2].raw, v[3].raw);
  __m512d all = _mm512_add_pd(_mm512_shuffle_f64x2(ab, cd, 0x88), _mm512_shuffle_f64x2(ab, cd, 0xdd));
  all = _mm512_add_pd(all, _mm512_permute_pd(all, 0x55));
  _mm256_storeu_pd(sums, _mm512_castpd512_pd256(_mm512_maskz_compress_pd(0x55, all)));
}
// 1 / v with a relative error of at most 2^-14.
inline F64 InverseEstimate(F64 v) { return {_mm512_rcp14_pd(v.raw)}; }
inline F64 SplitExponent(F64 x, F64* mantissa) {
  mantissa->raw = _mm512_getmant_pd(x.raw, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  return {_mm512_getexp_pd(x.raw)};
}

inline F32 PickLanes(F32 v, const uint8_t* p) {
  const __m512i lanes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm512_permutexvar_ps(lanes, v.raw)};
}
inline F64 PickLanes(F64 v, const uint8_t* p) {
  const __m512i lanes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return {_mm512_permutexvar_pd(lanes, v.raw)};
}

inline bool Any(__mmask16 m) { return m != 0; }
inline bool Any(__mmask8 m) { return m != 0; }

inline F64 PromoteLower(F32 v) { return {_mm512_cvtps_pd(_mm512_castps512_ps256(v.raw))}; }
inline F64 PromoteUpper(F32 v) { return {_mm512_cvtps_pd(_mm512_extractf32x8_ps(v.raw, 1))}; }
inline F64 LoadIntegers(const int64_t* p) { return {_mm512_cvtepi64_pd(_mm512_loadu_si512(p))}; }
inline void StoreIntegers(int64_t* p, F64 v) { _mm512_storeu_si512(p, _mm512_cvtpd_epi64(v.raw)); }
inline F64 LoadPromoted(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }
inline F32 Demote(F64 lower, F64 upper) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(lower.raw)), _mm512_cvtpd_ps(upper.raw), 1)};
}

// ---- lanes ----

inline float FirstLane(F32 v) { return _mm512_cvtss_f32(v.raw); }
inline double FirstLane(F64 v) { return _mm512_cvtsd_f64(v.raw); }

template <class V>
inline typename V::Mask FirstN(size_t n) {
  return static_cast<typename V::Mask>((1u << n) - 1u);
}
template <class V>
inline typename V::Mask LoadMask(const uint8_t* p);
template <>
inline __mmask16 LoadMask<F32>(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm_test_epi8_mask(bytes, bytes);
}
template <>
inline __mmask8 LoadMask<F64>(const uint8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return static_cast<__mmask8>(_mm_test_epi8_mask(bytes, bytes));
}
template <class V>
inline typename V::Mask LoadMaskN(const uint8_t* p, size_t n) {
  const __m128i bytes = _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << n) - 1u), p);
  return static_cast<typename V::Mask>(_mm_test_epi8_mask(bytes, bytes));
}

// ---- float ----

inline F32 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F32 LoadN(const float* p, size_t n, float fill) {
  return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), FirstN<F32>(n), p)};
}
inline void Store(float* p, F32 v) { _mm512_storeu_ps(p, v.raw); }
inline void StoreN(float* p, F32 v, size_t n) { _mm512_mask_storeu_ps(p, FirstN<F32>(n), v.raw); }
inline void Stream(float* p, F32 v) { _mm512_stream_ps(p, v.raw); }

// ---- double ----

inline F64 Load(const double* p) { return {_mm512_loadu_pd(p)}; }
inline F64 LoadN(const double* p, size_t n, double fill) {
  return {_mm512_mask_loadu_pd(_mm512_set1_pd(fill), FirstN<F64>(n), p)};
}
inline void Store(double* p, F64 v) { _mm512_storeu_pd(p, v.raw); }
inline void StoreN(double* p, F64 v, size_t n) { _mm512_mask_storeu_pd(p, FirstN<F64>(n), v.raw); }
inline void Stream(double* p, F64 v) { _mm512_stream_pd(p, v.raw); }

// ---- 16-bit storage ----

inline F32 Widen(__m256i bits, Half) { return {_mm512_cvtph_ps(bits)}; }
inline F32 Widen(__m256i bits, BFloat16) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline __m256i Narrow(F32 v, Half) { return _mm512_cvtps_ph(v.raw, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m256i Narrow(F32 v, BFloat16) {
  const __m512i bits = _mm512_castps_si512(v.raw), below_half = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __m512i rounded = _mm512_mask_add_epi32(below_half, odd, below_half, _mm512_set1_epi32(1));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

template <Storage16 S>
inline F32 Load(const S* p) {
  return Widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), S{});
}
template <Storage16 S>
inline F32 LoadN(const S* p, size_t n, float fill) {
  const __mmask16 lanes = FirstN<F32>(n);
  return IfThenElse(lanes, Widen(_mm256_maskz_loadu_epi16(lanes, p), S{}), Set<F32>(fill));
}
template <Storage16 S>
inline void Store(S* p, F32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), Narrow(v, S{}));
}
template <Storage16 S>
inline void StoreN(S* p, F32 v, size_t n) {
  __mmask16 lanes = FirstN<F32>(n);
  asm("" : "+k"(lanes));  // Where Clang 22 sees a mask of one lane, it stores four bytes instead of two.
  _mm256_mask_storeu_epi16(p, lanes, Narrow(v, S{}));
}
template <Storage16 S>
inline void Stream(S* p, F32 v) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), Narrow(v, S{}));
}

// ---- parts: see vec_concept.hpp ----

inline __m128 LoadPartN(const float* p, size_t n) { return _mm_maskz_loadu_ps(FirstN<F32>(n) & 0xf, p); }
// Masked broadcasts from memory use two ports, insertions one.
inline F32 JoinParts(__m128 a, __m128 b, __m128 c, __m128 d) {
  const __m512 v = _mm512_mask_broadcast_f32x4(_mm512_castps128_ps512(a), 0x00f0, b);
  return {_mm512_mask_broadcast_f32x4(_mm512_mask_broadcast_f32x4(v, 0x0f00, c), 0xf000, d)};
}
inline F64 JoinParts(__m128d a, __m128d b, __m128d c, __m128d d) {
  const __m512d v = _mm512_insertf64x2(_mm512_castpd128_pd512(a), b, 1);
  return {_mm512_insertf64x2(_mm512_insertf64x2(v, c, 2), d, 3)};
}
template <class T, class Rows>
inline Vec<T> LoadParts(const T* p, Rows rows) {
  constexpr size_t kPart = Vec<T>::kPart;
  return JoinParts(LoadPart(RowAt(p, rows, 0)), LoadPart(RowAt(p, rows, kPart)), LoadPart(RowAt(p, rows, 2 * kPart)),
                   LoadPart(RowAt(p, rows, 3 * kPart)));
}
template <class T, class Rows>
inline Vec<T> LoadPartsN(const T* p, Rows rows, size_t n) {
  constexpr size_t kPart = Vec<T>::kPart;
  return JoinParts(LoadPartN(RowAt(p, rows, 0), n), LoadPartN(RowAt(p, rows, kPart), n),
                   LoadPartN(RowAt(p, rows, 2 * kPart), n), LoadPartN(RowAt(p, rows, 3 * kPart), n));
}
template <Storage16 S>
inline F32 JoinParts16(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return Widen(_mm256_setr_epi64x(static_cast<long long>(a), static_cast<long long>(b), static_cast<long long>(c),
                                  static_cast<long long>(d)),
               S{});
}
template <Storage16 S, class Rows>
inline F32 LoadParts(const S* p, Rows rows) {
  return JoinParts16<S>(LoadPart16(RowAt(p, rows, 0)), LoadPart16(RowAt(p, rows, 4)), LoadPart16(RowAt(p, rows, 8)),
                        LoadPart16(RowAt(p, rows, 12)));
}
template <Storage16 S, class Rows>
inline F32 LoadPartsN(const S* p, Rows rows, size_t n) {
  return JoinParts16<S>(LoadPartTail(RowAt(p, rows, 0), n), LoadPartTail(RowAt(p, rows, 4), n),
                        LoadPartTail(RowAt(p, rows, 8), n), LoadPartTail(RowAt(p, rows, 12), n));
}

// By halves: storing a 16-byte part of a 64-byte register takes a shuffle, the upper half of a 32-byte register does
// not.
template <class Rows>
inline void StoreParts(float* p, Rows rows, F32 v) {
  const __m256 low = _mm512_castps512_ps256(v.raw), high = _mm512_extractf32x8_ps(v.raw, 1);
  _mm_storeu_ps(RowAt(p, rows, 0), _mm256_castps256_ps128(low));
  _mm_storeu_ps(RowAt(p, rows, 4), _mm256_extractf128_ps(low, 1));
  _mm_storeu_ps(RowAt(p, rows, 8), _mm256_castps256_ps128(high));
  _mm_storeu_ps(RowAt(p, rows, 12), _mm256_extractf128_ps(high, 1));
}
// Some lanes of a part. Extracting the part and storing it must be two instructions: GCC would join them into one that
// faults for lanes that are masked out, too (VEXTRACTF32X4 to memory, of class E6NF in Intel's manual).
inline void StorePart(float* p, __mmask8 lanes, __m128 part) {
  asm("" : "+v"(part));
  _mm_mask_storeu_ps(p, lanes, part);
}
template <class Rows>
inline void StorePartsN(float* p, Rows rows, F32 v, size_t n) {
  const __m256 low = _mm512_castps512_ps256(v.raw), high = _mm512_extractf32x8_ps(v.raw, 1);
  const __mmask8 lanes = FirstN<F32>(n) & 0xf;
  StorePart(RowAt(p, rows, 0), lanes, _mm256_castps256_ps128(low));
  StorePart(RowAt(p, rows, 4), lanes, _mm256_extractf128_ps(low, 1));
  StorePart(RowAt(p, rows, 8), lanes, _mm256_castps256_ps128(high));
  StorePart(RowAt(p, rows, 12), lanes, _mm256_extractf128_ps(high, 1));
}
template <class Rows>
inline void StoreParts(double* p, Rows rows, F64 v) {
  const __m256d low = _mm512_castpd512_pd256(v.raw), high = _mm512_extractf64x4_pd(v.raw, 1);
  _mm_storeu_pd(RowAt(p, rows, 0), _mm256_castpd256_pd128(low));
  _mm_storeu_pd(RowAt(p, rows, 2), _mm256_extractf128_pd(low, 1));
  _mm_storeu_pd(RowAt(p, rows, 4), _mm256_castpd256_pd128(high));
  _mm_storeu_pd(RowAt(p, rows, 6), _mm256_extractf128_pd(high, 1));
}
template <class Rows>
inline void StorePartsN(double* p, Rows rows, F64 v, size_t) {
  const __m256d low = _mm512_castpd512_pd256(v.raw), high = _mm512_extractf64x4_pd(v.raw, 1);
  _mm_store_sd(RowAt(p, rows, 0), _mm256_castpd256_pd128(low));
  _mm_store_sd(RowAt(p, rows, 2), _mm256_extractf128_pd(low, 1));
  _mm_store_sd(RowAt(p, rows, 4), _mm256_castpd256_pd128(high));
  _mm_store_sd(RowAt(p, rows, 6), _mm256_extractf128_pd(high, 1));
}

inline F32 UnpackLowPairs(F32 a, F32 b) {
  return {_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a.raw), _mm512_castps_pd(b.raw)))};
}
inline F32 UnpackHighPairs(F32 a, F32 b) {
  return {_mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a.raw), _mm512_castps_pd(b.raw)))};
}
inline F32 UnpackLow(F32 a, F32 b) { return {_mm512_unpacklo_ps(a.raw, b.raw)}; }
inline F32 UnpackHigh(F32 a, F32 b) { return {_mm512_unpackhi_ps(a.raw, b.raw)}; }
inline F64 UnpackLow(F64 a, F64 b) { return {_mm512_unpacklo_pd(a.raw, b.raw)}; }
inline F64 UnpackHigh(F64 a, F64 b) { return {_mm512_unpackhi_pd(a.raw, b.raw)}; }

// The lower halves of a and b, the upper ones, the even quarters, the odd ones.
inline F32 JoinLowHalves(F32 a, F32 b) { return {_mm512_shuffle_f32x4(a.raw, b.raw, 0x44)}; }
inline F32 JoinHighHalves(F32 a, F32 b) { return {_mm512_shuffle_f32x4(a.raw, b.raw, 0xee)}; }
inline F32 JoinEvenQuarters(F32 a, F32 b) { return {_mm512_shuffle_f32x4(a.raw, b.raw, 0x88)}; }
inline F32 JoinOddQuarters(F32 a, F32 b) { return {_mm512_shuffle_f32x4(a.raw, b.raw, 0xdd)}; }
inline F64 JoinLowHalves(F64 a, F64 b) { return {_mm512_shuffle_f64x2(a.raw, b.raw, 0x44)}; }
inline F64 JoinHighHalves(F64 a, F64 b) { return {_mm512_shuffle_f64x2(a.raw, b.raw, 0xee)}; }
inline F64 JoinEvenQuarters(F64 a, F64 b) { return {_mm512_shuffle_f64x2(a.raw, b.raw, 0x88)}; }
inline F64 JoinOddQuarters(F64 a, F64 b) { return {_mm512_shuffle_f64x2(a.raw, b.raw, 0xdd)}; }

}  // namespace
}  // namespace boltzmax::kernels

#include "parts_of_16_bits.hpp"

// Integers in the lanes of vectors: Lanes64, as many as Vec<double> has, and Bits32, as many as Vec<float> has.
//
//   SetLanes(x)  LoadLanes64(p)  a + b   64-bit lanes
//   SetHalves(x)                         x in both halves of every lane
//   Product(a, b)                        products of the lower halves
//   UpperHalf(a)                         shifted down by 32 bits
//   Xor(a, b, c)
//   Interleave(a, b)                     the lower halves of a, and those of b above them
//   StoreEven(p, a, b)  StoreOdd(...)    the even (odd) lanes of a and b, alternating
//   LoadBits(p)  SetBits(x)              32-bit lanes
//   BitsOf(v)  FloatOf(b)                the bits of floats
//   a - b  And(a, b)  Halve(a)           Halve is a shift of unsigned numbers
//   ToFloat(a)                           from signed integers
//   LoadSigned<V>(p)                     signed 32-bit integers as numbers of V
//   SquareRoot(v)
//   Ratio(a, b)                          a / b of blocks to within an ULP, for b > 0 that is neither tiny nor huge
#pragma once

#include "../isa/block.hpp"

namespace boltzmax::kernels {
namespace {

using F32 = Vec<float>;
using F64 = Vec<double>;

#if defined(__AVX512F__)

struct Lanes64 {
  __m512i raw;
};
struct Bits32 {
  __m512i raw;
};
inline Lanes64 SetLanes(uint64_t x) { return {_mm512_set1_epi64(static_cast<long long>(x))}; }
inline Lanes64 SetHalves(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
inline Lanes64 LoadLanes64(const uint64_t* p) { return {_mm512_loadu_si512(p)}; }
inline Lanes64 operator+(Lanes64 a, Lanes64 b) { return {_mm512_add_epi64(a.raw, b.raw)}; }
inline Lanes64 Product(Lanes64 a, Lanes64 b) { return {_mm512_mul_epu32(a.raw, b.raw)}; }
inline Lanes64 UpperHalf(Lanes64 a) { return {_mm512_srli_epi64(a.raw, 32)}; }
inline Lanes64 Xor(Lanes64 a, Lanes64 b, Lanes64 c) { return {_mm512_ternarylogic_epi64(a.raw, b.raw, c.raw, 0x96)}; }
inline Lanes64 Interleave(Lanes64 a, Lanes64 b) {
  return {_mm512_mask_shuffle_epi32(a.raw, 0xaaaa, b.raw, _MM_PERM_CCAA)};
}
inline void StoreEven(uint32_t* p, Lanes64 a, Lanes64 b) {
  _mm512_storeu_si512(p, _mm512_unpacklo_epi64(a.raw, b.raw));
}
inline void StoreOdd(uint32_t* p, Lanes64 a, Lanes64 b) { _mm512_storeu_si512(p, _mm512_unpackhi_epi64(a.raw, b.raw)); }
inline void StoreLanes64(uint32_t* p, Lanes64 a) { _mm512_storeu_si512(p, a.raw); }

inline Bits32 LoadBits(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
inline Bits32 SetBits(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
inline Bits32 BitsOf(F32 v) { return {_mm512_castps_si512(v.raw)}; }
inline F32 FloatOf(Bits32 b) { return {_mm512_castsi512_ps(b.raw)}; }
inline Bits32 operator-(Bits32 a, Bits32 b) { return {_mm512_sub_epi32(a.raw, b.raw)}; }
inline Bits32 And(Bits32 a, Bits32 b) { return {_mm512_and_si512(a.raw, b.raw)}; }
inline Bits32 Halve(Bits32 a) { return {_mm512_srli_epi32(a.raw, 1)}; }
inline F32 ToFloat(Bits32 a) { return {_mm512_cvtepi32_ps(a.raw)}; }
inline F64 LoadSigned(const uint32_t* p, F64) {
  return {_mm512_cvtepi32_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline F32 SquareRoot(F32 v) { return {_mm512_sqrt_ps(v.raw)}; }
inline F64 SquareRoot(F64 v) { return {_mm512_sqrt_pd(v.raw)}; }

#elif defined(__AVX2__)

struct Lanes64 {
  __m256i raw;
};
struct Bits32 {
  __m256i raw;
};
inline Lanes64 SetLanes(uint64_t x) { return {_mm256_set1_epi64x(static_cast<long long>(x))}; }
inline Lanes64 SetHalves(uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
inline Lanes64 LoadLanes64(const uint64_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline Lanes64 operator+(Lanes64 a, Lanes64 b) { return {_mm256_add_epi64(a.raw, b.raw)}; }
inline Lanes64 Product(Lanes64 a, Lanes64 b) { return {_mm256_mul_epu32(a.raw, b.raw)}; }
inline Lanes64 UpperHalf(Lanes64 a) { return {_mm256_srli_epi64(a.raw, 32)}; }
inline Lanes64 Xor(Lanes64 a, Lanes64 b, Lanes64 c) {
  return {_mm256_xor_si256(_mm256_xor_si256(a.raw, b.raw), c.raw)};
}
inline Lanes64 Interleave(Lanes64 a, Lanes64 b) {
  return {_mm256_blend_epi32(a.raw, _mm256_slli_epi64(b.raw, 32), 0xaa)};
}
inline void StoreLanes64(uint32_t* p, Lanes64 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.raw); }
inline void StoreEven(uint32_t* p, Lanes64 a, Lanes64 b) { StoreLanes64(p, {_mm256_unpacklo_epi64(a.raw, b.raw)}); }
inline void StoreOdd(uint32_t* p, Lanes64 a, Lanes64 b) { StoreLanes64(p, {_mm256_unpackhi_epi64(a.raw, b.raw)}); }

inline Bits32 LoadBits(const uint32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline Bits32 SetBits(uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
inline Bits32 BitsOf(F32 v) { return {_mm256_castps_si256(v.raw)}; }
inline F32 FloatOf(Bits32 b) { return {_mm256_castsi256_ps(b.raw)}; }
inline Bits32 operator-(Bits32 a, Bits32 b) { return {_mm256_sub_epi32(a.raw, b.raw)}; }
inline Bits32 And(Bits32 a, Bits32 b) { return {_mm256_and_si256(a.raw, b.raw)}; }
inline Bits32 Halve(Bits32 a) { return {_mm256_srli_epi32(a.raw, 1)}; }
inline F32 ToFloat(Bits32 a) { return {_mm256_cvtepi32_ps(a.raw)}; }
inline F64 LoadSigned(const uint32_t* p, F64) {
  return {_mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline F32 SquareRoot(F32 v) { return {_mm256_sqrt_ps(v.raw)}; }
inline F64 SquareRoot(F64 v) { return {_mm256_sqrt_pd(v.raw)}; }

#else  // the compiler's portable vectors of 16 bytes

typedef uint64_t RawLanes64 __attribute__((vector_size(16)));
typedef uint32_t RawLanes32 __attribute__((vector_size(16)));
typedef int32_t RawSigned32 __attribute__((vector_size(16)));
typedef int32_t RawPair32 __attribute__((vector_size(8)));
typedef float RawFloats __attribute__((vector_size(16)));
typedef double RawDoubles __attribute__((vector_size(16)));

struct Lanes64 {
  RawLanes64 raw;
};
struct Bits32 {
  RawLanes32 raw;
};
inline Lanes64 SetLanes(uint64_t x) { return {RawLanes64{x, x}}; }
inline Lanes64 SetHalves(uint32_t x) { return SetLanes(static_cast<uint64_t>(x) << 32 | x); }
inline Lanes64 LoadLanes64(const uint64_t* p) { return {RawLanes64{p[0], p[1]}}; }
inline Lanes64 operator+(Lanes64 a, Lanes64 b) { return {a.raw + b.raw}; }
inline Lanes64 Product(Lanes64 a, Lanes64 b) { return {(a.raw & 0xffffffffu) * (b.raw & 0xffffffffu)}; }
inline Lanes64 UpperHalf(Lanes64 a) { return {a.raw >> 32}; }
inline Lanes64 Xor(Lanes64 a, Lanes64 b, Lanes64 c) { return {a.raw ^ b.raw ^ c.raw}; }
inline Lanes64 Interleave(Lanes64 a, Lanes64 b) { return {(a.raw & 0xffffffffu) | b.raw << 32}; }
inline void StoreLanes64(uint32_t* p, Lanes64 a) { memcpy(p, &a.raw, sizeof a.raw); }
inline void StoreEven(uint32_t* p, Lanes64 a, Lanes64 b) { StoreLanes64(p, {RawLanes64{a.raw[0], b.raw[0]}}); }
inline void StoreOdd(uint32_t* p, Lanes64 a, Lanes64 b) { StoreLanes64(p, {RawLanes64{a.raw[1], b.raw[1]}}); }

inline Bits32 LoadBits(const uint32_t* p) {
  Bits32 b;
  memcpy(&b.raw, p, sizeof b.raw);
  return b;
}
inline Bits32 SetBits(uint32_t x) { return {RawLanes32{x, x, x, x}}; }
inline Bits32 BitsOf(F32 v) {
  Bits32 b;
  memcpy(&b.raw, &v.raw, sizeof b.raw);
  return b;
}
inline F32 FloatOf(Bits32 b) {
  F32 v;
  memcpy(&v.raw, &b.raw, sizeof b.raw);
  return v;
}
inline Bits32 operator-(Bits32 a, Bits32 b) { return {a.raw - b.raw}; }
inline Bits32 And(Bits32 a, Bits32 b) { return {a.raw & b.raw}; }
inline Bits32 Halve(Bits32 a) { return {a.raw >> 1}; }
inline F32 ToFloat(Bits32 a) {
  const RawFloats v = __builtin_convertvector(reinterpret_cast<RawSigned32>(a.raw), RawFloats);
  F32 r;
  memcpy(&r.raw, &v, sizeof v);
  return r;
}
inline F64 LoadSigned(const uint32_t* p, F64) {
  RawPair32 pair;
  memcpy(&pair, p, sizeof pair);
  const RawDoubles v = __builtin_convertvector(pair, RawDoubles);
  F64 r;
  memcpy(&r.raw, &v, sizeof v);
  return r;
}
template <class V>
inline V SquareRoot(V v) {
  typename V::Scalar lanes[V::kLanes];
  Store(lanes, v);
  for (auto& lane : lanes) lane = sizeof(lane) == sizeof(float) ? __builtin_sqrtf(lane) : __builtin_sqrt(lane);
  return Load(lanes);
}

#endif

inline F32 LoadSigned(const uint32_t* p, F32) { return ToFloat(LoadBits(p)); }

template <class B>
inline B Ratio(const B& a, const B& b) {
  return a / b;
}
#if defined(__AVX512F__)
// A division of sixteen floats takes sixteen cycles, which is as long as the sixteen exponentials.
template <size_t U>
inline Block<F32, U> Ratio(const Block<F32, U>& a, const Block<F32, U>& b) {
  Block<F32, U> r;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) r.part[u].raw = _mm512_rcp14_ps(b.part[u].raw);
  r = MulAdd(NegMulAdd(b, r, Block<F32, U>(Set<F32>(1))), r, r);
  const auto q = a * r;
  return MulAdd(NegMulAdd(q, b, a), r, q);
}
#endif

}  // namespace
}  // namespace boltzmax::kernels

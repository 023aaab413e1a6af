// No ISA at all: 16 floats or 8 doubles in an array, so that a machine without vector instructions runs the very code,
// tails included, that AVX-512 runs. The compiler makes of the loops what the baseline allows. There is no FMA:
// MulAdd rounds twice.
#pragma once

#include "../half.hpp"
#include "vec_concept.hpp"

namespace boltzmax::kernels {
namespace {

template <class T, size_t N>
struct ArrayVec {
  using Scalar = T;
  struct Mask {
    bool lane[N];
  };
  static constexpr size_t kLanes = N;
  static constexpr size_t kUnroll = 4;
  static constexpr bool kHasFma = false;
  T lane[N];
};

template <>
struct Vec<float> : ArrayVec<float, 16> {};
template <>
struct Vec<double> : ArrayVec<double, 8> {};

using F32 = Vec<float>;
using F64 = Vec<double>;

template <class V>
concept ScalarVec = requires { V::kLanes; V{}.lane; };

#define BOLTZMAX_LANES(Result, expression)                            \
  {                                                                   \
    Result r;                                                         \
    for (size_t i = 0; i < V::kLanes; ++i) r.lane[i] = (expression); \
    return r;                                                         \
  }

template <class V>
inline V Set(typename V::Scalar x) BOLTZMAX_LANES(V, x)
template <ScalarVec V>
inline V operator+(const V& a, const V& b) BOLTZMAX_LANES(V, a.lane[i] + b.lane[i])
template <ScalarVec V>
inline V operator-(const V& a, const V& b) BOLTZMAX_LANES(V, a.lane[i] - b.lane[i])
template <ScalarVec V>
inline V operator*(const V& a, const V& b) BOLTZMAX_LANES(V, a.lane[i] * b.lane[i])
template <ScalarVec V>
inline V operator/(const V& a, const V& b) BOLTZMAX_LANES(V, a.lane[i] / b.lane[i])
template <ScalarVec V>
inline V MulAdd(const V& a, const V& b, const V& c) BOLTZMAX_LANES(V, a.lane[i] * b.lane[i] + c.lane[i])
template <ScalarVec V>
inline V NegMulAdd(const V& a, const V& b, const V& c) BOLTZMAX_LANES(V, c.lane[i] - a.lane[i] * b.lane[i])
template <ScalarVec V>
inline V Max(const V& a, const V& b) BOLTZMAX_LANES(V, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i])
template <ScalarVec V>
inline V Abs(const V& a) BOLTZMAX_LANES(V, a.lane[i] < 0 ? -a.lane[i] : a.lane[i])
template <ScalarVec V>
inline typename V::Mask Lt(const V& a, const V& b) BOLTZMAX_LANES(typename V::Mask, a.lane[i] < b.lane[i])
template <ScalarVec V>
inline typename V::Mask Eq(const V& a, const V& b) BOLTZMAX_LANES(typename V::Mask, a.lane[i] == b.lane[i])
template <ScalarVec V>
inline V IfThenElse(const typename V::Mask& m, const V& a, const V& b)
    BOLTZMAX_LANES(V, m.lane[i] ? a.lane[i] : b.lane[i])

inline F32 Pow2(const F32& t) {
  using V = F32;
  BOLTZMAX_LANES(F32, __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, t.lane[i]) << 23))
}
inline F64 Pow2(const F64& t) {
  using V = F64;
  BOLTZMAX_LANES(F64, __builtin_bit_cast(double, __builtin_bit_cast(uint64_t, t.lane[i]) << 52))
}

template <ScalarVec V>
inline typename V::Scalar ReduceMax(const V& v) {
  typename V::Scalar max = v.lane[0];
  for (size_t i = 1; i < V::kLanes; ++i) max = v.lane[i] > max ? v.lane[i] : max;
  return max;
}

inline F64 PromoteLower(const F32& v) {
  using V = F64;
  BOLTZMAX_LANES(F64, static_cast<double>(v.lane[i]))
}
inline F64 PromoteUpper(const F32& v) {
  using V = F64;
  BOLTZMAX_LANES(F64, static_cast<double>(v.lane[i + 8]))
}

// ---- lanes ----

template <ScalarVec V>
inline typename V::Scalar FirstLane(const V& v) {
  return v.lane[0];
}

inline void StreamFence() {}

template <class V>
inline typename V::Mask FirstN(size_t n) BOLTZMAX_LANES(typename V::Mask, i < n)
template <class V>
inline typename V::Mask LoadMask(const uint8_t* p) BOLTZMAX_LANES(typename V::Mask, p[i] != 0)
template <class V>
inline typename V::Mask LoadMaskN(const uint8_t* p, size_t n) BOLTZMAX_LANES(typename V::Mask, i < n && p[i] != 0)

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
  BOLTZMAX_LANES(V, ToFloat(p[i]))
}
template <class S>
inline Vec<Compute<S>> LoadN(const S* p, size_t n, Compute<S> fill) {
  using V = Vec<Compute<S>>;
  BOLTZMAX_LANES(V, i < n ? ToFloat(p[i]) : fill)
}
template <class S>
inline void StoreN(S* p, const Vec<Compute<S>>& v, size_t n) {
  for (size_t i = 0; i < n; ++i) FromFloat(v.lane[i], p + i);
}
template <class S>
inline void Store(S* p, const Vec<Compute<S>>& v) {
  StoreN(p, v, Vec<Compute<S>>::kLanes);
}
template <class S>
inline void Stream(S* p, const Vec<Compute<S>>& v) {
  Store(p, v);
}
#undef BOLTZMAX_LANES

}  // namespace
}  // namespace boltzmax::kernels

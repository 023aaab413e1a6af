// Sums along the lanes of a vector: Prefix and Suffix, in log2(kLanes) steps; and broadcasts of the outermost lanes.
//
//     ShiftUp<k>(v)     lane i is lane i - k of v; 0 for i < k
//     ShiftDown<k>(v)   lane i is lane i + k of v; 0 beyond
#pragma once

#include "../math/wide_block.hpp"
#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

#if defined(__AVX512F__)

template <int k>
inline F32 ShiftUp(F32 v) {
  return {_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(v.raw), _mm512_setzero_si512(), 16 - k))};
}
template <int k>
inline F32 ShiftDown(F32 v) {
  return {_mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_setzero_si512(), _mm512_castps_si512(v.raw), k))};
}
template <int k>
inline F64 ShiftUp(F64 v) {
  return {_mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_castpd_si512(v.raw), _mm512_setzero_si512(), 8 - k))};
}
template <int k>
inline F64 ShiftDown(F64 v) {
  return {_mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_setzero_si512(), _mm512_castpd_si512(v.raw), k))};
}
inline F32 BroadcastFirst(F32 v) { return {_mm512_broadcastss_ps(_mm512_castps512_ps128(v.raw))}; }
inline F64 BroadcastFirst(F64 v) { return {_mm512_broadcastsd_pd(_mm512_castpd512_pd128(v.raw))}; }
inline F32 BroadcastLast(F32 v) { return {_mm512_permutexvar_ps(_mm512_set1_epi32(15), v.raw)}; }
inline F64 BroadcastLast(F64 v) { return {_mm512_permutexvar_pd(_mm512_set1_epi64(7), v.raw)}; }

#elif defined(__AVX2__)

template <int k>
inline F32 ShiftUp(F32 v) {
  const __m256 upper = _mm256_permute2f128_ps(v.raw, v.raw, 0x08);  // 0, and the lower half
  if constexpr (k == 4) return {upper};
  return {_mm256_castsi256_ps(
      _mm256_alignr_epi8(_mm256_castps_si256(v.raw), _mm256_castps_si256(upper), 16 - 4 * (k % 4)))};
}
template <int k>
inline F32 ShiftDown(F32 v) {
  const __m256 lower = _mm256_permute2f128_ps(v.raw, v.raw, 0x81);  // the upper half, and 0
  if constexpr (k == 4) return {lower};
  return {_mm256_castsi256_ps(_mm256_alignr_epi8(_mm256_castps_si256(lower), _mm256_castps_si256(v.raw), 4 * (k % 4)))};
}
template <int k>
inline F64 ShiftUp(F64 v) {
  const __m256d upper = _mm256_permute2f128_pd(v.raw, v.raw, 0x08);
  if constexpr (k == 2) return {upper};
  return {_mm256_shuffle_pd(upper, v.raw, 0x5)};
}
template <int k>
inline F64 ShiftDown(F64 v) {
  const __m256d lower = _mm256_permute2f128_pd(v.raw, v.raw, 0x81);
  if constexpr (k == 2) return {lower};
  return {_mm256_shuffle_pd(v.raw, lower, 0x5)};
}
inline F32 BroadcastFirst(F32 v) { return {_mm256_broadcastss_ps(_mm256_castps256_ps128(v.raw))}; }
inline F64 BroadcastFirst(F64 v) { return {_mm256_broadcastsd_pd(_mm256_castpd256_pd128(v.raw))}; }
inline F32 BroadcastLast(F32 v) { return {_mm256_permutevar8x32_ps(v.raw, _mm256_set1_epi32(7))}; }
inline F64 BroadcastLast(F64 v) { return {_mm256_permute4x64_pd(v.raw, 0xff)}; }

#else

template <int k, class V>
inline V ShiftUp(V v) {
  typename V::Scalar lanes[V::kLanes + k] = {};
  Store(lanes + k, v);
  return Load(lanes);
}
template <int k, class V>
inline V ShiftDown(V v) {
  typename V::Scalar lanes[V::kLanes + k] = {};
  Store(lanes, v);
  return Load(lanes + k);
}
template <class V>
inline V BroadcastFirst(V v) {
  return Set<V>(FirstLane(v));
}
template <class V>
inline V BroadcastLast(V v) {
  typename V::Scalar lanes[V::kLanes];
  Store(lanes, v);
  return Set<V>(lanes[V::kLanes - 1]);
}

#endif

// Sums over the lanes up to each lane, or from each lane on.
template <class V>
inline V Prefix(V v) {
  v = v + ShiftUp<1>(v);
  if constexpr (V::kLanes > 2) v = v + ShiftUp<2>(v);
  if constexpr (V::kLanes > 4) v = v + ShiftUp<4>(v);
  if constexpr (V::kLanes > 8) v = v + ShiftUp<8>(v);
  return v;
}
template <class V>
inline V Suffix(V v) {
  v = v + ShiftDown<1>(v);
  if constexpr (V::kLanes > 2) v = v + ShiftDown<2>(v);
  if constexpr (V::kLanes > 4) v = v + ShiftDown<4>(v);
  if constexpr (V::kLanes > 8) v = v + ShiftDown<8>(v);
  return v;
}

// Sums of the elements of a row from its beginning on, vector by vector; or backward, from its end. No element is
// negative. The carry has twice the precision of the elements, so that the rounding errors of a long row do not add up.
template <class V, bool kBackward>
class RunningSums {
 public:
  V Next(V terms) {
    const V sums = kBackward ? Suffix(terms) : Prefix(terms), result = (sums + lo_) + hi_;
    // Dekker's sum, whose error is exact unless the new terms are larger than all before: then it is as good as exact,
    // and that happens seldom.
    const V total = kBackward ? BroadcastFirst(sums) : BroadcastLast(sums), next = hi_ + total;
    lo_ = lo_ + (total - (next - hi_));
    hi_ = next;
    return result;
  }

 private:
  V hi_ = Set<V>(0), lo_ = Set<V>(0);
};

template <class V>
inline size_t CountOf(Whole<1>) {
  return V::kLanes;
}
template <class V>
inline size_t CountOf(Partial<1> lanes) {
  return lanes.n;
}

// The lanes of a vector of V as doubles.
template <class V>
inline Whole<kWide<V>> WideLanes(Whole<1>) {
  return {};
}
template <class V>
inline Partial<kWide<V>> WideLanes(Partial<1> lanes) {
  return {lanes.n};
}

// Calls f(begin, lanes) for the vectors of a row of n elements, from the last to the first; the first may be partial.
template <class V, class F>
inline void ForEachVectorBackward(size_t n, F f) {
  for (; n >= V::kLanes; n -= V::kLanes) f(n - V::kLanes, Whole<1>{});
  if (n != 0) f(0, Partial<1>{n});
}

}  // namespace
}  // namespace boltzmax::kernels

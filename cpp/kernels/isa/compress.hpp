// Some elements of a vector, next to each other in memory.
#pragma once

#include "block.hpp"

namespace boltzmax::kernels {
namespace {

#if defined(__AVX2__) && !defined(__AVX512F__)
// For each set of eight lanes, these one after the other, in bytes.
struct LaneLists {
  uint64_t of[256];
};
constexpr LaneLists MakeLaneLists() {
  LaneLists lists = {};
  for (unsigned set = 0; set < 256; ++set) {
    unsigned count = 0;
    for (uint64_t lane = 0; lane < 8; ++lane) {
      if ((set >> lane & 1) != 0) lists.of[set] |= lane << (8 * count++);
    }
  }
  return lists;
}
inline constexpr LaneLists kLaneLists = MakeLaneLists();

// Moves a set of lanes to the front.
inline __m256 ToFront(__m256 v, unsigned set) {
  const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(kLaneLists.of[set]));
  return _mm256_permutevar8x32_ps(v, _mm256_cvtepu8_epi32(bytes));
}
#endif

// Stores the elements where a mask is false, in their order, and returns their number. A whole vector is written.
template <class V, class T = typename V::Scalar>
inline size_t CompressUnless(typename V::Mask is_left_out, V v, T* to) {
#if defined(__AVX512F__)
  // Compressing in a register and storing all of it is faster than a compressing store.
  const auto kept = static_cast<typename V::Mask>(~is_left_out);
  if constexpr (sizeof(T) == sizeof(float)) _mm512_storeu_ps(to, _mm512_maskz_compress_ps(kept, v.raw));
  else _mm512_storeu_pd(to, _mm512_maskz_compress_pd(kept, v.raw));
  return static_cast<size_t>(__builtin_popcount(kept));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == sizeof(float)) {
    const auto kept = static_cast<unsigned>(~_mm256_movemask_ps(is_left_out.raw)) & 0xff;
    _mm256_storeu_ps(to, ToFront(v.raw, kept));
    return static_cast<size_t>(__builtin_popcount(kept));
  } else {
    // Each double is two lanes.
    const auto kept = static_cast<unsigned>(~_mm256_movemask_ps(_mm256_castpd_ps(is_left_out.raw))) & 0xff;
    _mm256_storeu_ps(reinterpret_cast<float*>(to), ToFront(_mm256_castpd_ps(v.raw), kept));
    return static_cast<size_t>(__builtin_popcount(kept)) / 2;
  }
#else
  const V zero = Set<V>(0), one = Set<V>(1);
  const V kept = IfThenElse(is_left_out, zero, one);
  if (!Any(Eq(kept, one))) return 0;
  // Every element is stored, and the next one overwrites it unless it counts.
  T each[V::kLanes], counts[V::kLanes];
  Store(each, v);
  Store(counts, kept);
  size_t count = 0;
  for (size_t j = 0; j < V::kLanes; ++j) {
    to[count] = each[j];
    count += static_cast<size_t>(counts[j] != 0);
  }
  return count;
#endif
}

}  // namespace
}  // namespace boltzmax::kernels

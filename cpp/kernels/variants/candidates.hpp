// The elements of a row that are not below a bound, compressed into scratch memory with their places.
#pragma once

#include "../rows/reduce.hpp"

namespace boltzmax::kernels {
namespace {

// An unsigned integer as wide as a number.
template <class T>
struct IndexOf {
  using type = uint32_t;
};
template <>
struct IndexOf<double> {
  using type = uint64_t;
};

// Room for `most` candidates, and for a block that is appended beyond them.
template <class T>
struct Candidates {
  using Index = typename IndexOf<T>::type;
  T* x;
  Index* place;
  size_t most;
  size_t count = 0;
};

// Appends the elements of a block that are not below the bound; NaN is not, either. Masked elements, and those beyond
// the row, are -inf.
template <class T, class V, size_t U>
inline void Append(Candidates<T>* candidates, const Block<V, U>& x, V bound, size_t i) {
#if defined(__AVX512F__)
  // Compressing in a register and storing all of it is faster than a compressing store.
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u, i += V::kLanes) {
    T* to = candidates->x + candidates->count;
    auto* place = candidates->place + candidates->count;
    if constexpr (sizeof(T) == sizeof(float)) {
      const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      const __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(i)));
      const __mmask16 above = _mm512_cmp_ps_mask(x.part[u].raw, bound.raw, _CMP_NLT_UQ);
      _mm512_storeu_ps(to, _mm512_maskz_compress_ps(above, x.part[u].raw));
      _mm512_storeu_si512(place, _mm512_maskz_compress_epi32(above, places));
      candidates->count += static_cast<size_t>(__builtin_popcount(above));
    } else {
      const __m512i lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
      const __m512i places = _mm512_add_epi64(lanes, _mm512_set1_epi64(static_cast<long long>(i)));
      const __mmask8 above = _mm512_cmp_pd_mask(x.part[u].raw, bound.raw, _CMP_NLT_UQ);
      _mm512_storeu_pd(to, _mm512_maskz_compress_pd(above, x.part[u].raw));
      _mm512_storeu_si512(place, _mm512_maskz_compress_epi64(above, places));
      candidates->count += static_cast<size_t>(__builtin_popcount(above));
    }
  }
#else
  // Every element is stored, and the next one overwrites it unless it counts.
  T lanes[U * V::kLanes];
  StoreLanes(lanes, x, Whole<U>{});
  const T least = FirstLane(bound);
  size_t count = candidates->count;
  for (size_t j = 0; j < U * V::kLanes; ++j) {
    candidates->x[count] = lanes[j];
    candidates->place[count] = static_cast<typename Candidates<T>::Index>(i + j);
    count += !(lanes[j] < least);
  }
  candidates->count = count;
#endif
}

// Whether some element is not below the bound.
template <class V, size_t U>
inline bool AnyFrom(const Block<V, U>& x, V bound) {
  using T = typename V::Scalar;
#if defined(__AVX512F__)
  unsigned above = 0;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) {
    if constexpr (sizeof(T) == sizeof(float)) {
      above |= _mm512_cmp_ps_mask(x.part[u].raw, bound.raw, _CMP_NLT_UQ);
    } else {
      above |= _mm512_cmp_pd_mask(x.part[u].raw, bound.raw, _CMP_NLT_UQ);
    }
  }
  return above != 0;
#else
  using B = Block<V, U>;
  const B one = Set<V>(T(1));
  return Any(Eq(IfThenElse(Lt(x, B(bound)), B(Set<V>(T(0))), one), one));
#endif
}

// Collects the elements of a row that are not below the bound, and writes zeros to y meanwhile. Stops when there are
// more than `most`.
template <class T, class Src, class S, class V = typename Src::V>
inline void Collect(const Src& x, size_t n, V bound, S* y, Candidates<T>* candidates) {
  constexpr size_t kVectors = 4, kStep = kVectors * V::kLanes;
  const auto block = [&](size_t i, auto lanes) {
    const auto v = x(i, lanes);
    StoreLanes(y + i, Block<V, kVectors>(Set<V>(T(0))), lanes);
    if (AnyFrom(v, bound)) Append(candidates, v, bound, i);
  };
  size_t i = 0;
  for (; i + kStep <= n && candidates->count <= candidates->most; i += kStep) block(i, Whole<kVectors>{});
  if (i < n && candidates->count <= candidates->most) block(i, Partial<kVectors>{n - i});
}

}  // namespace
}  // namespace boltzmax::kernels

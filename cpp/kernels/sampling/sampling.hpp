// Maxima and counts of the elements of a row from a bound to another, and the elements themselves.
#pragma once

#include "../rows/passes.hpp"
#include "../sampling_types.hpp"
#include "masses.hpp"

namespace boltzmax::kernels {
namespace {

template <class V>
inline typename V::Mask IsNan(V v) {
  const V zero = Set<V>(0), one = Set<V>(1);
  return Eq(IfThenElse(Eq(v, v), zero, one), one);
}

template <class T>
inline T GroupMaximum(const T* x, size_t n) {
  using V = Vec<T>;
  // The product of zero and an infinity is NaN, too: then there is a closer look. Four chains of sums, since one waits
  // for itself longer than for memory.
  constexpr size_t kChains = 4;
  V max = Set<V>(-Infinity<T>());
  Block<V, kChains> check = Set<V>(0);
  ForEachBlock<V, kChains>(n, [&](size_t i, auto lanes) {
    const auto v = LoadLanes<V>(x + i, lanes, -Infinity<T>());
    max = MaxOf(v, max);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) check.part[u] = MulAdd(v.part[u], Set<V>(0), check.part[u]);
  });
  if (!Any(IsNan((check.part[0] + check.part[1]) + (check.part[2] + check.part[3])))) return ReduceMax(max);
  for (size_t i = 0; i < n; ++i) {
    if (x[i] != x[i]) return x[i];
  }
  return ReduceMax(max);
}

// The largest element up to a bound; -inf if there is none.
template <class T>
BOLTZMAX_KERNEL T LargestUpTo(const T* x, size_t n, T hi) {
  using V = Vec<T>;
  return MaxOver<V>(n, [&](size_t i, auto lanes) {
    using B = Block<V, lanes.kVectors>;
    const B v = LoadLanes<V>(x + i, lanes, -Infinity<T>());
    return IfThenElse(Lt(B(Set<V>(hi)), v), B(Set<V>(-Infinity<T>())), v);
  });
}

template <class T>
BOLTZMAX_KERNEL void Maxima(const T* x, size_t n, T* maxima) {
  ForEachGroup(n, [&](size_t first, size_t count, size_t g) { maxima[g] = GroupMaximum(x + first, count); });
}

// ---- elements ----

template <class T>
BOLTZMAX_KERNEL size_t Count(const T* x, size_t n, T lo, T hi) {
  using V = Vec<T>;
  double total = 0.0;
  ForEachGroup(n, [&](size_t first, size_t count, size_t) {
    V sum = Set<V>(0);
    // NaN is neither below nor above a bound, but the lanes beyond the row are -inf.
    ForEachBlock<V, 4>(count, [&](size_t i, auto lanes) {
      using B = Block<V, lanes.kVectors>;
      const B x_i = LoadLanes<V>(x + first + i, lanes, -Infinity<T>());
      const B is = Between(x_i, B(Set<V>(1)), B(Set<V>(lo)), B(Set<V>(hi)));
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < lanes.kVectors; ++u) sum = sum + is.part[u];
    });
    T each[V::kLanes];
    Store(each, sum);
    for (const T lane : each) total += static_cast<double>(lane);
  });
  return static_cast<size_t>(total);
}

// Appends the elements of a vector, and counts those above.
template <class V, class T>
inline void AppendBetween(V v, const Bounds<T>& bounds, uint32_t place, FoundElements<T>* found) {
  T* x = found->x + found->count;
  uint32_t* places = found->place + found->count;
#if defined(__AVX512F__)
  // Compressing in a register and storing all of it is faster than a compressing store.
  const V lo = Set<V>(bounds.lo), hi = Set<V>(bounds.hi), top = Set<V>(bounds.top);
  if constexpr (sizeof(T) == sizeof(float)) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i all = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(place)));
    const __mmask16 from = _mm512_cmp_ps_mask(v.raw, lo.raw, _CMP_GE_OQ);
    const __mmask16 is = _mm512_mask_cmp_ps_mask(from, v.raw, hi.raw, _CMP_LE_OQ);
    const __mmask16 below_top = _mm512_mask_cmp_ps_mask(from, v.raw, top.raw, _CMP_LE_OQ);
    _mm512_storeu_ps(x, _mm512_maskz_compress_ps(is, v.raw));
    _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(is, all));
    const auto count = static_cast<size_t>(__builtin_popcount(is));
    found->count += count;
    found->above += static_cast<size_t>(__builtin_popcount(below_top)) - count;
  } else {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i all = _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int>(place)));
    const __mmask8 from = _mm512_cmp_pd_mask(v.raw, lo.raw, _CMP_GE_OQ);
    const __mmask8 is = _mm512_mask_cmp_pd_mask(from, v.raw, hi.raw, _CMP_LE_OQ);
    const __mmask8 below_top = _mm512_mask_cmp_pd_mask(from, v.raw, top.raw, _CMP_LE_OQ);
    _mm512_storeu_pd(x, _mm512_maskz_compress_pd(is, v.raw));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(places), _mm256_maskz_compress_epi32(is, all));
    const auto count = static_cast<size_t>(__builtin_popcount(is));
    found->count += count;
    found->above += static_cast<size_t>(__builtin_popcount(below_top)) - count;
  }
#else
  const V zero = Set<V>(0), one = Set<V>(1);
  if (!Any(Eq(IfThenElse(Lt(v, Set<V>(bounds.lo)), zero, one), one))) return;
  // Every element is stored, and the next one overwrites it unless it counts.
  T lanes[V::kLanes];
  Store(lanes, v);
  size_t count = 0;
  for (size_t j = 0; j < V::kLanes; ++j) {
    x[count] = lanes[j];
    places[count] = place + static_cast<uint32_t>(j);
    const size_t from = static_cast<size_t>(lanes[j] >= bounds.lo), up_to = static_cast<size_t>(lanes[j] <= bounds.hi);
    count += from & up_to;
    found->above += static_cast<size_t>(lanes[j] > bounds.hi) & static_cast<size_t>(lanes[j] <= bounds.top) & from;
  }
  found->count += count;
#endif
}

template <class T>
BOLTZMAX_KERNEL bool Collect(const T* x, size_t n, const Bounds<T>& bounds, uint32_t base, FoundElements<T>* to) {
  using V = Vec<T>;
  FoundElements<T> found = *to;
  for (size_t i = 0; i < n && found.count <= found.most; i += V::kLanes) {
    const size_t step = n - i < V::kLanes ? n - i : V::kLanes;
    const V v = step == V::kLanes ? Load(x + i) : LoadN(x + i, step, static_cast<T>(__builtin_nanf("")));
    AppendBetween(v, bounds, base + static_cast<uint32_t>(i), &found);
  }
  *to = found;
  return found.count <= found.most;
}

// Appends the elements of a vector that are neither below nor above a bracket, without their places.
template <class V, class T>
inline void AppendInside(V v, typename V::Mask is_below, typename V::Mask is_above, FoundElements<T>* found) {
  T* x = found->x + found->count;
#if defined(__AVX512F__)
  const auto inside = static_cast<typename V::Mask>(~(is_below ^ is_above));
  if constexpr (sizeof(T) == sizeof(float)) _mm512_storeu_ps(x, _mm512_maskz_compress_ps(inside, v.raw));
  else _mm512_storeu_pd(x, _mm512_maskz_compress_pd(inside, v.raw));
  found->count += static_cast<size_t>(__builtin_popcount(inside));
  found->above += static_cast<size_t>(__builtin_popcount(is_above));
#else
  const V zero = Set<V>(0), one = Set<V>(1);
  if (!Any(Eq(IfThenElse(is_below, zero, one), one))) return;
  T lanes[V::kLanes], above[V::kLanes], is_outside[V::kLanes];
  Store(lanes, v);
  Store(above, IfThenElse(is_above, one, zero));
  Store(is_outside, IfThenElse(is_above, one, IfThenElse(is_below, one, zero)));
  size_t count = 0;
  for (size_t j = 0; j < V::kLanes; ++j) {
    x[count] = lanes[j];
    count += static_cast<size_t>(is_outside[j] == 0);
    found->above += static_cast<size_t>(above[j] != 0);
  }
  found->count += count;
#endif
}

// Returns the mass of a group below a bracket, and adds that above it.
template <class T>
inline double SplitGroup(const T* x, size_t n, const Bounds<T>& bracket, const FastExp<T>& fast,
                         FoundElements<T>* found, double* above) {
  using V = Vec<T>;
  constexpr bool kInOrder = LaneSums<T>::kParts == 1;  // trees come in the order of memory
  LaneSums<T> lower, upper;
  const auto lo = [&]<class B>(const B&) { return B(Set<V>(bracket.lo)); };
  const auto hi = [&]<class B>(const B&) { return B(Set<V>(bracket.hi)); };
  ForEachTree<T>(x, n, [&](auto v, auto add) {
    using B = decltype(v);
    const B e = FastTerms(v, fast), zero = Set<V>(0);
    const auto is_below = Lt(v, lo(v)), is_above = Lt(hi(v), v);
    add(&lower, IfThenElse(is_below, e, zero));
    add(&upper, IfThenElse(is_above, e, zero));
    if constexpr (kInOrder) {
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < sizeof(B) / sizeof(V); ++u) {
        AppendInside(v.part[u], is_below.part[u], is_above.part[u], found);
      }
    }
  });
  if constexpr (!kInOrder) {
    ForEachBlock<V, 1>(n, [&](size_t i, auto lanes) {
      const auto v = LoadLanes<V>(x + i, lanes, -Infinity<T>());
      AppendInside(v.part[0], Lt(v, lo(v)).part[0], Lt(hi(v), v).part[0], found);
    });
  }
  *above += upper.Total();
  return lower.Total();
}

template <class T>
BOLTZMAX_KERNEL bool Split(const T* x, size_t n, const Bounds<T>& bracket, const FastExp<T>& fast, FoundElements<T>* to,
                           uint32_t* starts, double* above, double* below) {
  FoundElements<T> found = *to;
  for (size_t first = 0, g = 0; first < n && found.count <= found.most; first += kSampleGroup, ++g) {
    starts[g] = static_cast<uint32_t>(found.count);
    const size_t count = n - first < kSampleGroup ? n - first : kSampleGroup;
    *below += SplitGroup(x + first, count, bracket, fast, &found, above + g);
  }
  *to = found;
  return found.count <= found.most;
}

template <class T>
constexpr SamplingKernels<T> SamplingKernelsOf() {
  // A term has a relative error of at most 1.3e-7: 2.0e-8 of the polynomial, 2^-23 of rounding. The two additions of
  // floats add 2^-23; doubles add less than 2^-40.
  constexpr double kError = sizeof(T) == sizeof(float) ? 2.6e-7 : 0x1p-43;
  return {Maxima<T>, LargestUpTo<T>, Masses<T>, kError, Split<T>, Count<T>, Collect<T>, ExactTerms<T>, ExactMoments<T>};
}

}  // namespace
}  // namespace boltzmax::kernels

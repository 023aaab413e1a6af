// Maxima and counts of the elements of a row from a bound to another, and the elements themselves.
#pragma once

#include "../isa/compress.hpp"
#include "../rows/reduce.hpp"
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

// The same, with the exponentials' sums. NaN and infinities make these NaN.
template <class T>
BOLTZMAX_KERNEL void MaximaAndMasses(const T* x, size_t n, const FastExp<T>& fast, T* maxima, double* sums) {
  using V = Vec<T>;
  ForEachGroup(n, [&](size_t first, size_t count, size_t g) {
    V max = Set<V>(-Infinity<T>());
    LaneSums<T> sum;
    ForEachSummed<T>(count, [&](size_t i, auto lanes) {
      const T* from = x + first + i;
      const auto v = LoadLanes<V>(from, lanes, -Infinity<T>());
      PrefetchAhead(from, lanes);
      max = MaxOf(v, max);
      sum.Add(ZeroBeyond(FastTerms(v, fast), lanes));
    });
    sums[g] = sum.Total();
    maxima[g] = sums[g] == sums[g] ? ReduceMax(max) : GroupMaximum(x + first, count);
  });
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

// The elements from bracket.lo on, which are often few, are put next to each other first.
template <class T>
BOLTZMAX_KERNEL bool Split(const T* x, size_t n, const Bounds<T>& bracket, const FastExp<T>& fast, FoundElements<T>* to,
                           double* mass) {
  using V = Vec<T>;
  constexpr size_t kBlock = 1024;
  T kept[kBlock + V::kLanes];
  FoundElements<T> found = *to;
  for (size_t first = 0; first < n && found.count <= found.most; first += kBlock) {
    size_t count = 0;
    ForEachBlock<V, 4>(n - first < kBlock ? n - first : kBlock, [&](size_t i, auto lanes) {
      const auto v = LoadLanes<V>(x + first + i, lanes, -Infinity<T>());
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < lanes.kVectors; ++u) {
        count += CompressUnless(Lt(v.part[u], Set<V>(bracket.lo)), v.part[u], kept + count);
      }
    });
    const size_t before = found.count;
    LaneSums<T> sums;
    ForEachSummed<T>(count, [&](size_t i, auto lanes) {
      const auto v = LoadLanes<V>(kept + i, lanes, Infinity<T>());
      const auto is_above = Lt(decltype(v)(Set<V>(bracket.hi)), v);
      sums.Add(ZeroBeyond(FastTerms(v, fast), lanes));
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < lanes.kVectors; ++u) {
        found.count += CompressUnless(is_above.part[u], v.part[u], found.x + found.count);
      }
    });
    found.above += count - (found.count - before);
    *mass += sums.Total();
  }
  *to = found;
  return found.count <= found.most;
}

template <class T>
constexpr SamplingKernels<T> SamplingKernelsOf() {
  // A term has a relative error of at most 1.4e-7: 2.0e-8 of the polynomial, 2^-23 of rounding.
  constexpr double kError = sizeof(T) == sizeof(float) ? 1.4e-7 : 0x1p-43;
  return {Maxima<T>, MaximaAndMasses<T>, LargestUpTo<T>, Masses<T>,     kError,
          Split<T>,  Count<T>,           Collect<T>,     ExactTerms<T>, ExactMoments<T>};
}

}  // namespace
}  // namespace boltzmax::kernels

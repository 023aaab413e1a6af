// Maxima, exponentials and counts of the elements of a row from a bound to another, and the elements themselves.
#pragma once

#include "../math/exact_exp.hpp"
#include "../rows/passes.hpp"
#include "../sampling_types.hpp"

namespace boltzmax::kernels {
namespace {

template <class T>
inline T Infinity() {
  return static_cast<T>(__builtin_inff());
}

template <class V>
inline typename V::Mask IsNan(V v) {
  const V zero = Set<V>(0), one = Set<V>(1);
  return Eq(IfThenElse(Eq(v, v), zero, one), one);
}

template <class T>
inline T GroupMaximum(const T* x, size_t n) {
  using V = Vec<T>;
  // The product of zero and an infinity is NaN, too: then there is a closer look.
  V max = Set<V>(-Infinity<T>()), check = Set<V>(0);
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto v = LoadLanes<V>(x + i, lanes, -Infinity<T>());
    max = MaxOf(v, max);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) check = MulAdd(v.part[u], Set<V>(0), check);
  });
  if (!Any(IsNan(check))) return ReduceMax(max);
  for (size_t i = 0; i < n; ++i) {
    if (x[i] != x[i]) return x[i];
  }
  return ReduceMax(max);
}

// Calls f(first, count, group) for the groups of a piece.
template <class F>
inline void ForEachGroup(size_t n, F f) {
  for (size_t g = 0; g * kSampleGroup < n; ++g) {
    const size_t first = g * kSampleGroup;
    f(first, n - first < kSampleGroup ? n - first : kSampleGroup, g);
  }
}

template <class T>
BOLTZMAX_KERNEL void Maxima(const T* x, size_t n, T* maxima) {
  ForEachGroup(n, [&](size_t first, size_t count, size_t g) { maxima[g] = GroupMaximum(x + first, count); });
}

// ---- exact terms ----

inline constexpr size_t kExactVectors = 4;
using ExactBlock = Block<F64, kExactVectors>;

// The terms of up to a block of elements; 0 beyond them.
template <class T>
inline ExactBlock TermsOfBlock(const T* x, size_t n, F64 max, F64 temperature) {
  ExactBlock d;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < kExactVectors; ++u) {
    const size_t first = u * F64::kLanes;
    d.part[u] = n > first ? (LoadDoubles(x + first, n - first, -Infinity<T>()) - max) / temperature
                          : Set<F64>(-Infinity<double>());
  }
  return ExactExp(d);
}

template <class T>
BOLTZMAX_KERNEL void ExactTerms(const T* x, size_t n, double max, double temperature, double* terms) {
  constexpr size_t kStep = kExactVectors * F64::kLanes;
  for (size_t i = 0; i < n; i += kStep) {
    const size_t count = n - i < kStep ? n - i : kStep;
    const ExactBlock e = TermsOfBlock(x + i, count, Set<F64>(max), Set<F64>(temperature));
    if (count == kStep) StoreLanes(terms + i, e, Whole<kExactVectors>{});
    else StoreLanes(terms + i, e, Partial<kExactVectors>{count});
  }
}

// ---- masses ----

// 2^r for |r| <= 1/2; relative error 2.0e-8, with the rounding of its coefficients.
template <class B>
inline B Pow2OfFraction(const B& r) {
  const auto set = [](float c) { return B(Set<F32>(c)); };
  B p = MulAdd(set(0x1.444p-13f), r, set(0x1.5f48c0p-10f));
  p = MulAdd(p, r, set(0x1.3b2a1cp-7f));
  p = MulAdd(p, r, set(0x1.c6aeccp-5f));
  p = MulAdd(p, r, set(0x1.ebfbe0p-3f));
  p = MulAdd(p, r, set(0x1.62e430p-1f));
  return MulAdd(p, r, set(1.0f));
}

// 2^(x scale - unit). The remainder is exact with a fused multiplication, up to the rounding of r itself. Without one, x
// less the maximum is scaled: then errors grow with the distance, but terms shrink.
template <class B>
inline B FastTerms(const B& x, const FastExp<float>& fast) {
  constexpr float kMagic = 0x1.8p23f;
  const auto set = [](float c) { return B(Set<F32>(c)); };
  const B scale = set(fast.scale_hi);
  B v = Max(x, set(fast.low));
  if constexpr (!F32::kHasFma) v = v - set(fast.offset);
  const B k = MulAdd(v, scale, set(kMagic)) - set(kMagic);
  const B r = MulAdd(v, set(fast.scale_lo), MulAdd(v, scale, set(0.0f) - k));
  return Pow2OfFraction(r) * Pow2(k + set(kMagic + 127.0f - fast.unit));
}

// Elements up to hi keep their terms, others become 0.
template <class B>
inline B UpTo(const B& x, const B& e, const B& hi) {
  return IfThenElse(Lt(hi, x), B(Set<Vec<typename B::Scalar>>(0)), e);
}
// Elements from lo to hi keep their terms, others become 0.
template <class B>
inline B Between(const B& x, const B& e, const B& lo, const B& hi) {
  const B zero = Set<Vec<typename B::Scalar>>(0);
  return IfThenElse(Lt(x, lo), zero, IfThenElse(Lt(hi, x), zero, e));
}

template <bool kHasLo, bool kHasHi>
inline double GroupMass(const float* x, size_t n, float lo, float hi, const FastExp<float>& fast) {
  F64 lower = Set<F64>(0), upper = Set<F64>(0);
  ForEachBlock<F32, 4>(n, [&](size_t i, auto lanes) {
    using B = Block<F32, lanes.kVectors>;
    const B v = LoadLanes<F32>(x + i, lanes, -Infinity<float>());
    B e = FastTerms(v, fast);
    if constexpr (kHasLo) e = Between(v, e, B(Set<F32>(lo)), B(Set<F32>(hi)));
    else if constexpr (kHasHi) e = UpTo(v, e, B(Set<F32>(hi)));
    F32 sum = e.part[0];
    if constexpr (lanes.kVectors == 4) sum = (e.part[0] + e.part[1]) + (e.part[2] + e.part[3]);
    lower = lower + PromoteLower(sum);
    upper = upper + PromoteUpper(sum);
  });
  alignas(64) double each[F64::kLanes];
  Store(each, lower + upper);
  double total = 0.0;
  for (const double part : each) total += part;
  return total;
}

template <bool, bool>
inline double GroupMass(const double* x, size_t n, double lo, double hi, const FastExp<double>& fast) {
  constexpr size_t kStep = kExactVectors * F64::kLanes;
  ExactBlock sum = Set<F64>(0);
  for (size_t i = 0; i < n; i += kStep) {
    const size_t count = n - i < kStep ? n - i : kStep;
    const ExactBlock e = TermsOfBlock(x + i, count, Set<F64>(fast.max), Set<F64>(fast.temperature));
    const ExactBlock v = count == kStep ? LoadLanes<F64>(x + i, Whole<kExactVectors>{}, 0.0)
                                        : LoadLanes<F64>(x + i, Partial<kExactVectors>{count}, 0.0);
    sum = sum + Between(v, e, ExactBlock(Set<F64>(lo)), ExactBlock(Set<F64>(hi)));
  }
  alignas(64) double each[F64::kLanes];
  Store(each, (sum.part[0] + sum.part[1]) + (sum.part[2] + sum.part[3]));
  double total = 0.0;
  for (const double part : each) total += part;
  return total;
}

template <class T>
BOLTZMAX_KERNEL void Masses(const T* x, size_t n, T lo, T hi, const FastExp<T>& fast, double* sums) {
  // Elements below `low`, as -inf is, count little enough to be left in.
  const bool has_lo = lo > fast.low, has_hi = hi < fast.high;
  WithBool(has_lo, [&]<bool kHasLo>(Bool<kHasLo>) {
    WithBool(has_hi, [&]<bool kHasHi>(Bool<kHasHi>) {
      ForEachGroup(n, [&](size_t first, size_t count, size_t g) {
        sums[g] += GroupMass<kHasLo, kHasHi>(x + first, count, lo, hi, fast);
      });
    });
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

template <class T>
constexpr SamplingKernels<T> SamplingKernelsOf() {
  // A term has a relative error of at most 1.3e-7: 2.0e-8 of the polynomial, 2^-23 of rounding. The two additions of
  // floats add 2^-23; doubles are added one by one.
  constexpr double kError = sizeof(T) == sizeof(float) ? 2.6e-7 : 0x1p-43;
  return {Maxima<T>, Masses<T>, kError, Vec<T>::kHasFma, Count<T>, Collect<T>, ExactTerms<T>};
}

}  // namespace
}  // namespace boltzmax::kernels

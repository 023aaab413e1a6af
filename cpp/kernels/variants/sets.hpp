// Prediction sets: the part of a row's sum of exponentials that lies above an element, and the elements above a value.
//
// All exponentials of a row have the same unit, however long it is. Masses are
// sums of the same terms in the same order with zeros in place of those that do not count, and rounding is monotone. So
// of two elements, the smaller one has at least as much mass above it as the larger one with all above that.
#pragma once

#include "../isa/compress.hpp"
#include "../panels/transposed.hpp"
#include "../rows/softmax.hpp"
#include "../set_types.hpp"
#include "row_call.hpp"

namespace boltzmax::kernels {
namespace {

template <class V>
inline ExpShift<V, false> ShiftOf(V max) {
  return ExpShift<V, false>(max, MakeTemperature<V>(1.0));
}

template <class V, class M>
inline V OneWhere(const M& mask) {
  return IfThenElse(mask, Set<V>(1), Set<V>(0));
}

// The sum over the lanes of a vector of whole numbers.
template <class V>
inline double CountOf(V counts) {
  typename V::Scalar lanes[V::kLanes];
  Store(lanes, counts);
  double count = 0.0;
  for (const auto lane : lanes) count += static_cast<double>(lane);
  return count;
}

inline double ValueOf(const Sum& sum) { return sum.hi + sum.lo; }

// ---- the mass above a label ----

// What is done with each exponential besides summing.
template <class F>
struct KeepWith : F {
  static constexpr bool kForLog = false;
};
template <class F>
KeepWith(F) -> KeepWith<F>;

// A row's sum, with the exponentials in the unit in which they are stored.
template <class T, class F>
inline RowSum SumOfRow(const T* x, size_t n, F keep) {
  const Source<T> row = {x, nullptr};
  return ReduceRow(row, n, {}, GuessMax(row, n), KeepWith{keep}, true);
}

template <class T>
BOLTZMAX_KERNEL LabelMass MassOfRow(const T* x, size_t n, T at) {
  using V = Vec<T>;
  using C = ExpConstants<T>;
  const Source<T> row = {x, nullptr};
  const V value = Set<V>(at), zero = Set<V>(0);
  WideSum<V> above, upper;
  V larger = zero;
  const RowSum sum = SumOfRow(x, n, [&](size_t i, auto lanes, const auto& e) {
    if (i == 0) {  // starts over where the guess at the maximum was poor
      above = upper = {};
      larger = zero;
    }
    const auto v = row(i, lanes);
    using B = Block<V, lanes.kVectors>;
    const auto is_larger = Lt(B(value), v);
    AddTrees(&above, IfThenElse(is_larger, e, B(zero)));
    AddTrees(&upper, IfThenElse(Lt(v, B(value)), B(zero), e));
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) larger = larger + OneWhere<V>(is_larger.part[u]);
  });
  if (IsDegenerate(sum)) return {__builtin_nan(""), 0.0, 0.0, 0.0, 0.0, 0.0};
  const ExpShift<V, false> shift(sum, MakeTemperature<V>(1.0));
  return {sum.hi + sum.lo,
          ValueOf(above.Total()) * C::kUnscale,
          ValueOf(upper.Total()) * C::kUnscale,
          static_cast<double>(FirstLane(ScaledExp(value, shift))) * C::kUnscale,
          sum.top,
          CountOf(larger)};
}

// The sums of a panel of short rows, each in its lane.
template <class V>
struct LaneSums {
  using T = typename V::Scalar;
  double lanes[V::kLanes];

  explicit LaneSums(const WideSum<V>& sum) {
    const auto total = sum.Lanes();
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < V::kLanes / F64::kLanes; ++u) {
      Store(lanes + u * F64::kLanes, PartOf(total.hi, u) + PartOf(total.lo, u));
    }
  }

 private:
  template <size_t U>
  static F64 PartOf(const Block<F64, U>& b, size_t u) {
    return b.part[u];
  }
  static F64 PartOf(F64 v, size_t) { return v; }
};

// Rows of at most kInOrder elements, a panel at a time.
template <class T>
BOLTZMAX_KERNEL void MassesOfShortRows(const RowBatch& batch, const T* at, LabelMass* masses) {
  using V = Vec<T>;
  ForEachPanel<T>(batch, [&](const Panel<T>& panel, const StripTemperature<V>&) {
    alignas(64) T columns[V::kLanes * (V::kInOrder + V::kPart)];
    LoadTransposed(panel, columns);
    const V value = LoadN(at, panel.rows, T(0)), zero = Set<V>(0), lowest = Set<V>(Source<T>::kLowest);
    V max = lowest;
    for (size_t i = 0; i < panel.n; ++i) max = Max(Load(columns + i * V::kLanes), max);
    const auto shift = ShiftOf(max);
    WideSum<V> total, above, upper;
    V larger = zero;
    for (size_t i = 0; i < panel.n; ++i) {
      const V v = Load(columns + i * V::kLanes), e = ScaledExp(v, shift);
      const auto is_larger = Lt(value, v);
      total.Add(e);
      above.Add(IfThenElse(is_larger, e, zero));
      upper.Add(IfThenElse(Lt(v, value), zero, e));
      larger = larger + OneWhere<V>(is_larger);
    }
    const LaneSums<V> totals(total), aboves(above), uppers(upper);
    T own[V::kLanes], top[V::kLanes], count[V::kLanes], maxima[V::kLanes];
    Store(own, ScaledExp(value, shift));
    Store(top, ScaledExp(max, shift));
    Store(count, larger);
    Store(maxima, max);
    for (size_t j = 0; j < panel.rows; ++j) {
      const bool is_finite = IsFinite(static_cast<double>(maxima[j]));
      masses[j] = {is_finite ? totals.lanes[j] : __builtin_nan(""),
                   aboves.lanes[j],
                   uppers.lanes[j],
                   static_cast<double>(own[j]),
                   static_cast<double>(top[j]),
                   static_cast<double>(count[j])};
    }
    at += panel.rows;
    masses += panel.rows;
  });
}

template <class T>
void LabelMasses(const T* x, ptrdiff_t stride, size_t rows, size_t n, const T* at, LabelMass* masses) {
  if (n > Vec<T>::kInOrder) {
    for (size_t r = 0; r < rows; ++r) masses[r] = MassOfRow(RowAt(x, stride, r), n, at[r]);
    return;
  }
  RowBatch batch = {};
  batch.x = reinterpret_cast<const char*>(x);
  batch.x_stride = stride;
  batch.rows = rows;
  batch.n = n;
  MassesOfShortRows(batch, at, masses);
}

// ---- the classes above a value ----

template <class T>
BOLTZMAX_KERNEL RowTerms<T> Terms(const T* x, size_t n, T* e) {
  using C = ExpConstants<T>;
  const RowSum sum = SumOfRow(x, n, [e](size_t i, auto lanes, const auto& terms) { StoreLanes(e + i, terms, lanes); });
  if (IsDegenerate(sum)) return {static_cast<T>(sum.max), __builtin_nan(""), 0.0};
  return {static_cast<T>(sum.max), (sum.hi + sum.lo) * C::kScale, sum.top * C::kScale};
}

#if defined(__AVX512F__)
// Stores the elements that are in [low, high), and their terms; returns their number. What is stored never overtakes what
// has been loaded.
template <class V, class T = typename V::Scalar>
inline size_t CompressBetween(V v, V term, V low, V high, T* kept_x, T* kept_e) {
  const auto is_out = static_cast<typename V::Mask>(~Lt(v, high) | Lt(v, low));
  CompressUnless(is_out, v, kept_x);
  return CompressUnless(is_out, term, kept_e);
}
#endif

// Stores the elements from `i` on that are between, after `count` of them; returns how many these are then.
template <class T>
inline size_t CompressFrom(size_t i, const T* x, const T* e, size_t n, T low, T high, T* kept_x, T* kept_e,
                           size_t count) {
  // Every element is stored, and the next one overwrites it unless it counts.
  for (; i < n; ++i) {
    const T v = x[i], term = e[i];
    kept_x[count] = v;
    kept_e[count] = term;
    count += static_cast<size_t>((v >= low) & (v < high));
  }
  return count;
}

template <class T>
BOLTZMAX_KERNEL size_t Between(const T* x, const T* e, size_t n, T low, T high, T* kept_x, T* kept_e) {
  size_t count = 0, i = 0;
#if defined(__AVX512F__)
  using V = Vec<T>;
  const V least = Set<V>(low), limit = Set<V>(high);
  for (; i + V::kLanes <= n; i += V::kLanes) {
    count += CompressBetween(Load(x + i), Load(e + i), least, limit, kept_x + count, kept_e + count);
  }
#endif
  return CompressFrom(i, x, e, n, low, high, kept_x, kept_e, count);
}

// The sums from two pivots on.
template <class V>
class UpperSums {
 public:
  using T = typename V::Scalar;
  explicit UpperSums(const T* pivots) : first_(Set<V>(pivots[0])), second_(Set<V>(pivots[1])) {}

  template <size_t U>
  void Add(const Block<V, U>& v, const Block<V, U>& term) {
    using B = Block<V, U>;
    const V zero = Set<V>(0), one = Set<V>(1);
    const auto below_first = Lt(v, B(first_)), below_second = Lt(v, B(second_));
    AddTrees(&first_mass_, IfThenElse(below_first, B(zero), term));
    AddTrees(&second_mass_, IfThenElse(below_second, B(zero), term));
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) {
      first_count_ = first_count_ + IfThenElse(below_first.part[u], zero, one);
      second_count_ = second_count_ + IfThenElse(below_second.part[u], zero, one);
    }
  }
  // Adds the elements from `i` on.
  void AddFrom(size_t i, const T* x, const T* e, size_t n) {
    ForEachBlockFrom<V, 4>(i, n, [&](size_t at, auto lanes) {
      Add(LoadLanes<V>(x + at, lanes, Source<T>::kLowest), LoadLanes<V>(e + at, lanes, T(0)));
    });
  }
  void Store(Upper* uppers) const {
    uppers[0] = {ValueOf(first_mass_.Total()), CountOf(first_count_)};
    uppers[1] = {ValueOf(second_mass_.Total()), CountOf(second_count_)};
  }

 private:
  V first_, second_;
  WideSum<V> first_mass_, second_mass_;
  V first_count_ = Set<V>(0), second_count_ = Set<V>(0);
};

template <class T>
BOLTZMAX_KERNEL void Uppers(const T* x, const T* e, size_t n, const T* pivots, Upper* uppers) {
  UpperSums<Vec<T>> sums(pivots);
  sums.AddFrom(0, x, e, n);
  sums.Store(uppers);
}

template <class T>
BOLTZMAX_KERNEL size_t Split(const T* x, const T* e, size_t n, const T* pivots, Upper* uppers, T* kept_x, T* kept_e) {
#if defined(__AVX512F__)
  using V = Vec<T>;
  const V high = Set<V>(pivots[0]), low = Set<V>(pivots[1]);
  UpperSums<V> sums(pivots);
  size_t count = 0, i = 0;
  for (; i + 4 * V::kLanes <= n; i += 4 * V::kLanes) {
    const auto v = LoadLanes<V>(x + i, Whole<4>(), T(0)), term = LoadLanes<V>(e + i, Whole<4>(), T(0));
    sums.Add(v, term);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < 4; ++u) {
      count += CompressBetween(v.part[u], term.part[u], low, high, kept_x + count, kept_e + count);
    }
  }
  sums.AddFrom(i, x, e, n);
  count = CompressFrom(i, x, e, n, pivots[1], pivots[0], kept_x, kept_e, count);
  sums.Store(uppers);
  return count;
#else
  Uppers(x, e, n, pivots, uppers);
  return Between(x, e, n, pivots[1], pivots[0], kept_x, kept_e);
#endif
}

template <class T>
BOLTZMAX_KERNEL size_t PlacesFrom(const T* key, const T* e, size_t n, T low, T scale, int32_t* places, T* p) {
  size_t count = 0, i = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float)) {
    const __m512 least = _mm512_set1_ps(low), times = _mm512_set1_ps(scale);
    __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + 16 <= n; i += 16) {
      const __mmask16 keep = _mm512_cmp_ps_mask(_mm512_loadu_ps(key + i), least, _CMP_GE_OQ);
      if (keep != 0) {
        _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(keep, place));
        _mm512_storeu_ps(p + count, _mm512_mul_ps(_mm512_maskz_compress_ps(keep, _mm512_loadu_ps(e + i)), times));
        count += static_cast<size_t>(__builtin_popcount(keep));
      }
      place = _mm512_add_epi32(place, _mm512_set1_epi32(16));
    }
  } else {
    const __m512d least = _mm512_set1_pd(low), times = _mm512_set1_pd(scale);
    __m512i place = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    for (; i + 8 <= n; i += 8) {
      const __mmask8 keep = _mm512_cmp_pd_mask(_mm512_loadu_pd(key + i), least, _CMP_GE_OQ);
      if (keep != 0) {
        const __m256i narrow = _mm512_cvtepi64_epi32(_mm512_maskz_compress_epi64(keep, place));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(places + count), narrow);
        _mm512_storeu_pd(p + count, _mm512_mul_pd(_mm512_maskz_compress_pd(keep, _mm512_loadu_pd(e + i)), times));
        count += static_cast<size_t>(__builtin_popcount(keep));
      }
      place = _mm512_add_epi64(place, _mm512_set1_epi64(8));
    }
  }
#endif
  for (; i < n; ++i) {
    places[count] = static_cast<int32_t>(i);
    p[count] = e[i] * scale;
    count += static_cast<size_t>(key[i] >= low);
  }
  return count;
}

template <class T>
constexpr SetKernels<T> SetKernelsOf() {
  return {LabelMasses<T>, Terms<T>, Uppers<T>, Between<T>, Split<T>, PlacesFrom<T>};
}

}  // namespace
}  // namespace boltzmax::kernels

// softmax, log_softmax and logsumexp down the columns of an array (axis=0, or any axis that is not the last): each lane
// of a vector is a column, so no element moves.
//
// A column's bits are those of the same numbers in a row. A row adds element i to lane i mod kLanes; so do we, keeping
// one sum for each of those lanes and folding them as WideSum does.
#pragma once

#include "softmax.hpp"

namespace boltzmax::kernels {
namespace {

// At most kLanes neighbouring columns, of which it loads U elements each: rows i, i + step, ... of the strip.
template <class S, class Lanes>
struct Strip {
  using T = Compute<S>;
  using V = Vec<T>;
  const char* x;
  ptrdiff_t stride;
  Lanes lanes;

  const S* At(size_t i) const { return reinterpret_cast<const S*>(x + static_cast<ptrdiff_t>(i) * stride); }

  template <size_t U>
  Block<V, U> Rows(size_t i, size_t step) const {
    Block<V, U> b;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) b.part[u] = LoadLanes<V>(At(i + u * step), lanes, T(0)).part[0];
    return b;
  }
};

template <size_t U>
struct RowCount {};

template <class V, class F>
inline V ColumnMax(size_t n, F f) {
  V max = Set<V>(-static_cast<typename V::Scalar>(__builtin_inff()));
  size_t i = 0;
  for (; i + 4 <= n; i += 4) max = MaxOf(f(i, 1, RowCount<4>{}), max);
  for (; i < n; ++i) max = MaxOf(f(i, 1, RowCount<1>{}), max);
  return max;
}

// SumOver for columns: out[j] has the bits that SumOver gives for column j.
template <class V, class F>
inline void ColumnSum(size_t n, F f, Sum* out) {
  constexpr size_t kLanes = V::kLanes;
  WideSum<V> sums[kLanes];
  for (size_t lane = 0; lane < kLanes && lane < n; ++lane) {
    WideSum<V> sum;
    size_t i = lane;
    for (; i + 3 * kLanes < n; i += 4 * kLanes) AddTrees(&sum, f(i, kLanes, RowCount<4>{}));
    Block<V, 4> tail = Set<V>(0);
    for (size_t j = 0; i < n; ++j, i += kLanes) tail.part[j] = f(i, kLanes, RowCount<1>{}).part[0];
    AddTrees(&sum, tail);
    sums[lane] = sum;
  }
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i].Fold(sums[i + half]);
  }
  sums[0].Lanes(out);
}

// A strip's temperatures, one per lane.
template <class V>
struct StripTemperature {
  using T = typename V::Scalar;
  double value[V::kLanes];
  Temperature<V> vector;

  StripTemperature(const double* first, ptrdiff_t stride, size_t lanes) {
    T t[V::kLanes], hi[V::kLanes], lo[V::kLanes];
    for (size_t j = 0; j < V::kLanes; ++j) {
      const char* p = reinterpret_cast<const char*>(first) + static_cast<ptrdiff_t>(j < lanes ? j : 0) * stride;
      value[j] = *reinterpret_cast<const double*>(p);
      t[j] = static_cast<T>(value[j]);
      InvertTemperature(value[j], &hi[j], &lo[j]);
    }
    vector = {Load(t), Load(hi), Load(lo)};
  }
};

template <bool kScaled, class V, class StripType, class Keep>
inline void ReduceColumns(const StripType& x, size_t n, V largest, const ExpShift<V, kScaled>& shift, Keep keep,
                          RowSum* out) {
  using T = typename V::Scalar;
  Sum sums[V::kLanes];
  ColumnSum<V>(
      n,
      [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
        const auto e = ScaledExp(x.template Rows<U>(i, step), shift);
        keep(i, step, e);
        return e;
      },
      sums);
  T offset[V::kLanes], exponent[V::kLanes], top[V::kLanes], max[V::kLanes];
  Store(max, largest);
  Store(offset, shift.offset);
  Store(exponent, shift.exponent);
  Store(top, ScaledExp(largest, shift));
  for (size_t j = 0; j < V::kLanes; ++j) {
    out[j] = {static_cast<double>(max[j]),
              static_cast<double>(offset[j]),
              static_cast<double>(exponent[j]),
              static_cast<double>(top[j]) * ExpConstants<T>::kUnscale,
              sums[j].hi * ExpConstants<T>::kUnscale,
              sums[j].lo * ExpConstants<T>::kUnscale};
  }
}
struct KeepNoColumn {
  template <class B>
  void operator()(size_t, size_t, const B&) const {}
};

template <bool kScaled, class V, class StripType>
BOLTZMAX_RARE inline void ReduceColumnsRest(const StripType& x, size_t n, V max, const ExpShift<V, kScaled>& shift,
                                            RestSum* out) {
  using T = typename V::Scalar;
  const V zero = Set<V>(T(0));
  V count = zero;
  Sum sums[V::kLanes], errors[V::kLanes] = {};
  ColumnSum<V>(
      n,
      [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
        const auto v = x.template Rows<U>(i, step);
        const auto largest = Eq(v, max);
        for (const auto& part : largest.part) count = count + IfThenElse(part, Set<V>(T(1)), zero);
        return IfThenElse(largest, zero, ScaledExp(v, shift));
      },
      sums);
  RestErrors<V>(
      [&](auto f) {
        ColumnSum<V>(n, f, errors);
        return Sum{};
      },
      [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
        const auto v = x.template Rows<U>(i, step);
        return IfThenElse(Eq(v, max), zero, ExpTermsOf(v, shift).Error());
      });
  T counts[V::kLanes];
  Store(counts, count);
  for (size_t j = 0; j < V::kLanes; ++j) out[j] = MakeRest<T>(sums[j], errors[j], static_cast<double>(counts[j]));
}

// Columns without a finite maximum: DegenerateSum, lane by lane.
template <class V, class StripType>
BOLTZMAX_RARE inline void MarkDegenerate(const StripType& x, size_t n, RowSum* sums, size_t lanes) {
  using T = typename V::Scalar;
  bool any = false;
  for (size_t j = 0; j < lanes; ++j) any = any || !IsFinite(sums[j].max);
  if (!any) return;
  T nan[V::kLanes];
  Store(nan, ColumnMax<V>(n, [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
          return IsNan<V>(x.template Rows<U>(i, step));
        }));
  for (size_t j = 0; j < lanes; ++j) {
    if (IsFinite(sums[j].max)) continue;
    sums[j].hi = nan[j] > T(0) ? __builtin_nan("") : (sums[j].max > 0 ? sums[j].max : 0.0);
    sums[j].lo = 0.0;
  }
}

// log(sum exp(x/T)) - offset/T for every column.
template <bool kScaled, class V, class StripType>
inline void ColumnLogSums(const StripType& x, size_t n, V max, const ExpShift<V, kScaled>& shift, const RowSum* sums,
                          size_t lanes, Sum* out) {
  bool any_peaked = false;
  for (size_t j = 0; j < lanes; ++j) {
    out[j] = LogOfSum(sums[j]);
    any_peaked = any_peaked || IsPeakedFor<typename V::Scalar>(sums[j]);
  }
  if (!any_peaked) return;
  RestSum rest[V::kLanes];
  ReduceColumnsRest<kScaled>(x, n, max, shift, rest);
  for (size_t j = 0; j < lanes; ++j) {
    if (IsPeakedFor<typename V::Scalar>(sums[j]) && !IsDegenerate(sums[j])) out[j] = LogOfPeakedSum(sums[j], rest[j]);
  }
}

template <class Strip>
inline auto StripMax(const Strip& x, size_t n) {
  return ColumnMax<typename Strip::V>(
      n, [&]<size_t U>(size_t i, size_t step, RowCount<U>) { return x.template Rows<U>(i, step); });
}

// f for every row of a strip, four at a time: f(i, RowCount<U>).
template <class F>
inline void ForEachStripRow(size_t n, F f) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) f(i, RowCount<4>{});
  for (; i < n; ++i) f(i, RowCount<1>{});
}

// Where a strip's results go: rows i, i + step, ... of the columns.
template <class S, class Lanes>
struct StripOut {
  char* y;
  ptrdiff_t stride;
  Lanes lanes;

  S* At(size_t i) const { return reinterpret_cast<S*>(y + static_cast<ptrdiff_t>(i) * stride); }

  template <class V, size_t U>
  void Store(size_t i, size_t step, const Block<V, U>& b) const {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) {
      Block<V, 1> row = b.part[u];
      StoreLanes(At(i + u * step), row, lanes);
    }
  }
};

template <bool kScaled, class S, class Lanes>
BOLTZMAX_KERNEL inline void SoftmaxStrip(const Strip<S, Lanes>& x, char* y, ptrdiff_t y_stride, size_t n,
                                         const StripTemperature<Vec<Compute<S>>>& t, size_t) {
  using V = typename Strip<S, Lanes>::V;
  using T = Compute<S>;
  constexpr bool kHoldsExp = sizeof(S) == sizeof(T);  // else the exponentials are computed again
  const StripOut<S, Lanes> out = {y, y_stride, x.lanes};
  const V max = StripMax(x, n);
  const ExpShift<V, kScaled> shift(max, t.vector);
  RowSum sums[V::kLanes];
  ReduceColumns<kScaled>(
      x, n, max, shift,
      [&](size_t i, size_t step, const auto& e) {
        if constexpr (kHoldsExp) out.Store(i, step, e);
      },
      sums);
  T his[V::kLanes], los[V::kLanes];
  for (size_t j = 0; j < V::kLanes; ++j) {
    const Divisor<V> divisor(sums[j]);
    his[j] = divisor.hi;
    los[j] = divisor.lo;
  }
  const V hi = Load(his), lo = Load(los);
  const Strip<S, Lanes> kept = {y, y_stride, x.lanes};
  ForEachStripRow(n, [&]<size_t U>(size_t i, RowCount<U>) {
    if constexpr (kHoldsExp) {
      out.Store(i, 1, Divide(kept.template Rows<U>(i, 1), hi, lo));
    } else {
      out.Store(i, 1, Divide(ScaledExp(x.template Rows<U>(i, 1), shift), hi, lo));
    }
  });
}

template <bool kScaled, class S, class Lanes>
BOLTZMAX_KERNEL inline void LogSoftmaxStrip(const Strip<S, Lanes>& x, char* y, ptrdiff_t y_stride, size_t n,
                                            const StripTemperature<Vec<Compute<S>>>& t, size_t lanes) {
  using V = typename Strip<S, Lanes>::V;
  using T = Compute<S>;
  const V max = StripMax(x, n);
  const ExpShift<V, kScaled> shift(max, t.vector);
  RowSum sums[V::kLanes];
  ReduceColumns<kScaled>(x, n, max, shift, KeepNoColumn{}, sums);
  MarkDegenerate<V>(x, n, sums, lanes);
  Sum log_sums[V::kLanes];
  ColumnLogSums<kScaled>(x, n, max, shift, sums, lanes, log_sums);
  T offsets[V::kLanes] = {}, highs[V::kLanes] = {}, lows[V::kLanes] = {};
  T degenerate[V::kLanes] = {}, all_nan[V::kLanes] = {};
  bool any_degenerate = false;
  for (size_t j = 0; j < lanes; ++j) {
    const auto s = LogShift<T>::template Make<kScaled>(sums[j], log_sums[j]);
    offsets[j] = s.offset;
    highs[j] = s.high;
    lows[j] = s.low;
    degenerate[j] = IsDegenerate(sums[j]) ? T(1) : T(0);
    all_nan[j] = IsAllNan(sums[j]) ? T(1) : T(0);
    any_degenerate = any_degenerate || IsDegenerate(sums[j]);
  }
  const V offset = Load(offsets), high = Load(highs), low = Load(lows), one = Set<V>(T(1));
  const StripOut<S, Lanes> out = {y, y_stride, x.lanes};
  if (!any_degenerate) {
    return ForEachStripRow(n, [&]<size_t U>(size_t i, RowCount<U>) {
      out.Store(i, 1, SubtractLog<kScaled>(x.template Rows<U>(i, 1), offset, high, low, t.vector));
    });
  }
  const auto is_degenerate = Eq(Load(degenerate), one), is_nan = Eq(Load(all_nan), one);
  for (size_t i = 0; i < n; ++i) {
    const V v = x.template Rows<1>(i, 1).part[0];
    const V usual = SubtractLog<kScaled>(v, offset, high, low, t.vector);
    const V special = IfThenElse(is_nan, DegenerateLog<V>(v, true), DegenerateLog<V>(v, false));
    out.Store(i, 1, Block<V, 1>(IfThenElse(is_degenerate, special, usual)));
  }
}

template <bool kScaled, class S, class Lanes>
BOLTZMAX_KERNEL inline void LogSumExpStrip(const Strip<S, Lanes>& x, char* y, ptrdiff_t, size_t n,
                                           const StripTemperature<Vec<Compute<S>>>& t, size_t lanes) {
  using V = typename Strip<S, Lanes>::V;
  const V max = StripMax(x, n);
  const ExpShift<V, kScaled> shift(max, t.vector);
  RowSum sums[V::kLanes];
  ReduceColumns<kScaled>(x, n, max, shift, KeepNoColumn{}, sums);
  MarkDegenerate<V>(x, n, sums, lanes);
  Sum log_sums[V::kLanes];
  ColumnLogSums<kScaled>(x, n, max, shift, sums, lanes, log_sums);
  for (size_t j = 0; j < lanes; ++j) {
    StoreScalar(reinterpret_cast<S*>(y) + j, LogSumExpOf(sums[j], log_sums[j], t.value[j]));
  }
}

}  // namespace
}  // namespace boltzmax::kernels

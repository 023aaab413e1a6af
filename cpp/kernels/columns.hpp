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
template <class S, class Lanes, bool kCoarse>
struct Strip {
  using T = Compute<S>;
  using V = Vec<T>;
  template <bool kScaled>
  using Shift = ExpShift<V, kScaled, ReductionOf<V, kCoarse>>;
  const char* x;
  ptrdiff_t stride;
  size_t n;
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

// f for every row of a strip, four at a time: f(i, RowCount<U>).
template <class F>
inline void ForEachStripRow(size_t n, F f) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) f(i, RowCount<4>{});
  for (; i < n; ++i) f(i, RowCount<1>{});
}

// The maximum of f over the first n rows; NaN is passed over.
template <class V, class F>
inline V ColumnMax(size_t n, F f) {
  V max = Set<V>(-static_cast<typename V::Scalar>(__builtin_inff()));
  ForEachStripRow(n, [&](size_t i, auto count) { max = MaxOf(f(i, count), max); });
  return max;
}
template <class StripType>
inline auto StripMax(const StripType& x, size_t n) {
  return ColumnMax<typename StripType::V>(n, [&]<size_t U>(size_t i, RowCount<U>) { return x.template Rows<U>(i, 1); });
}

// One sum for each row-lane, folded as those of a row are: halves onto halves.
template <class V>
inline Pair<Wide<V>> FoldColumnSums(WideSum<V>* sums) {
  FoldLanes<V::kLanes / 2>(sums, [](WideSum<V> a, const WideSum<V>& b) {
    a.Fold(b);
    return a;
  });
  return sums[0].Lanes();
}

// SumOver for columns, with the bits that SumOver gives for each: f(i, step, RowCount<U>). The rows come in their order,
// trees of four at a time, so that those of one tree are near each other in memory.
template <class V, class F>
inline Pair<Wide<V>> ColumnSum(size_t n, F f) {
  constexpr size_t kLanes = V::kLanes, kTrees = 4 * kLanes;
  WideSum<V> sums[kLanes];
  // Trees of at most U rows, beginning at rows first + [begin, end).
  const auto add = [&]<size_t U>(size_t first, size_t begin, size_t end, RowCount<U> count) {
    for (size_t lane = begin; lane < end; ++lane) {
      const auto terms = f(first + lane, kLanes, count);
      Block<V, 4> tree = Set<V>(0);
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < U; ++u) tree.part[u] = terms.part[u];
      AddTrees(&sums[lane], tree);
    }
  };
  size_t first = 0;
  for (; first + kTrees <= n; first += kTrees) add(first, 0, kLanes, RowCount<4>{});
  const size_t whole = (n - first) / kLanes, longer = (n - first) % kLanes;
  if (whole == 3) {
    add(first, 0, longer, RowCount<4>{});
    add(first, longer, kLanes, RowCount<3>{});
  } else if (whole == 2) {
    add(first, 0, longer, RowCount<3>{});
    add(first, longer, kLanes, RowCount<2>{});
  } else if (whole == 1) {
    add(first, 0, longer, RowCount<2>{});
    add(first, longer, kLanes, RowCount<1>{});
  } else {
    add(first, 0, longer, RowCount<1>{});
  }
  return FoldColumnSums(sums);
}

// A strip's temperatures, one per lane.
template <class V>
struct StripTemperature {
  using T = typename V::Scalar;
  Wide<V> value;
  Temperature<V> vector;

  // Temperature 1.
  StripTemperature() : value(Const(1)), vector(MakeTemperature<V>(1)) {}
  StripTemperature(const double* first, ptrdiff_t stride, size_t lanes) {
    double values[V::kLanes];
    T t[V::kLanes], hi[V::kLanes], lo[V::kLanes];
    for (size_t j = 0; j < V::kLanes; ++j) {
      const char* p = reinterpret_cast<const char*>(first) + static_cast<ptrdiff_t>(j < lanes ? j : 0) * stride;
      values[j] = *reinterpret_cast<const double*>(p);
      t[j] = static_cast<T>(values[j]);
      InvertTemperature(values[j], &hi[j], &lo[j]);
    }
    value = LoadLanes<F64>(values, Whole<V::kLanes / F64::kLanes>{}, 0.0);
    vector = {Load(t), Load(hi), Load(lo)};
  }
};

// What a strip was reduced to.
template <class Shift>
struct StripSum {
  using V = typename Shift::Vector;
  V max;
  Shift shift;
  SumOfExp<Wide<V>> sum;
};

template <class V, class Shift>
inline StripSum<Shift> MakeStripSum(V max, const Shift& shift, const Pair<Wide<V>>& sum) {
  const Wide<V> unscale = Const(ExpConstants<typename V::Scalar>::kUnscale);
  return {max,
          shift,
          {Promote(max), Promote(shift.offset), Promote(shift.exponent), Promote(ScaledExp(max, shift)) * unscale,
           sum.hi * unscale, sum.lo * unscale}};
}

struct KeepNoColumn {
  template <class B>
  void operator()(size_t, size_t, const B&) const {}
};

// SumOfTerms for columns: terms(i, step, RowCount<U>).
template <class V, class Keep, class F>
inline Pair<Wide<V>> ColumnSumOfTerms(size_t n, Keep keep, F terms) {
  if constexpr (std::is_same_v<Keep, KeepNoColumn>) {
    if (n <= kShort) {
      WideSum<V> sums[V::kLanes];
      ForEachStripRow(n, [&]<size_t U>(size_t i, RowCount<U> count) {
        const auto t = terms(i, 1, count);
        const auto add = [&](const Block<V, U>& b) {
          BOLTZMAX_UNROLL
          for (size_t u = 0; u < U; ++u) sums[(i + u) % V::kLanes].Add(b.part[u]);
        };
        add(t.Value());
        if (n < kTiny) add(t.Error());
      });
      return FoldColumnSums(sums);
    }
  }
  return ColumnSum<V>(n, [&](size_t i, size_t step, auto count) {
    const auto e = terms(i, step, count).Value();
    keep(i, step, e);
    return e;
  });
}

// ReduceRow for columns: the exponentials go to keep(i, step, e). Here too the maximum of the first rows will do in
// place of the columns' own, unless `known` asks for that.
template <bool kScaled, class V, class StripType, class Keep>
inline auto ReduceStrip(const StripType& x, const Temperature<V>& t, Keep keep, bool known = false) {
  using Shift = typename StripType::template Shift<kScaled>;
  using C = ExpConstants<typename V::Scalar>;
  constexpr size_t kHead = 16;
  const size_t n = x.n;
  if constexpr (!kScaled) {
    const V guess = StripMax(x, n < kHead ? n : kHead);
    const auto is_direct = [](V v) { return !Any(Lt(Set<V>(C::kDirectLimit), Abs(v))); };
    if (!known && is_direct(guess)) {
      const Shift shift(guess, t);
      const DirectShift direct(shift);
      V max = guess;
      const auto sum = ColumnSumOfTerms<V>(n, keep, [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
        const auto v = x.template Rows<U>(i, step);
        max = MaxOf(v, max);
        return ExpTermsOf(v, direct);
      });
      const bool is_near = !Any(Lt(Set<V>(C::kHeadroom), max - guess));
      if (is_near && is_direct(max)) return MakeStripSum(max, shift, sum);
    }
  }
  const V max = StripMax(x, n);
  const Shift shift(max, t);
  const auto sum = ColumnSumOfTerms<V>(n, keep, [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
    return ExpTermsOf(x.template Rows<U>(i, step), shift);
  });
  return MakeStripSum(max, shift, sum);
}

// Columns without a finite maximum: DegenerateSum, lane by lane.
template <class StripType, class Shift>
BOLTZMAX_RARE inline void MarkDegenerate(const StripType& x, StripSum<Shift>* strip) {
  using V = typename Shift::Vector;
  using D = Wide<V>;
  const V nan = ColumnMax<V>(x.n, [&]<size_t U>(size_t i, RowCount<U>) { return IsNan<V>(x.template Rows<U>(i, 1)); });
  const D zero = Const(0), one = Const(1), not_a_number = Const(__builtin_nan(""));
  const D max = strip->sum.max;
  const D special = IfThenElse(Eq(Promote(nan), one), not_a_number, Max(zero, max));
  const auto finite = Eq(max - max, zero);
  strip->sum.hi = IfThenElse(finite, strip->sum.hi, special);
  strip->sum.lo = IfThenElse(finite, strip->sum.lo, zero);
}

// 1 in the lanes of columns without a finite maximum or with NaN, else 0.
template <class D>
inline D DegenerateLanes(const SumOfExp<D>& sum) {
  const D zero = Const(0), one = Const(1);
  return IfThenElse(Eq(sum.max - sum.max, zero), IfThenElse(Eq(sum.hi, sum.hi), zero, one), one);
}

// The last row in which each column has its maximum.
template <class V, class StripType>
inline V FindLastRows(const StripType& x, V max) {
  using T = typename V::Scalar;
  V last = Set<V>(0);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    const auto v = x.template Rows<U>(i, 1);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) last = IfThenElse(Eq(v.part[u], max), Set<V>(static_cast<T>(i + u)), last);
  });
  return last;
}

// WithoutLargest for columns: gathers the four of each column's tree.
template <class StripType, class Shift, class V = typename Shift::Vector>
inline Pair<Wide<V>> StripWithoutLargest(const StripType& x, const StripSum<Shift>& strip, size_t lanes) {
  using T = typename V::Scalar;
  constexpr size_t kLanes = V::kLanes;
  T last[kLanes], slot[kLanes] = {}, four[4][kLanes];
  Store(last, FindLastRows<V>(x, strip.max));
  for (auto& row : four) {
    for (T& element : row) element = -static_cast<T>(__builtin_inff());
  }
  for (size_t j = 0; j < lanes; ++j) {
    const auto at = static_cast<size_t>(last[j]);
    const size_t s = at % (4 * kLanes) / kLanes, first = at - s * kLanes;
    slot[j] = static_cast<T>(s);
    for (size_t u = 0; u < 4 && first + u * kLanes < x.n; ++u) {
      four[u][j] = FirstLane(LoadN(x.At(first + u * kLanes) + j, 1, T(0)));
    }
  }
  Block<V, 4> v;
  for (size_t u = 0; u < 4; ++u) v.part[u] = Load(four[u]);
  return WithoutLargest(Pair<Wide<V>>{strip.sum.hi, strip.sum.lo}, v, Load(slot), strip.shift);
}

// ReduceRest for columns.
template <class StripType, class Shift, class V = typename Shift::Vector>
BOLTZMAX_KERNEL inline Pair<Wide<V>> ReduceStripRest(const StripType& x, const StripSum<Shift>& strip, size_t lanes) {
  auto rest = x.n <= kShort
                  ? WithoutLargestOfShort(Pair<Wide<V>>{strip.sum.hi, strip.sum.lo}, x.n, strip.max, strip.shift)
                  : StripWithoutLargest(x, strip, lanes);
  const auto tiny = Lt(rest.hi, strip.sum.top * Const(kTinyRest<typename V::Scalar>));
  if (!Any(tiny)) return rest;
  const Wide<V> unscale = Const(ExpConstants<typename V::Scalar>::kUnscale);
  const auto again = ColumnSum<V>(x.n, [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
    const auto b = x.template Rows<U>(i, step);
    return IfThenElse(Eq(b, Block<V, U>(strip.max)), Set<V>(0), ScaledExp(b, strip.shift));
  });
  rest.hi = IfThenElse(tiny, again.hi * unscale, rest.hi);
  rest.lo = IfThenElse(tiny, again.lo * unscale, rest.lo);
  return rest;
}

// log(sum exp(x/T)) - offset/T for every column.
template <class StripType, class Shift, class V = typename Shift::Vector>
inline Pair<Wide<V>> StripLogSum(const StripType& x, const StripSum<Shift>& strip, size_t lanes) {
  using T = typename V::Scalar;
  const auto usual = LogPartsOfSum<T>(strip.sum);
  const auto is_peaked = Lt(strip.sum.hi, strip.sum.top * Const(kPeakedHere));
  if (!Any(is_peaked)) return Join<T>(usual);
  const auto peaked = LogPartsOfPeakedSum<T>(strip.sum, ReduceStripRest(x, strip, lanes));
  const auto choose = [&](const Wide<V>& a, const Wide<V>& b) { return IfThenElse(is_peaked, a, b); };
  return Join<T>(
      LogParts<Wide<V>>{choose(peaked.base, usual.base), choose(peaked.f, usual.f), choose(peaked.extra, usual.extra)});
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
    for (size_t u = 0; u < U; ++u) StoreLanes(At(i + u * step), Block<V, 1>(b.part[u]), lanes);
  }
};

template <bool kScaled, class S, class Lanes, bool kCoarse>
BOLTZMAX_KERNEL inline void SoftmaxStrip(const Strip<S, Lanes, kCoarse>& x, char* y, ptrdiff_t y_stride,
                                         const StripTemperature<Vec<Compute<S>>>& t, size_t) {
  using V = Vec<Compute<S>>;
  constexpr bool kHoldsExp = sizeof(S) == sizeof(Compute<S>);  // else the exponentials are computed again
  const StripOut<S, Lanes> out = {y, y_stride, x.lanes};
  const auto keep = [&](size_t i, size_t step, const auto& e) {
    if constexpr (kHoldsExp) out.Store(i, step, e);
  };
  const auto strip = ReduceStrip<kScaled, V>(x, t.vector, keep, kHoldsExp && y == x.x);
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  const Strip<S, Lanes, kCoarse> kept = {y, y_stride, x.n, x.lanes};
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    if constexpr (kHoldsExp) {
      out.Store(i, 1, Divide(kept.template Rows<U>(i, 1), divisor));
    } else {
      out.Store(i, 1, Divide(ScaledExp(x.template Rows<U>(i, 1), strip.shift), divisor));
    }
  });
}

template <bool kScaled, class S, class Lanes, bool kCoarse>
BOLTZMAX_RARE inline void LogSoftmaxDegenerateStrip(const Strip<S, Lanes, kCoarse>& x, const StripOut<S, Lanes>& out,
                                                    const LogShift<Vec<Compute<S>>>& shift,
                                                    const StripTemperature<Vec<Compute<S>>>& t,
                                                    const SumOfExp<Wide<Vec<Compute<S>>>>& sum) {
  using V = Vec<Compute<S>>;
  const V zero = Set<V>(0), one = Set<V>(1);
  const auto is_usual = Eq(Demote(DegenerateLanes(sum)), zero);
  const Wide<V> none = Const(0), all = Const(1);
  const auto is_nan = Eq(Demote(IfThenElse(Eq(sum.hi, sum.hi), IfThenElse(Lt(sum.max, none), all, none), all)), one);
  for (size_t i = 0; i < x.n; ++i) {
    const V v = x.template Rows<1>(i, 1).part[0];
    const V special = IfThenElse(is_nan, DegenerateLog<V>(v, true), DegenerateLog<V>(v, false));
    out.Store(i, 1, Block<V, 1>(IfThenElse(is_usual, SubtractLog<kScaled>(v, shift, t.vector), special)));
  }
}

template <bool kScaled, class S, class Lanes, bool kCoarse>
BOLTZMAX_KERNEL inline void LogSoftmaxStrip(const Strip<S, Lanes, kCoarse>& x, char* y, ptrdiff_t y_stride,
                                            const StripTemperature<Vec<Compute<S>>>& t, size_t lanes) {
  using V = Vec<Compute<S>>;
  auto strip = ReduceStrip<kScaled, V>(x, t.vector, KeepNoColumn{});
  const bool any_degenerate = Any(Eq(DegenerateLanes(strip.sum), Wide<V>(Const(1))));
  if (any_degenerate) MarkDegenerate(x, &strip);
  const auto shift = LogShift<V>::template Make<kScaled>(strip.sum.offset, StripLogSum(x, strip, lanes));
  const StripOut<S, Lanes> out = {y, y_stride, x.lanes};
  if (any_degenerate) return LogSoftmaxDegenerateStrip<kScaled>(x, out, shift, t, strip.sum);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    out.Store(i, 1, SubtractLog<kScaled>(x.template Rows<U>(i, 1), shift, t.vector));
  });
}

template <bool kScaled, class S, class Lanes, bool kCoarse>
BOLTZMAX_KERNEL inline void LogSumExpStrip(const Strip<S, Lanes, kCoarse>& x, char* y, ptrdiff_t,
                                           const StripTemperature<Vec<Compute<S>>>& t, size_t lanes) {
  using V = Vec<Compute<S>>;
  using D = Wide<V>;
  auto strip = ReduceStrip<kScaled, V>(x, t.vector, KeepNoColumn{});
  const auto is_degenerate = Eq(DegenerateLanes(strip.sum), D(Const(1)));
  if (Any(is_degenerate)) MarkDegenerate(x, &strip);
  const auto log_sum = StripLogSum(x, strip, lanes);
  const auto& sum = strip.sum;
  const D usual = (sum.offset / t.value + log_sum.hi) + log_sum.lo;
  const D special = IfThenElse(Eq(sum.hi, sum.hi), sum.max, sum.hi);
  const V result = Demote(IfThenElse(is_degenerate, special, usual));
  StoreLanes(reinterpret_cast<S*>(y), Block<V, 1>(result), x.lanes);
}

}  // namespace
}  // namespace boltzmax::kernels

// softmax, log_softmax and logsumexp down the columns of an array (axis=0, or any axis that is not the last): each lane
// of a vector is a column, so no element moves.
#pragma once

#include "strip_sum.hpp"

namespace boltzmax::kernels {
namespace {

// A copy of a short strip, from where its lanes can be added up, and their maxima.
template <class T, bool kCoarse>
struct StripCopy {
  Strip<T, kCoarse> x;
  Vec<T> max;
};

// Copies a short strip to `columns`, and prefetches the strip some vectors further.
template <class S, bool kCoarse>
inline StripCopy<Compute<S>, kCoarse> CopyStrip(const Strip<S, kCoarse>& x, Compute<S>* columns) {
  using V = VecOf<S>;
  constexpr size_t kAhead = 4 * V::kLanes;
  const V max = ColumnMax<V>(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) __builtin_prefetch(x.At(i + u) + kAhead);
    const auto v = x.template Rows<U>(i, 1);
    StoreLanes(columns + i * V::kLanes, v, Whole<U>{});
    return v;
  });
  return {AsStrip<S, kCoarse>(columns, x.n), max};
}

// ReduceRow for columns longer than kInOrder: the exponentials go to keep(i, step, e). Here, too, the maximum of the
// first rows serves in place of the columns' own, unless `known` requires the true one.
template <class StripType, class V, class Keep>
inline auto ReduceStrip(const StripType& x, const Temperature<V>& t, Keep keep, bool known = false) {
  using Shift = typename StripType::Shift;
  using C = ExpConstants<typename V::Scalar>;
  constexpr size_t kHead = 16;
  const size_t n = x.n;
  const auto is_direct = [&](V v) { return !t.scaled && !Any(Lt(Set<V>(C::kDirectLimit), Abs(v))); };
  V guess = Set<V>(0);
  for (size_t head = known || t.scaled || n < kHead ? n : kHead;; head = n) {
    guess = StripMax(x, head);
    if (head == n || is_direct(guess)) break;
  }
  while (is_direct(guess)) {
    const Shift shift(guess, t);
    const DirectShift direct(shift);
    V max = guess;
    const auto sum = ColumnSumOfTerms<V>(n, keep, [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
      x.template Prefetch<U>(i, step);
      const auto v = x.template Rows<U>(i, step);
      max = MaxOf(v, max);
      return ScaledExp(v, direct);
    });
    if (is_direct(max) && !Any(Lt(Set<V>(C::kHeadroom), max - guess))) return MakeStripSum(max, shift, sum);
    guess = max;
  }
  const Shift shift(guess, t);
  const auto sum = ColumnSumOfTerms<V>(n, keep, [&]<size_t U>(size_t i, size_t step, RowCount<U>) {
    return ScaledExp(x.template Rows<U>(i, step), shift);
  });
  return MakeStripSum(guess, shift, sum);
}

// DegenerateSum, lane by lane, for columns without a finite maximum.
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

// 1 in the lanes of columns that have NaN or no finite maximum, else 0.
template <class D>
inline D DegenerateLanes(const SumOfExp<D>& sum) {
  const D zero = Const(0), one = Const(1);
  return IfThenElse(Eq(sum.max - sum.max, zero), IfThenElse(Eq(sum.hi, sum.hi), zero, one), one);
}

// The last row in which each column attains its maximum.
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

// WithoutLargest for columns. Gathers, for each column, the four elements of the tree that holds the largest.
template <class StripType, class Shift, class V = typename Shift::Vector>
inline Pair<Wide<V>> StripWithoutLargest(const StripType& x, const StripSum<Shift>& strip) {
  using T = typename V::Scalar;
  constexpr size_t kLanes = V::kLanes;
  T last[kLanes], slot[kLanes] = {}, four[4][kLanes];
  Store(last, FindLastRows<V>(x, strip.max));
  for (auto& row : four) {
    for (T& element : row) element = -static_cast<T>(__builtin_inff());
  }
  for (size_t j = 0; j < x.lanes; ++j) {
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
BOLTZMAX_KERNEL inline Pair<Wide<V>> ReduceStripRest(const StripType& x, const StripSum<Shift>& strip) {
  auto rest = x.n <= kShort
                  ? WithoutLargestOfShort(Pair<Wide<V>>{strip.sum.hi, strip.sum.lo}, x.n, strip.max, strip.shift)
                  : StripWithoutLargest(x, strip);
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

// log(sum exp(x/T)) - offset/T for a strip of columns longer than kPaneledForLogs.
template <class StripType, class Shift, class V = typename Shift::Vector>
inline Pair<Wide<V>> LogOfLong(const StripType& x, const StripSum<Shift>& strip) {
  using T = typename V::Scalar;
  const auto usual = LogPartsOfSum<T>(strip.sum);
  const auto is_peaked = Lt(strip.sum.hi, strip.sum.top * Const(kPeakedHere));
  if (!Any(is_peaked)) return Join<T>(usual);
  const auto peaked = LogPartsOfPeakedSum<T>(strip.sum, ReduceStripRest(x, strip));
  const auto choose = [&](const Wide<V>& a, const Wide<V>& b) { return IfThenElse(is_peaked, a, b); };
  return Join<T>(
      LogParts<Wide<V>>{choose(peaked.base, usual.base), choose(peaked.f, usual.f), choose(peaked.extra, usual.extra)});
}

// A strip's sums, and their logarithms.
template <class Shift>
struct StripLog {
  using D = Wide<typename Shift::Vector>;
  SumOfExp<D> sum;
  Pair<D> log_sum;
  bool any_degenerate;
};
// Copies a short strip to `columns`.
template <class StripType, class V = typename StripType::V, class Shift = typename StripType::Shift>
BOLTZMAX_KERNEL inline StripLog<Shift> ReduceStripToLog(const StripType& x, const StripTemperature<V>& t,
                                                        Columns<typename V::Scalar>* columns) {
  const auto finish = [&](auto& strip, auto log_sum) -> StripLog<Shift> {
    const bool any_degenerate = Any(Eq(DegenerateLanes(strip.sum), Wide<V>(Const(1))));
    if (any_degenerate) MarkDegenerate(x, &strip);
    return {strip.sum, log_sum(strip), any_degenerate};
  };
  const auto in_order = [&]<bool kScaled>(Bool<kScaled>) {
    Columns<typename V::Scalar> terms;
    const auto copy = CopyStrip(x, columns->at);
    auto reduced = ReduceInOrderForLog<kScaled>(copy.x, copy.max, t.vector, KeepInColumns<V>{terms.at});
    return finish(reduced.strip, [&](const auto& strip) { return LogOfShort(strip, reduced.rest); });
  };
  if (x.n <= V::kInOrder) return t.vector.scaled ? in_order(Bool<true>{}) : in_order(Bool<false>{});
  auto strip = ReduceStrip(x, t.vector, KeepNoColumn{});
  if (x.n <= kPaneledForLogs<typename V::Scalar>) {
    return finish(strip, [&](const auto& s) { return LogOfShort(s, ReduceStripRest(x, s)); });
  }
  return finish(strip, [&](const auto& s) { return LogOfLong(x, s); });
}

template <class S, bool kCoarse>
BOLTZMAX_KERNEL inline void SoftmaxStrip(const Strip<S, kCoarse>& x, char* y, ptrdiff_t y_stride,
                                         const StripTemperature<VecOf<S>>& t) {
  using V = VecOf<S>;
  constexpr bool kHoldsExp = sizeof(S) == sizeof(Compute<S>);  // else the exponentials are computed again
  const StripOut<S> out = {y, y_stride, x.n, x.lanes};
  if (x.n <= V::kInOrder) {
    Columns<Compute<S>> columns;
    WithBool(t.vector.scaled, [&]<bool kScaled>(Bool<kScaled>) {
      const auto copy = CopyStrip(x, columns.at);
      const auto strip =
          ReduceShort<kScaled>(copy.x, copy.max, t.vector, KeepInColumns<V>{columns.at}, InOrder<V, false>(x.n));
      const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
      ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
        out.Put(i, 1, Divide(LoadLanes<V>(columns.at + i * V::kLanes, Whole<U>{}, Compute<S>(0)), divisor));
      });
    });
    return;
  }
  const auto keep = [&]<size_t U>(size_t i, size_t step, const Block<V, U>& e) {
    if constexpr (kHoldsExp) {
      out.template Prefetch<U>(i, step);
      out.Put(i, step, e);
    }
  };
  const auto strip = ReduceStrip(x, t.vector, keep, kHoldsExp && y == x.x);
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  const Strip<S, kCoarse> kept = {y, y_stride, x.n, x.lanes};
  if constexpr (kHoldsExp) {
    ForEachStripRow(
        x.n, [&]<size_t U>(size_t i, RowCount<U>) { out.Put(i, 1, Divide(kept.template Rows<U>(i, 1), divisor)); });
  } else {
    WithShift(strip.shift, [&](const auto& shift) {
      ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
        out.Put(i, 1, Divide(ScaledExp(x.template Rows<U>(i, 1), shift), divisor));
      });
    });
  }
}

template <class S, bool kCoarse>
BOLTZMAX_RARE inline void LogSoftmaxDegenerateStrip(const Strip<S, kCoarse>& x, const StripOut<S>& out,
                                                    const LogShift<VecOf<S>>& shift,
                                                    const StripTemperature<VecOf<S>>& t,
                                                    const SumOfExp<Wide<VecOf<S>>>& sum) {
  using V = VecOf<S>;
  const V zero = Set<V>(0), one = Set<V>(1);
  const auto is_usual = Eq(Demote(DegenerateLanes(sum)), zero);
  const Wide<V> none = Const(0), all = Const(1);
  const auto is_nan = Eq(Demote(IfThenElse(Eq(sum.hi, sum.hi), IfThenElse(Lt(sum.max, none), all, none), all)), one);
  for (size_t i = 0; i < x.n; ++i) {
    const V v = x.template Rows<1>(i, 1).part[0];
    const V special = IfThenElse(is_nan, DegenerateLog<V>(v, true), DegenerateLog<V>(v, false));
    const V usual = t.vector.scaled ? SubtractLog<true>(v, shift, t.vector) : SubtractLog<false>(v, shift, t.vector);
    out.Put(i, 1, Block<V, 1>(IfThenElse(is_usual, usual, special)));
  }
}

template <class S, bool kCoarse>
BOLTZMAX_KERNEL inline void LogSoftmaxStrip(const Strip<S, kCoarse>& x, char* y, ptrdiff_t y_stride,
                                            const StripTemperature<VecOf<S>>& t) {
  Columns<Compute<S>> columns;
  const auto strip = ReduceStripToLog(x, t, &columns);
  const auto shift = LogShift<VecOf<S>>::Make(strip.sum.offset, strip.log_sum, t.vector.scaled);
  const StripOut<S> out = {y, y_stride, x.n, x.lanes};
  if (strip.any_degenerate) return LogSoftmaxDegenerateStrip(x, out, shift, t, strip.sum);
  const auto map = [&](const auto& from) {
    WithBool(t.vector.scaled, [&]<bool kScaled>(Bool<kScaled>) {
      ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
        out.template Prefetch<U>(i, 1);
        out.Put(i, 1, SubtractLog<kScaled>(from.template Rows<U>(i, 1), shift, t.vector));
      });
    });
  };
  x.n <= VecOf<S>::kInOrder ? map(AsStrip<S, kCoarse>(columns.at, x.n)) : map(x);
}

template <class S, bool kCoarse>
BOLTZMAX_KERNEL inline void LogSumExpStrip(const Strip<S, kCoarse>& x, char* y, ptrdiff_t,
                                           const StripTemperature<VecOf<S>>& t) {
  using D = Wide<VecOf<S>>;
  Columns<Compute<S>> columns;
  const auto strip = ReduceStripToLog(x, t, &columns);
  const auto& sum = strip.sum;
  const auto is_degenerate = Eq(DegenerateLanes(sum), D(Const(1)));
  const D usual = (Scaled(sum.offset, t) + strip.log_sum.hi) + strip.log_sum.lo;
  const D special = IfThenElse(Eq(sum.hi, sum.hi), sum.max, sum.hi);
  const VecOf<S> result = Demote(IfThenElse(is_degenerate, special, usual));
  StripOut<S>{y, 0, 1, x.lanes}.Put(0, 1, Block<VecOf<S>, 1>(result));
}

}  // namespace
}  // namespace boltzmax::kernels

// Losses of short rows, and statistics of a row's largest element and its target, by panels.
#pragma once

#include "../loss_types.hpp"
#include "../panels/panels.hpp"
#include "../rows/statistics.hpp"

namespace boltzmax::kernels {
namespace {

// The numbers of rows [first, first + rows), one per lane; lanes beyond get that of the first row.
template <class D>
inline D LanesOf(const double* numbers, size_t step, size_t first, size_t rows) {
  if (step == 0) return Const(numbers[0]);
  constexpr size_t kLanes = sizeof(D) / sizeof(double);
  constexpr auto kWhole = Whole<kLanes / F64::kLanes>{};
  if (rows == kLanes) return LoadLanes<F64>(numbers + first, kWhole, 0.0);
  double lanes[kLanes];
  for (size_t j = 0; j < kLanes; ++j) lanes[j] = numbers[first + (j < rows ? j : 0)];
  return LoadLanes<F64>(lanes, kWhole, 0.0);
}

// Lanes as an array.
template <class D>
struct LaneArray {
  double at[sizeof(D) / sizeof(double)];

  explicit LaneArray(const D& lanes) { StoreLanes(at, lanes, Whole<sizeof(D) / sizeof(F64)>{}); }
  double operator[](size_t j) const { return at[j]; }
};

// The log-probability of one element x of each row.
template <class Shift, class V = typename Shift::Vector>
inline Wide<V> LogProbOf(const PanelLog<Shift>& log, V x, const StripTemperature<V>& t) {
  const Wide<V> from_offset = Scaled(Wide<V>(Promote(x) - log.reduced.strip.sum.offset), t);
  const Wide<V> log_prob = (from_offset - log.log_sum.hi) - log.log_sum.lo;
  return IfThenElse(Eq(log.degenerate, Wide<V>(Const(1))), Const(__builtin_nan("")), log_prob);
}

// The class of each row of a panel; -1 where the row is ignored or absent.
template <class D>
inline D ClassesOf(const int64_t* targets, size_t rows) {
  constexpr size_t kLanes = sizeof(D) / sizeof(double);
  int64_t some[kLanes];
  if (rows < kLanes) {
    for (size_t j = 0; j < kLanes; ++j) some[j] = j < rows ? targets[j] : -1;
    targets = some;
  }
  D classes;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < kLanes / F64::kLanes; ++u) classes.part[u] = LoadIntegers(targets + u * F64::kLanes);
  return classes;
}

// The elements of those classes, 0 where there is none; from columns, and from rows.
template <class StripType, class V>
inline V ElementsOf(const StripType& x, V classes) {
  V found = Set<V>(0), index = Set<V>(0);
  for (size_t i = 0; i < x.n; ++i) {
    found = IfThenElse(Eq(index, classes), x.template Rows<1>(i, 1).part[0], found);
    index = index + Set<V>(1);
  }
  return found;
}
template <class S, class V = VecOf<S>>
inline V ElementsOf(const Panel<S>& panel, const int64_t* targets) {
  Compute<S> x[V::kLanes] = {};
  for (size_t j = 0; j < panel.rows; ++j) {
    if (targets[j] >= 0) x[j] = FirstLane(LoadN(panel.Row(j).x + targets[j], 1, Compute<S>(0)));
  }
  return Load(x);
}

// Stores the lanes of a panel's rows, as doubles or as integers.
template <class D>
inline void StoreFirst(const D& lanes, size_t rows, double* out) {
  constexpr size_t kLanes = sizeof(D) / sizeof(double);
  if (rows == kLanes) return StoreLanes(out, lanes, Whole<kLanes / F64::kLanes>{});
  const LaneArray<D> numbers(lanes);
  for (size_t j = 0; j < rows; ++j) out[j] = numbers[j];
}
template <class D>
inline void StoreFirst(const D& lanes, size_t rows, int64_t* out) {
  constexpr size_t kLanes = sizeof(D) / sizeof(double);
  int64_t some[kLanes], *to = rows == kLanes ? out : some;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < kLanes / F64::kLanes; ++u) StoreIntegers(to + u * F64::kLanes, lanes.part[u]);
  for (size_t j = 0; to == some && j < rows; ++j) out[j] = some[j];
}

// 0 for ignored rows.
template <class D>
inline D ZeroIfIgnored(const D& lanes, const D& classes) {
  return IfThenElse(Lt(classes, D(Const(0))), D(Const(0)), lanes);
}

// The gradient's coefficients for each lane, named as in the formula of LossBatch, and its element at the target.
template <class V>
struct Slopes {
  Wide<V> gain, add, at_target;
};

// Replaces any NaN by the one of arithmetic, which stays NaN when narrowed to 16 bits.
template <class D>
inline D PlainNan(const D& x) {
  return IfThenElse(Eq(x, x), x, D(Const(__builtin_nan(""))));
}

// gain (p - 1) + (gain - target_gain) + add, where gain p and target_gain may nearly cancel. If the target is the
// largest element, 1 - p is taken from the rest of the sum; otherwise p is at most 1/2 and nothing cancels.
template <class Shift, class V = typename Shift::Vector>
inline Slopes<V> SlopesOf(const LossBatch& b, size_t first, size_t rows, const PanelLog<Shift>& log, V target,
                          const Wide<V>& lse) {
  using D = Wide<V>;
  const auto lanes = [&](const double* numbers) { return LanesOf<D>(numbers, b.step, first, rows); };
  const auto& sum = log.reduced.strip.sum;
  const D one = Const(1), zero = Const(0);
  const D term =
      Promote(ScaledExp(target, log.reduced.strip.shift)) * Const(ExpConstants<typename V::Scalar>::kUnscale);
  const D is_largest = Promote(IfThenElse(Eq(target, log.reduced.strip.max), Set<V>(1), Set<V>(0)));
  const D missing = IfThenElse(Eq(is_largest, one), log.reduced.rest.hi / sum.hi, one - term / sum.hi);
  // Without lse_gain, an infinite lse must not make NaN.
  const D lse_gain = lanes(b.lse_gain);
  const D gain = PlainNan(lanes(b.gain) + IfThenElse(Eq(lse_gain, zero), zero, lse_gain * lse));
  const D add = PlainNan(lanes(b.add));
  return {gain, add, PlainNan((lanes(b.target_gain) * Const(-1) + gain) - gain * missing + add)};
}

template <class S, class D>
inline void FinishGradient(const Panel<S>& panel, const D& classes, const D& degenerate) {
  const D one = Const(1), zero = Const(0);
  ForEachMarked(panel, degenerate, [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
  ForEachMarked(panel, IfThenElse(Lt(classes, zero), one, zero),
                [&](size_t j) { memset(panel.Out(j), 0, panel.n * sizeof(S)); });
}

// Stores the lse and the log-probability of the target for the rows of a reduced panel.
template <class Shift, class V = typename Shift::Vector>
inline void StoreLogProbs(const LossBatch& b, size_t first, size_t rows, const PanelLog<Shift>& log, V at_target,
                          const Wide<V>& classes, const Wide<V>& lse, const StripTemperature<V>& t) {
  StoreFirst(ZeroIfIgnored(lse, classes), rows, b.lse + first);
  StoreFirst(ZeroIfIgnored(LogProbOf(log, at_target, t), classes), rows, b.log_prob + first);
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void CrossEntropyTransposed(const LossBatch& b, size_t first, const Panel<S>& panel,
                                   const StripTemperature<V>& t) {
  using T = Compute<S>;
  Columns<T> columns, terms;
  const auto log = ReduceTransposedTo<PanelLog, false, kScaled>(panel, &columns, &terms, t);
  const auto x = AsStrip<S, false>(columns.at, panel.n);
  const auto classes = ClassesOf<Wide<V>>(b.target + first, panel.rows);
  const V at_target = ElementsOf(x, Demote(classes));
  const auto lse = LogSumExpOfLanes(log, log.log_sum, t);
  StoreLogProbs(b, first, panel.rows, log, at_target, classes, lse, t);
  if (b.y == nullptr) return;
  const auto slopes = SlopesOf(b, first, panel.rows, log, at_target, lse);
  const auto& strip = log.reduced.strip;
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  const V largest = Divide(ScaledExp(strip.max, strip.shift), divisor);
  const V gain = Demote(slopes.gain), add = Demote(slopes.add), slope = Demote(slopes.at_target);
  V is_target = Demote(classes);  // 0 in the row of the class
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    using B = Block<V, U>;
    const B others = LoadLanes<V>(terms.at + i * V::kLanes, Whole<U>{}, T(0));
    const B p = IfThenElse(Eq(x.template Rows<U>(i, 1), B(strip.max)), B(largest), Divide(others, divisor));
    B y = MulAdd(p, B(gain), B(add));
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) {
      y.part[u] = IfThenElse(Eq(is_target, Set<V>(0)), slope, y.part[u]);
      is_target = is_target - Set<V>(1);
    }
    StoreLanes(columns.at + i * V::kLanes, y, Whole<U>{});
  });
  StoreTransposed(columns.at, panel);
  FinishGradient(panel, classes, log.degenerate);
}

// The part common to all rows as stored, which follows their reduction. terms(j, map) calls map with a function
// (i, lanes) for the exponentials of row j.
template <class S, class Shift, class Terms, class V = VecOf<S>>
inline void CrossEntropyOfRows(const LossBatch& b, size_t first, const Panel<S>& panel, const PanelLog<Shift>& log,
                               const StripTemperature<V>& t, Terms terms) {
  using T = Compute<S>;
  const int64_t* target = b.target + first;
  const auto classes = ClassesOf<Wide<V>>(target, panel.rows);
  const V at_target = ElementsOf(panel, target);
  const auto lse = LogSumExpOfLanes(log, log.log_sum, t);
  StoreLogProbs(b, first, panel.rows, log, at_target, classes, lse, t);
  if (b.y == nullptr) return;
  const auto slopes = SlopesOf(b, first, panel.rows, log, at_target, lse);
  const auto& sum = log.reduced.strip.sum;
  const LaneDivisors<V> divisors(Divisor<V>(sum.hi, sum.lo));
  T gain[V::kLanes], add[V::kLanes];
  Store(gain, Demote(slopes.gain));
  Store(add, Demote(slopes.add));
  const LaneArray<Wide<V>> slope(slopes.at_target);
  for (size_t j = 0; j < panel.rows; ++j) {
    if (target[j] < 0) continue;
    const Divisor<V> divisor = divisors[j];
    const V slope_of_p = Set<V>(gain[j]), offset = Set<V>(add[j]);
    terms(j, [&](auto e) {
      MapRow(panel, panel.n, j, [&]<class Lanes>(size_t i, Lanes lanes) {
        using B = Block<V, Lanes::kVectors>;
        return MulAdd(Divide(e(i, lanes), divisor), B(slope_of_p), B(offset));
      });
    });
    StoreScalar(panel.Out(j) + target[j], slope[j]);
  }
  FinishGradient(panel, classes, log.degenerate);
}

template <class S, class V = VecOf<S>>
inline void CrossEntropyAlong(const LossBatch& b, size_t first, const Panel<S>& panel, const StripTemperature<V>& t,
                              PlainTrial* trial) {
  using T = Compute<S>;
  PanelTerms<S> terms(panel, b.scratch);
  const auto log = ReduceAlongTo<PanelLog, false, true>(&terms, t, trial, b.y != nullptr);
  CrossEntropyOfRows(b, first, panel, log, t, [&](size_t j, auto map) {
    map([e = terms.kept.Row(j)]<class Lanes>(size_t i, Lanes) {
      return LoadLanes<V>(e + i, Whole<Lanes::kVectors>{}, T(0));
    });
  });
}

// For longer rows. Their exponentials are kept where the gradient will be, if it holds such numbers and is not the row
// itself; otherwise they are computed again. That is also why large gradients are not written past the cache: computing
// the exponentials again would take 1.1 to 1.7 times as long.
template <class S, class V = VecOf<S>>
inline void CrossEntropyInOnePass(const LossBatch& b, size_t first, const Panel<S>& panel,
                                  const StripTemperature<V>& t) {
  using T = Compute<S>;
  const auto counts = [&](size_t j) { return b.target[first + j] >= 0; };
  const auto run = [&](auto keep, auto terms) {
    const auto log = ReduceInOnePassTo<PanelLog, false, true>(panel, t, counts, keep);
    const auto& shift = log.reduced.strip.shift;
    CrossEntropyOfRows(b, first, panel, log, t, [&](size_t j, auto map) { terms(shift, j, map); });
  };
  if constexpr (sizeof(S) == sizeof(T)) {
    if (b.y != nullptr && b.y != b.x) {
      return run([&](size_t j, size_t i, auto lanes, const auto& e) { StoreLanes(panel.Out(j) + i, e, lanes); },
                 [&](const auto&, size_t j, auto map) {
                   map([e = panel.Out(j)](size_t i, auto lanes) { return LoadLanes<V>(e + i, lanes, T(0)); });
                 });
    }
  }
  run(KeepNoTerm{}, [&](const auto& shift, size_t j, auto map) {
    WithShift(LaneShifts(shift)[j], [&](const auto& own) {
      map([x = panel.Row(j), &own](size_t i, auto lanes) { return ScaledExp(x(i, lanes), own); });
    });
  });
}

// ---- the largest element, and the target's rank ----

// The first index at which a row of a panel attains its maximum; 0 if the maximum is NaN or -inf.
template <class S, class V = VecOf<S>>
inline void FirstLargest(const Panel<S>& panel, V max, int64_t* ids) {
  using T = Compute<S>;
  T of_row[V::kLanes];
  Store(of_row, max);
  for (size_t j = 0; j < panel.rows; ++j) {
    ids[j] = 0;
    if (!(of_row[j] > Source<S>::kLowest)) continue;
    const auto x = panel.Row(j);
    size_t i = 0;
    while (panel.n - i > V::kLanes && !Any(Eq(x(i, Whole<1>{}).part[0], Set<V>(of_row[j])))) i += V::kLanes;
    T numbers[V::kLanes];
    Store(numbers, x(i, Partial<1>{panel.n - i < V::kLanes ? panel.n - i : V::kLanes}).part[0]);
    size_t lane = 0;
    while (numbers[lane] != of_row[j]) ++lane;
    ids[j] = static_cast<int64_t>(i + lane);
  }
}
// The same for columns.
template <class StripType, class V>
inline V FirstLargest(const StripType& x, V max) {
  V first = Set<V>(0);
  for (size_t i = x.n; i-- > 0;) {
    first = IfThenElse(Eq(x.template Rows<1>(i, 1).part[0], max), Set<V>(static_cast<typename V::Scalar>(i)), first);
  }
  return IfThenElse(Eq(max, Set<V>(Source<typename V::Scalar>::kLowest)), Set<V>(0), first);
}

// 1 + the number of elements of a column above `target`.
template <class StripType, class V>
inline V RankOf(const StripType& x, V target) {
  const V one = Set<V>(1);
  V rank = one;
  for (size_t i = 0; i < x.n; ++i) {
    rank = IfThenElse(Lt(target, x.template Rows<1>(i, 1).part[0]), rank + one, rank);
  }
  return rank;
}

// The part common to both layouts: first_largest(ids), at_target() and ranks(target, ranks) read the rows.
template <class S, class Shift, class V, class FirstOf, class AtTarget, class Ranks>
inline void StoreStats(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const PanelLog<Shift>& log,
                       const StripTemperature<V>& t, FirstOf first_largest, AtTarget at_target, Ranks ranks) {
  StoreFirst(LogSumExpOfLanes(log, log.log_sum, t), panel.rows, b.lse + first);
  if (b.top_id != nullptr) {
    first_largest(b.top_id + first);
    StoreFirst(LogProbOf(log, log.reduced.strip.max, t), panel.rows, b.top_log_prob + first);
  }
  if (b.target == nullptr) return;
  const V target = at_target(b.target + first);
  StoreFirst(LogProbOf(log, target, t), panel.rows, b.target_log_prob + first);
  ranks(target, b.target_rank + first);
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void StatsTransposed(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const StripTemperature<V>& t) {
  Columns<Compute<S>> columns, terms;
  const auto log = ReduceTransposedTo<PanelLog, false, kScaled>(panel, &columns, &terms, t);
  const auto x = AsStrip<S, false>(columns.at, panel.n);
  const size_t rows = panel.rows;
  StoreStats(
      b, first, panel, log, t,
      [&](int64_t* ids) { StoreFirst(Promote(FirstLargest(x, log.reduced.strip.max)), rows, ids); },
      [&](const int64_t* targets) { return ElementsOf(x, Demote(ClassesOf<Wide<V>>(targets, rows))); },
      [&](V target, int64_t* ranks) { StoreFirst(Promote(RankOf(x, target)), rows, ranks); });
}

// The same for rows as stored.
template <class S, class Shift, class V = VecOf<S>>
inline void StoreStatsOfRows(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const PanelLog<Shift>& log,
                             const StripTemperature<V>& t) {
  StoreStats(
      b, first, panel, log, t, [&](int64_t* ids) { FirstLargest(panel, log.reduced.strip.max, ids); },
      [&](const int64_t* targets) { return ElementsOf(panel, targets); },
      [&](V target, int64_t* ranks) {
        Compute<S> of_row[V::kLanes];
        Store(of_row, target);
        for (size_t j = 0; j < panel.rows; ++j) {
          ranks[j] = static_cast<int64_t>(1 + CountAbove(panel.Row(j), panel.n, static_cast<double>(of_row[j])));
        }
      });
}

template <class S, class V = VecOf<S>>
inline void StatsAlong(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const StripTemperature<V>& t,
                       PlainTrial* trial) {
  PanelTerms<S> terms(panel, b.scratch);
  StoreStatsOfRows(b, first, panel, ReduceAlongTo<PanelLog, false, true>(&terms, t, trial, false), t);
}
template <class S, class V = VecOf<S>>
inline void StatsInOnePass(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const StripTemperature<V>& t) {
  const auto all = [](size_t) { return true; };
  const auto log = ReduceInOnePassTo<PanelLog, false, true>(panel, t, all, KeepNoTerm{});
  StoreStatsOfRows(b, first, panel, log, t);
}

}  // namespace
}  // namespace boltzmax::kernels

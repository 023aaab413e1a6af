// Losses of short rows, and what else a row's largest element and its target tell: by panels.
#pragma once

#include "loss_types.hpp"
#include "panels.hpp"
#include "statistics.hpp"

namespace boltzmax::kernels {
namespace {

// One number for each lane of a panel, of those that rows [first, first + rows) have; beyond, that of the first.
template <class D>
inline D LanesOf(const double* numbers, size_t step, size_t first, size_t rows) {
  if (step == 0) return Const(numbers[0]);
  constexpr size_t kLanes = sizeof(D) / sizeof(double);
  double lanes[kLanes];
  for (size_t j = 0; j < kLanes; ++j) lanes[j] = numbers[first + (j < rows ? j : 0)];
  return LoadLanes<F64>(lanes, Whole<kLanes / F64::kLanes>{}, 0.0);
}

// Lanes as an array.
template <class D>
struct LaneArray {
  double at[sizeof(D) / sizeof(double)];

  explicit LaneArray(const D& lanes) { StoreLanes(at, lanes, Whole<sizeof(D) / sizeof(F64)>{}); }
  double operator[](size_t j) const { return at[j]; }
};

// The logarithm of the probability of an element x of each row.
template <bool kScaled, class Shift, class V = typename Shift::Vector>
inline Wide<V> LogProbOf(const PanelLog<Shift>& log, V x, const StripTemperature<V>& t) {
  const Wide<V> from_offset = Scaled<kScaled>(Promote(x) - log.strip.sum.offset, t.value);
  const Wide<V> log_prob = (from_offset - log.log_sum.hi) - log.log_sum.lo;
  return IfThenElse(Eq(log.degenerate, Wide<V>(Const(1))), Const(__builtin_nan("")), log_prob);
}

// A panel whose rows were reduced either way, and what has to be known to map them.
template <class S>
struct TargetLanes {
  using T = Compute<S>;
  using V = Vec<T>;
  static constexpr size_t kRows = V::kLanes;
  int64_t target[kRows];  // the class of each row, or negative
  T x[kRows];             // its element

  template <class At>
  TargetLanes(const int64_t* targets, size_t rows, At at) {
    for (size_t j = 0; j < kRows; ++j) {
      target[j] = j < rows ? targets[j] : -1;
      x[j] = target[j] < 0 ? T(0) : at(j, static_cast<size_t>(target[j]));
    }
  }
};

// The gradient's numbers of each lane, as the formula of LossBatch names them, and the element of the target.
template <class V>
struct Slopes {
  Wide<V> gain, add, at_target;
};

// Arithmetic's NaN, which narrows to 16 bits, for one of any kind.
template <class D>
inline D PlainNan(const D& x) {
  return IfThenElse(Eq(x, x), x, D(Const(__builtin_nan(""))));
}

// gain (p - 1) + (gain - target_gain) + add, where gain p and target_gain may nearly cancel: 1 - p is the rest of the sum
// where the target is the largest element; otherwise p is at most 1/2 and nothing cancels.
template <class Shift, class V = typename Shift::Vector>
inline Slopes<V> SlopesOf(const LossBatch& b, size_t first, size_t rows, const PanelLog<Shift>& log, V target,
                          const Wide<V>& lse) {
  using D = Wide<V>;
  const auto lanes = [&](const double* numbers) { return LanesOf<D>(numbers, b.step, first, rows); };
  const auto& sum = log.strip.sum;
  const D one = Const(1), zero = Const(0);
  const D term = Promote(ScaledExp(target, log.strip.shift)) * Const(ExpConstants<typename V::Scalar>::kUnscale);
  const D is_largest = Promote(IfThenElse(Eq(target, log.strip.max), Set<V>(1), Set<V>(0)));
  const D missing = IfThenElse(Eq(is_largest, one), log.rest.hi / sum.hi, one - term / sum.hi);
  // 0 times an infinite lse is left out.
  const D lse_gain = lanes(b.lse_gain);
  const D gain = PlainNan(lanes(b.gain) + IfThenElse(Eq(lse_gain, zero), zero, lse_gain * lse));
  const D add = PlainNan(lanes(b.add));
  return {gain, add, PlainNan((lanes(b.target_gain) * Const(-1) + gain) - gain * missing + add)};
}

template <class S, class V = VecOf<S>>
inline void FinishGradient(const Panel<S>& panel, const int64_t* target, const Wide<V>& degenerate) {
  ForEachMarked(panel, degenerate, [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
  for (size_t j = 0; j < panel.rows; ++j) {
    if (target[j] < 0) memset(panel.Out(j), 0, panel.n * sizeof(S));
  }
}

template <class D>
inline void StoreCounted(const D& lanes, const int64_t* target, size_t rows, double* out) {
  const LaneArray<D> numbers(lanes);
  for (size_t j = 0; j < rows; ++j) out[j] = target[j] < 0 ? 0.0 : numbers[j];
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void CrossEntropyTransposed(const LossBatch& b, size_t first, const Panel<S>& panel,
                                   const StripTemperature<V>& t) {
  using T = Compute<S>;
  Columns<T> columns, terms;
  const auto log = ReduceTransposedToLog<kScaled, false>(panel, &columns, &terms, t);
  const TargetLanes<S> target(b.target + first, panel.rows,
                              [&](size_t j, size_t c) { return columns.at[c * V::kLanes + j]; });
  const V at_target = Load(target.x);
  const auto lse = LogSumExpOfLanes<kScaled>(log, t);
  StoreCounted(lse, target.target, panel.rows, b.lse + first);
  StoreCounted(LogProbOf<kScaled>(log, at_target, t), target.target, panel.rows, b.log_prob + first);
  if (b.y == nullptr) return;
  const auto slopes = SlopesOf(b, first, panel.rows, log, at_target, lse);
  const Divisor<V> divisor(log.strip.sum.hi, log.strip.sum.lo);
  const V largest = Divide(ScaledExp(log.strip.max, log.strip.shift), divisor);
  const V gain = Demote(slopes.gain), add = Demote(slopes.add);
  const auto x = AsStrip<S, false>(columns.at, panel.n);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    using B = Block<V, U>;
    const B others = LoadLanes<V>(terms.at + i * V::kLanes, Whole<U>{}, T(0));
    const B p = IfThenElse(Eq(x.template Rows<U>(i, 1), B(log.strip.max)), B(largest), Divide(others, divisor));
    StoreLanes(columns.at + i * V::kLanes, MulAdd(p, B(gain), B(add)), Whole<U>{});
  });
  T slope[V::kLanes];
  Store(slope, Demote(slopes.at_target));
  for (size_t j = 0; j < panel.rows; ++j) {
    if (target.target[j] >= 0) columns.at[static_cast<size_t>(target.target[j]) * V::kLanes + j] = slope[j];
  }
  StoreTransposed(columns.at, panel);
  FinishGradient(panel, target.target, log.degenerate);
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void CrossEntropyAlong(const LossBatch& b, size_t first, const Panel<S>& panel, const StripTemperature<V>& t) {
  using T = Compute<S>;
  const auto log = ReduceAlongToLog<kScaled, false>(panel, t, b.scratch);
  const TargetLanes<S> target(b.target + first, panel.rows,
                              [&](size_t j, size_t c) { return FirstLane(LoadN(panel.Row(j).x + c, 1, T(0))); });
  const V at_target = Load(target.x);
  const auto lse = LogSumExpOfLanes<kScaled>(log, t);
  StoreCounted(lse, target.target, panel.rows, b.lse + first);
  StoreCounted(LogProbOf<kScaled>(log, at_target, t), target.target, panel.rows, b.log_prob + first);
  if (b.y == nullptr) return;
  const auto slopes = SlopesOf(b, first, panel.rows, log, at_target, lse);
  const LaneDivisors<V> divisors(log.strip.sum);
  T gain[V::kLanes], add[V::kLanes];
  Store(gain, Demote(slopes.gain));
  Store(add, Demote(slopes.add));
  const LaneArray<Wide<V>> slope(slopes.at_target);
  const Waiting<T> waiting(b.scratch, panel.n);
  MapAlong(panel, b.stream, [&](size_t j, auto map) {
    const Divisor<V> divisor = divisors[j];
    const V slope_of_p = Set<V>(gain[j]), offset = Set<V>(add[j]);
    map([&]<class Lanes>(size_t i, Lanes) {
      using B = Block<V, Lanes::kVectors>;
      const B p = Divide(LoadLanes<V>(waiting.Row(j) + i, Whole<Lanes::kVectors>{}, T(0)), divisor);
      return MulAdd(p, B(slope_of_p), B(offset));
    });
    if (target.target[j] >= 0) StoreScalar(panel.Out(j) + target.target[j], slope[j]);
  });
  FinishGradient(panel, target.target, log.degenerate);
}

// ---- the largest element, and the target's rank ----

// The first index at which a row of a panel has its maximum; 0 where that is not a number, or no number exceeds -inf.
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
// The same of columns.
template <class S, class StripType, class V = VecOf<S>>
inline void FirstLargest(const Panel<S>& panel, const StripType& x, V max, int64_t* ids) {
  using T = Compute<S>;
  V index = Set<V>(0);
  for (size_t i = x.n; i-- > 0;) {
    index = IfThenElse(Eq(x.template Rows<1>(i, 1).part[0], max), Set<V>(static_cast<T>(i)), index);
  }
  index = IfThenElse(Eq(max, Set<V>(Source<S>::kLowest)), Set<V>(0), index);
  T numbers[V::kLanes];
  Store(numbers, index);
  for (size_t j = 0; j < panel.rows; ++j) ids[j] = static_cast<int64_t>(numbers[j]);
}

template <class D>
inline void StoreFirst(const D& lanes, size_t rows, double* out) {
  const LaneArray<D> numbers(lanes);
  for (size_t j = 0; j < rows; ++j) out[j] = numbers[j];
}

// What both ways have in common: first_largest(ids) and ranks(targets, ranks) look into the rows.
template <bool kScaled, class S, class Shift, class V, class At, class FirstOf, class Ranks>
inline void StoreStats(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const PanelLog<Shift>& log,
                       const StripTemperature<V>& t, At at, FirstOf first_largest, Ranks ranks) {
  StoreFirst(LogSumExpOfLanes<kScaled>(log, t), panel.rows, b.lse + first);
  if (b.top_id != nullptr) {
    first_largest(b.top_id + first);
    StoreFirst(LogProbOf<kScaled>(log, log.strip.max, t), panel.rows, b.top_log_prob + first);
  }
  if (b.target == nullptr) return;
  const TargetLanes<S> target(b.target + first, panel.rows, at);
  StoreFirst(LogProbOf<kScaled>(log, Load(target.x), t), panel.rows, b.target_log_prob + first);
  ranks(target.x, b.target_rank + first);
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void StatsTransposed(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const StripTemperature<V>& t) {
  using T = Compute<S>;
  Columns<T> columns, terms;
  const auto log = ReduceTransposedToLog<kScaled, false>(panel, &columns, &terms, t);
  const auto x = AsStrip<S, false>(columns.at, panel.n);
  StoreStats<kScaled>(
      b, first, panel, log, t, [&](size_t j, size_t c) { return columns.at[c * V::kLanes + j]; },
      [&](int64_t* ids) { FirstLargest(panel, x, log.strip.max, ids); },
      [&](const T* targets, int64_t* ranks) {
        const V target = Load(targets), one = Set<V>(1);
        V rank = one;
        for (size_t i = 0; i < x.n; ++i) {
          rank = IfThenElse(Lt(target, x.template Rows<1>(i, 1).part[0]), rank + one, rank);
        }
        T numbers[V::kLanes];
        Store(numbers, rank);
        for (size_t j = 0; j < panel.rows; ++j) ranks[j] = static_cast<int64_t>(numbers[j]);
      });
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void StatsAlong(const RowStatsBatch& b, size_t first, const Panel<S>& panel, const StripTemperature<V>& t) {
  using T = Compute<S>;
  const auto log = ReduceAlongToLog<kScaled, false>(panel, t, b.scratch);
  StoreStats<kScaled>(
      b, first, panel, log, t, [&](size_t j, size_t c) { return FirstLane(LoadN(panel.Row(j).x + c, 1, T(0))); },
      [&](int64_t* ids) { FirstLargest(panel, log.strip.max, ids); },
      [&](const T* targets, int64_t* ranks) {
        for (size_t j = 0; j < panel.rows; ++j) {
          ranks[j] = static_cast<int64_t>(1 + CountAbove(panel.Row(j), panel.n, static_cast<double>(targets[j])));
        }
      });
}

// ---- batches ----

// f(scaled, transposed, first, panel, temperatures) for every panel of rows.
template <class S, class Batch, class F>
inline void ForEachLossPanel(const Batch& b, S* y, ptrdiff_t y_stride, F f) {
  using V = VecOf<S>;
  constexpr size_t kRows = Panel<S>::kRows;
  StripTemperature<V> t;
  if (b.temperature != 1.0) t = {&b.temperature, 0, V::kLanes};
  const auto all = [&](auto scaled, auto transposed) {
    for (size_t r = 0; r < b.rows; r += kRows) {
      const Panel<S> panel = {RowAt(reinterpret_cast<const S*>(b.x), b.x_stride, r),
                              y == nullptr ? nullptr : RowAt(y, y_stride, r),
                              nullptr,
                              b.x_stride,
                              y_stride,
                              0,
                              b.rows - r < kRows ? b.rows - r : kRows,
                              b.n};
      f(scaled, transposed, r, panel, t);
    }
  };
  WithBool(b.temperature != 1.0,
           [&](auto scaled) { WithBool(b.n <= V::kInOrder, [&](auto transposed) { all(scaled, transposed); }); });
}

template <class S>
BOLTZMAX_KERNEL inline void CrossEntropyRows(const LossBatch& b) {
  ForEachLossPanel<S>(b, reinterpret_cast<S*>(b.y), b.y_stride,
                      [&](auto scaled, auto transposed, size_t first, const Panel<S>& panel, const auto& t) {
                        constexpr bool kScaled = decltype(scaled)::value;
                        if constexpr (decltype(transposed)::value) {
                          CrossEntropyTransposed<kScaled>(b, first, panel, t);
                        } else {
                          CrossEntropyAlong<kScaled>(b, first, panel, t);
                        }
                      });
  if (b.stream) StreamFence();
}
template <class S>
BOLTZMAX_KERNEL inline void RowStatsRows(const RowStatsBatch& b) {
  ForEachLossPanel<S>(b, static_cast<S*>(nullptr), 0,
                      [&](auto scaled, auto transposed, size_t first, const Panel<S>& panel, const auto& t) {
                        constexpr bool kScaled = decltype(scaled)::value;
                        if constexpr (decltype(transposed)::value) {
                          StatsTransposed<kScaled>(b, first, panel, t);
                        } else {
                          StatsAlong<kScaled>(b, first, panel, t);
                        }
                      });
}

template <class S>
constexpr LossKernels kLossKernels = {kPaneled<Compute<S>>, CrossEntropyRows<S>, RowStatsRows<S>};

}  // namespace
}  // namespace boltzmax::kernels

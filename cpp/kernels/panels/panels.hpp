// softmax, log_softmax and logsumexp of short rows, by panels.
#pragma once

#include "panel.hpp"

namespace boltzmax::kernels {
namespace {

// ---- softmax ----

template <bool kScaled, class S, class V = VecOf<S>>
inline void SoftmaxTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  Columns<Compute<S>> columns;
  LoadTransposed(panel, columns.at);
  const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
  const auto strip = ReduceInOrder<kScaled>(x, t.vector, KeepInColumns<V>{columns.at});
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    StoreLanes(columns.at + i * V::kLanes, Divide(x.template Rows<U>(i, 1), divisor), Whole<U>{});
  });
  StoreTransposed(columns.at, panel);
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void SoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch) {
  using T = Compute<S>;
  const KeptTerms<T> kept(scratch, panel.n);
  const auto strip = ReduceAlong<kScaled, kCoarseWillDo<S>, false>(panel, t.vector, kept, true);
  const LaneDivisors<V> divisors(strip.sum);
  MapAlong(panel, [&](size_t j, auto map) {
    const Divisor<V> divisor = divisors[j];
    const T* e = kept.Row(j);
    map([&]<class Lanes>(size_t i, Lanes) {
      return Divide(LoadLanes<V>(e + i, Whole<Lanes::kVectors>{}, T(0)), divisor);
    });
  });
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

// ---- logarithms ----

template <class D>
inline RowSum RowOf(const SumOfExp<D>& lanes, size_t j) {
  constexpr auto kWhole = Whole<sizeof(D) / sizeof(F64)>{};
  double numbers[6][sizeof(D) / sizeof(double)];
  const D* fields[] = {&lanes.max, &lanes.offset, &lanes.exponent, &lanes.top, &lanes.hi, &lanes.lo};
  for (size_t f = 0; f < 6; ++f) StoreLanes(numbers[f], *fields[f], kWhole);
  return {numbers[0][j], numbers[1][j], numbers[2][j], numbers[3][j], numbers[4][j], numbers[5][j]};
}

// The sum of each row without its largest term; where that is tiny, it is summed again from the row.
template <class S, class Shift, class V = typename Shift::Vector>
inline Pair<Wide<V>> RestAlong(const Panel<S>& panel, const StripSum<Shift>& strip, const StripTemperature<V>& t) {
  using T = Compute<S>;
  using D = Wide<V>;
  constexpr auto kWhole = Whole<sizeof(D) / sizeof(F64)>{};
  auto rest = WithoutLargestOfShort(Pair<D>{strip.sum.hi, strip.sum.lo}, panel.n, strip.max, strip.shift);
  const auto tiny = IfThenElse(Lt(rest.hi, strip.sum.top * Const(kTinyRest<T>)), D(Const(1)), D(Const(0)));
  if (!Any(Eq(tiny, D(Const(1))))) return rest;
  double hi[V::kLanes], lo[V::kLanes], temperature[V::kLanes];
  StoreLanes(hi, rest.hi, kWhole);
  StoreLanes(lo, rest.lo, kWhole);
  StoreLanes(temperature, t.value, kWhole);
  ForEachMarked(panel, tiny, [&](size_t j) {
    const RowSum row = RowOf(strip.sum, j);
    const Shift shift(row, MakeTemperature<V>(temperature[j]));
    const Sum again = SumRest(panel.Row(j), panel.n, Set<V>(static_cast<T>(row.max)), shift);
    hi[j] = again.hi;
    lo[j] = again.lo;
  });
  return {LoadLanes<F64>(hi, kWhole, 0.0), LoadLanes<F64>(lo, kWhole, 0.0)};
}

// The sums, with the result of DegenerateSum in the lanes where `degenerate` is 1. (By value: an argument whose address
// is taken would be kept in memory by all callers.)
template <class S, class D>
BOLTZMAX_RARE inline D MarkDegenerateRows(const Panel<S>& panel, D degenerate, D sums, D maxima) {
  constexpr size_t kLanes = Panel<S>::kRows;
  constexpr auto kWhole = Whole<kLanes / F64::kLanes>{};
  double hi[kLanes], max[kLanes];
  StoreLanes(hi, sums, kWhole);
  StoreLanes(max, maxima, kWhole);
  ForEachMarked(panel, degenerate, [&](size_t j) { hi[j] = DegenerateSum(panel.Row(j), panel.n, max[j]).hi; });
  return LoadLanes<F64>(hi, kWhole, 0.0);
}

// The result of reducing the rows of a panel.
template <class Shift>
struct PanelSum {
  using V = typename Shift::Vector;
  StripRest<Shift> reduced;
  Wide<V> degenerate;  // 1 in the lanes of rows that have NaN or no finite maximum, else 0

  template <class S, class Reduce>
  PanelSum(const Panel<S>& panel, Reduce reduce) : reduced(reduce()), degenerate(DegenerateLanes(reduced.strip.sum)) {
    auto& sum = reduced.strip.sum;
    if (AnyDegenerate()) sum.hi = MarkDegenerateRows(panel, degenerate, sum.hi, sum.max);
  }

  bool AnyDegenerate() const { return Any(Eq(degenerate, Wide<V>(Const(1)))); }
};

// The same with the logarithms of the sums.
template <class Shift>
struct PanelLog : PanelSum<Shift> {
  Pair<Wide<typename Shift::Vector>> log_sum;

  template <class S, class Reduce>
  PanelLog(const Panel<S>& panel, Reduce reduce)
      : PanelSum<Shift>(panel, reduce), log_sum(LogOfShort(this->reduced.strip, this->reduced.rest)) {}
};

// Reduces a panel to a PanelSum or PanelLog. If transposed, its rows are then in `columns`, and all but the largest
// exponentials in `terms`.
template <template <class> class Result, bool kScaled, bool kCoarse, class S, class V = VecOf<S>>
inline auto ReduceTransposedTo(const Panel<S>& panel, Columns<Compute<S>>* columns, Columns<Compute<S>>* terms,
                               const StripTemperature<V>& t) {
  using Shift = typename Strip<Compute<S>, kCoarse>::template Shift<kScaled>;
  LoadTransposed(panel, columns->at);
  const auto x = AsStrip<S, kCoarse>(columns->at, panel.n);
  return Result<Shift>(panel, [&] { return ReduceInOrderForLog<kScaled>(x, t.vector, KeepInColumns<V>{terms->at}); });
}
template <template <class> class Result, bool kScaled, bool kCoarse, class S, class V = VecOf<S>>
inline auto ReduceAlongTo(const Panel<S>& panel, const StripTemperature<V>& t, const KeptTerms<Compute<S>>& kept,
                          bool wants_terms) {
  using Shift = typename Source<S, kCoarse>::template Shift<kScaled>;
  return Result<Shift>(panel, [&] {
    return StripRest<Shift>([&] { return ReduceAlong<kScaled, kCoarse, true>(panel, t.vector, kept, wants_terms); },
                            [&](const auto& strip) { return RestAlong(panel, strip, t); });
  });
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void LogSoftmaxTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  using T = Compute<S>;
  Columns<T> columns, terms;
  const auto log = ReduceTransposedTo<PanelLog, kScaled, kCoarseWillDo<S>>(panel, &columns, &terms, t);
  const auto shift = LogShift<V>::template Make<kScaled>(log.reduced.strip.sum.offset, log.log_sum);
  const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
  const bool any_degenerate = log.AnyDegenerate();
  if (any_degenerate) {
    const StripOut<T> y = {reinterpret_cast<char*>(columns.at), x.stride, x.n, x.lanes};
    LogSoftmaxDegenerateStrip<kScaled>(x, y, shift, t, log.reduced.strip.sum);
  } else {
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      const auto y = SubtractLog<kScaled>(x.template Rows<U>(i, 1), shift, t.vector);
      StoreLanes(columns.at + i * V::kLanes, y, Whole<U>{});
    });
  }
  StoreTransposed(columns.at, panel);
  if (any_degenerate && panel.mask != nullptr) {
    ForEachMarked(panel, log.degenerate, [&](size_t j) {
      const uint8_t* counts = RowAt(panel.mask, panel.mask_stride, j);
      for (size_t i = 0; i < panel.n; ++i) {
        if (counts[i] == 0) StoreScalar(panel.Out(j) + i, -__builtin_inf());
      }
    });
  }
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void LogSoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch) {
  using T = Compute<S>;
  const auto log = ReduceAlongTo<PanelLog, kScaled, kCoarseWillDo<S>>(panel, t, KeptTerms<T>(scratch, panel.n), false);
  const auto shifts = LogShift<V>::template Make<kScaled>(log.reduced.strip.sum.offset, log.log_sum);
  T offset[V::kLanes], minus_high[V::kLanes], low[V::kLanes];
  Store(offset, shifts.offset);
  Store(minus_high, shifts.minus_high);
  Store(low, shifts.low);
  const LaneTemperatures<V> temperatures(t.vector);
  double degenerate[V::kLanes];
  StoreLanes(degenerate, log.degenerate, Whole<sizeof(Wide<V>) / sizeof(F64)>{});
  MapAlong(panel, [&](size_t j, auto map) {
    const auto x = panel.Row(j);
    if (degenerate[j] != 0) {
      return LogSoftmaxMapDegenerate(x, panel.Out(j), panel.n, IsAllNan(RowOf(log.reduced.strip.sum, j)));
    }
    const LogShift<V> shift = {Set<V>(offset[j]), Set<V>(minus_high[j]), Set<V>(low[j])};
    const Temperature<V> temperature = temperatures[j];
    map([&](size_t i, auto lanes) { return SubtractLog<kScaled>(x(i, lanes), shift, temperature); });
  });
}

// logsumexp of each lane, given log(sum).
template <bool kScaled, class Shift, class V = typename Shift::Vector>
inline Wide<V> LogSumExpOfLanes(const PanelSum<Shift>& panel, const Pair<Wide<V>>& log_sum,
                                const StripTemperature<V>& t) {
  const auto& sum = panel.reduced.strip.sum;
  const auto usual = (Scaled<kScaled>(sum.offset, t.value) + log_sum.hi) + log_sum.lo;
  const auto special = IfThenElse(Eq(sum.hi, sum.hi), sum.max, sum.hi);
  return IfThenElse(Eq(panel.degenerate, Wide<V>(Const(1))), special, usual);
}

template <class S, class D>
inline void StoreLanesTo(const Panel<S>& panel, const D& result) {
  constexpr size_t kRows = Panel<S>::kRows;
  if (panel.rows == kRows && panel.y_stride == sizeof(S)) return Store(panel.y, Demote(result));
  S numbers[kRows];
  Store(numbers, Demote(result));
  for (size_t j = 0; j < panel.rows; ++j) *panel.Out(j) = numbers[j];
}

// logsumexp of panels. A long chain of instructions leads from a panel's sums to their logarithms; for floats, several
// panels are buffered and finished together, so that the processor can overlap their chains.
template <bool kScaled, class S>
struct LogSumExpPanels {
  using V = VecOf<S>;
  using D = Wide<V>;
  static constexpr size_t kMost = kNeedsLow<Compute<S>> ? 0 : 4;

  struct Unfinished {
    Panel<S> panel;
    D a, exponent, top, rest, offset, special, degenerate;
  };
  Unfinished unfinished[kMost == 0 ? 1 : kMost];
  size_t count = 0;

  template <class Shift>
  void Add(const Panel<S>& panel, const StripTemperature<V>& t, const PanelSum<Shift>& sums) {
    const auto& [strip, rest] = sums.reduced;
    const auto& sum = strip.sum;
    if constexpr (kMost == 0) return StoreLanesTo(panel, LogSumExpOfLanes<kScaled>(sums, LogOfShort(strip, rest), t));
    Unfinished& w = unfinished[count++];
    w.panel = panel;
    w.a = sum.max - sum.offset;
    w.exponent = sum.exponent;
    w.top = sum.top + strip.top_error;
    w.rest = rest.hi;
    w.offset = Scaled<kScaled>(sum.offset, t.value);
    w.special = IfThenElse(Eq(sum.hi, sum.hi), sum.max, sum.hi);
    w.degenerate = sums.degenerate;
    if (count == kMost) Finish();
  }
  void Finish() {
    for (size_t i = 0; i < count; ++i) {
      const Unfinished& w = unfinished[i];
      const auto log = LogOfTopAndRest(w.a, w.exponent, w.top, w.rest);
      const D usual = (w.offset + log.hi) + log.lo;
      StoreLanesTo(w.panel, IfThenElse(Eq(w.degenerate, D(Const(1))), w.special, usual));
    }
    count = 0;
  }
};

}  // namespace
}  // namespace boltzmax::kernels

// softmax, log_softmax and logsumexp of short rows, by panels.
#pragma once

#include "one_pass.hpp"

namespace boltzmax::kernels {
namespace {

// ---- softmax ----

template <bool kCoarse, bool kScaled, class S, class V = VecOf<S>>
inline void SoftmaxTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  Columns<Compute<S>> columns;
  const V max = LoadTransposed(panel, columns.at);
  const auto x = AsStrip<S, kCoarse>(columns.at, panel.n);
  const auto strip = ReduceShort<kScaled>(x, max, t.vector, KeepInColumns<V>{columns.at}, x.n);
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  StoreTransposed(columns.at, panel, [&](const auto& e) { return Divide(e, divisor); });
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

template <bool kCoarse, bool kScaled, class S, class Trial, class V = VecOf<S>>
inline void SoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch, Trial* trial) {
  PanelTerms<S> terms(panel, scratch, InOrder<V, false>(panel.n));
  const auto strip = ReduceAlong<kCoarse, kScaled>(panel, t.vector, trial,
                                                   [&](const auto& shift, V* max) { return terms.Sum(shift, max); });
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  const LaneDivisors<V> divisors(divisor);
  MapRows(panel, terms.n, [&](size_t j, auto map) {
    map([e = terms.kept.Row(j), by = divisors[j]]<class Lanes>(size_t i, Lanes) {
      return Divide(LoadLanes<V>(e + i, Whole<Lanes::kVectors>{}, Compute<S>(0)), by);
    });
  });
  if (terms.in_order != 0) {
    StoreTransposed(terms.last.at, terms.LastPart(), [&](const auto& e) { return Divide(e, divisor); });
  }
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

// ---- logarithms ----

// Stores the logarithms of rows that are in `columns`.
template <bool kCoarse, bool kScaled, class S, class T, class Shift, class V = VecOf<S>>
inline void StoreLogsTransposed(const Panel<S>& panel, T* columns, const PanelLog<Shift>& log, const LogShift<V>& shift,
                                const StripTemperature<V>& t) {
  if (!log.AnyDegenerate()) {
    return StoreTransposed(columns, panel, [&](const auto& x) { return SubtractLog<kScaled>(x, shift, t.vector); });
  }
  const auto x = AsStrip<S, kCoarse>(columns, panel.n);
  const StripOut<T> y = {reinterpret_cast<char*>(columns), x.stride, x.n, x.lanes};
  LogSoftmaxDegenerateStrip(x, y, shift, t, log.reduced.strip.sum);
  StoreTransposed(columns, panel);
  if (panel.mask == nullptr) return;
  ForEachMarked(panel, log.degenerate, [&](size_t j) {
    const uint8_t* counts = RowAt(panel.mask, panel.mask_stride, j);
    for (size_t i = 0; i < panel.n; ++i) {
      if (counts[i] == 0) StoreScalar(panel.Out(j) + i, -__builtin_inf());
    }
  });
}

template <bool kCoarse, bool kScaled, class S, class V = VecOf<S>>
inline void LogSoftmaxTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  Columns<Compute<S>> columns, terms;
  const auto log = ReduceTransposedTo<PanelLog, kCoarse, kScaled>(panel, &columns, &terms, t);
  const auto shift = LogShift<V>::Make(log.reduced.strip.sum.offset, log.log_sum, kScaled && t.vector.scaled);
  StoreLogsTransposed<kCoarse, kScaled>(panel, columns.at, log, shift, t);
}

template <bool kCoarse, bool kScaled, class S, class Trial, class V = VecOf<S>>
inline void LogSoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch, Trial* trial) {
  using T = Compute<S>;
  PanelTerms<S> terms(panel, scratch, InOrder<V, true>(panel.n));
  const auto log = ReduceStoredTo<PanelLog, kCoarse, kScaled>(&terms, t, trial);
  const auto shift = LogShift<V>::Make(log.reduced.strip.sum.offset, log.log_sum, kScaled && t.vector.scaled);
  T offset[V::kLanes], minus_high[V::kLanes], low[V::kLanes];
  Store(offset, shift.offset);
  Store(minus_high, shift.minus_high);
  Store(low, shift.low);
  const LaneTemperatures<V> temperatures(t.vector);
  double degenerate[V::kLanes];
  StoreLanes(degenerate, log.degenerate, Whole<sizeof(Wide<V>) / sizeof(F64)>{});
  MapRows(panel, terms.n, [&](size_t j, auto map) {
    const auto x = panel.Row(j);
    if (degenerate[j] != 0) {
      return LogSoftmaxMapDegenerate(x, panel.Out(j), terms.n, IsAllNan(RowOf(log.reduced.strip.sum, j)));
    }
    const LogShift<V> own = {Set<V>(offset[j]), Set<V>(minus_high[j]), Set<V>(low[j])};
    const Temperature<V> temperature = temperatures[j];
    map([&](size_t i, auto lanes) { return SubtractLog<kScaled>(x(i, lanes), own, temperature); });
  });
  if (terms.in_order != 0) StoreLogsTransposed<kCoarse, kScaled>(terms.LastPart(), terms.last.at, log, shift, t);
}

// logsumexp of each lane, given log(sum).
template <class Shift, class V = typename Shift::Vector>
inline Wide<V> LogSumExpOfLanes(const PanelSum<Shift>& panel, const Pair<Wide<V>>& log_sum,
                                const StripTemperature<V>& t) {
  const auto& sum = panel.reduced.strip.sum;
  const auto usual = (Scaled(sum.offset, t) + log_sum.hi) + log_sum.lo;
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
template <class S>
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
    if constexpr (kMost == 0) return StoreLanesTo(panel, LogSumExpOfLanes(sums, LogOfShort(strip, rest), t));
    Unfinished& w = unfinished[count++];
    w.panel = panel;
    w.a = sum.max - sum.offset;
    w.exponent = sum.exponent;
    w.top = sum.top + strip.top_error;
    w.rest = rest.hi;
    w.offset = Scaled(sum.offset, t);
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

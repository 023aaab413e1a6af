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
  const auto strip = ReduceInOrder<kScaled>(x, max, t.vector, KeepInColumns<V>{columns.at});
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  StoreTransposed(columns.at, panel, [&](const auto& e) { return Divide(e, divisor); });
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

template <bool kCoarse, bool kScaled, class S, class V = VecOf<S>>
inline void SoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch) {
  using T = Compute<S>;
  const KeptTerms<T> kept(scratch, panel.n);
  const auto strip = ReduceAlong<kCoarse, kScaled, false>(panel, t.vector, kept, true);
  const LaneDivisors<V> divisors(strip.sum);
  for (size_t j = 0; j < panel.rows; ++j) {
    const Divisor<V> divisor = divisors[j];
    const T* e = kept.Row(j);
    StoreRow(panel, j, [&]<class Lanes>(size_t i, Lanes) {
      return Divide(LoadLanes<V>(e + i, Whole<Lanes::kVectors>{}, T(0)), divisor);
    });
  }
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

// ---- logarithms ----

template <bool kCoarse, bool kScaled, class S, class V = VecOf<S>>
inline void LogSoftmaxTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  using T = Compute<S>;
  Columns<T> columns, terms;
  const auto log = ReduceTransposedTo<PanelLog, kCoarse, kScaled>(panel, &columns, &terms, t);
  const auto shift = LogShift<V>::Make(log.reduced.strip.sum.offset, log.log_sum, kScaled && t.vector.scaled);
  const auto x = AsStrip<S, kCoarse>(columns.at, panel.n);
  const bool any_degenerate = log.AnyDegenerate();
  if (any_degenerate) {
    const StripOut<T> y = {reinterpret_cast<char*>(columns.at), x.stride, x.n, x.lanes};
    LogSoftmaxDegenerateStrip(x, y, shift, t, log.reduced.strip.sum);
    StoreTransposed(columns.at, panel);
  } else {
    StoreTransposed(columns.at, panel, [&](const auto& x) { return SubtractLog<kScaled>(x, shift, t.vector); });
  }
  if (any_degenerate && panel.mask != nullptr) {
    ForEachMarked(panel, log.degenerate, [&](size_t j) {
      const uint8_t* counts = RowAt(panel.mask, panel.mask_stride, j);
      for (size_t i = 0; i < panel.n; ++i) {
        if (counts[i] == 0) StoreScalar(panel.Out(j) + i, -__builtin_inf());
      }
    });
  }
}

template <bool kCoarse, bool kScaled, class S, class V = VecOf<S>>
inline void LogSoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch) {
  using T = Compute<S>;
  const auto log = ReduceStoredTo<PanelLog, kCoarse, kScaled>(panel, t, scratch);
  const auto shifts = LogShift<V>::Make(log.reduced.strip.sum.offset, log.log_sum, kScaled && t.vector.scaled);
  T offset[V::kLanes], minus_high[V::kLanes], low[V::kLanes];
  Store(offset, shifts.offset);
  Store(minus_high, shifts.minus_high);
  Store(low, shifts.low);
  const LaneTemperatures<V> temperatures(t.vector);
  double degenerate[V::kLanes];
  StoreLanes(degenerate, log.degenerate, Whole<sizeof(Wide<V>) / sizeof(F64)>{});
  for (size_t j = 0; j < panel.rows; ++j) {
    const auto x = panel.Row(j);
    if (degenerate[j] != 0) {
      LogSoftmaxMapDegenerate(x, panel.Out(j), panel.n, IsAllNan(RowOf(log.reduced.strip.sum, j)));
      continue;
    }
    const LogShift<V> shift = {Set<V>(offset[j]), Set<V>(minus_high[j]), Set<V>(low[j])};
    const Temperature<V> temperature = temperatures[j];
    MapRow(panel, j, [&](size_t i, auto lanes) { return SubtractLog<kScaled>(x(i, lanes), shift, temperature); });
  }
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

// softmax, log_softmax and logsumexp of short rows, by panels.
#pragma once

#include "one_pass.hpp"

namespace boltzmax::kernels {
namespace {

// ---- softmax ----

// A map of a panel has two halves, Reduce and Map, so that those of neighbouring panels can overlap: OverlapPanels. What
// passes from one to the other is in memory.

template <bool kScaled, class S>
struct SoftmaxTransposed {
  using V = VecOf<S>;
  Panel<S> panel;
  Columns<Compute<S>> columns;
  Divisor<V> divisor;
  Wide<V> degenerate;

  void Reduce(const Panel<S>& of, const StripTemperature<V>& t, void*) {
    panel = of;
    LoadTransposed(panel, columns.at);
    const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
    const auto strip = ReduceInOrder<kScaled>(x, t.vector, KeepInColumns<V>{columns.at});
    divisor = Divisor<V>(strip.sum.hi, strip.sum.lo);
    degenerate = DegenerateLanes(strip.sum);
  }
  void Map() {
    const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
    const Divisor<V> by = divisor;
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      StoreLanes(columns.at + i * V::kLanes, Divide(x.template Rows<U>(i, 1), by), Whole<U>{});
    });
    StoreTransposed(columns.at, panel);
    ForEachMarked(panel, degenerate, [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
  }
};

template <bool kScaled, class S>
struct SoftmaxAlong {
  using T = Compute<S>;
  using V = Vec<T>;
  Panel<S> panel;
  T* terms;
  T hi[V::kLanes], lo[V::kLanes];  // of the divisors
  Wide<V> degenerate;

  void Reduce(const Panel<S>& of, const StripTemperature<V>& t, void* scratch) {
    panel = of;
    terms = static_cast<T*>(scratch);
    const auto strip =
        ReduceAlong<kScaled, kCoarseWillDo<S>, false>(panel, t.vector, KeptTerms<T>(scratch, panel.n), true);
    const Divisor<V> divisors(strip.sum.hi, strip.sum.lo);
    Store(hi, divisors.hi);
    Store(lo, divisors.lo);
    degenerate = DegenerateLanes(strip.sum);
  }
  void Map() {
    const KeptTerms<T> kept(terms, panel.n);
    MapAlong(panel, [&](size_t j, auto map) {
      Divisor<V> divisor;
      divisor.hi = Set<V>(hi[j]);
      divisor.lo = Set<V>(lo[j]);
      const T* e = kept.Row(j);
      map([&]<class Lanes>(size_t i, Lanes) {
        return Divide(LoadLanes<V>(e + i, Whole<Lanes::kVectors>{}, T(0)), divisor);
      });
    });
    ForEachMarked(panel, degenerate, [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
  }
};

// ---- logarithms ----

template <bool kScaled, class S>
struct LogSoftmaxTransposed {
  using T = Compute<S>;
  using V = Vec<T>;
  Panel<S> panel;
  Columns<T> columns;
  LogShift<V> shift;
  Temperature<V> temperature;

  void Reduce(const Panel<S>& of, const StripTemperature<V>& t, void*) {
    panel = of;
    Columns<T> terms;
    const auto log = ReduceTransposedTo<PanelLog, kScaled, kCoarseWillDo<S>>(panel, &columns, &terms, t);
    shift = LogShift<V>::template Make<kScaled>(log.reduced.strip.sum.offset, log.log_sum);
    temperature = t.vector;
    if (log.AnyDegenerate()) MapDegenerate(log, t);
  }
  void Map() {
    if (panel.n == 0) return;
    const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
    const LogShift<V> by = shift;
    const Temperature<V> t = temperature;
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      StoreLanes(columns.at + i * V::kLanes, SubtractLog<kScaled>(x.template Rows<U>(i, 1), by, t), Whole<U>{});
    });
    StoreTransposed(columns.at, panel);
  }

 private:
  // Maps a panel that has degenerate rows, and leaves nothing to do.
  template <class Log>
  void MapDegenerate(const Log& log, const StripTemperature<V>& t) {
    const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
    const StripOut<T> y = {reinterpret_cast<char*>(columns.at), x.stride, x.n, x.lanes};
    LogSoftmaxDegenerateStrip<kScaled>(x, y, shift, t, log.reduced.strip.sum);
    StoreTransposed(columns.at, panel);
    if (panel.mask != nullptr) {
      ForEachMarked(panel, log.degenerate, [&](size_t j) {
        const uint8_t* counts = RowAt(panel.mask, panel.mask_stride, j);
        for (size_t i = 0; i < panel.n; ++i) {
          if (counts[i] == 0) StoreScalar(panel.Out(j) + i, -__builtin_inf());
        }
      });
    }
    panel.n = 0;
  }
};

template <bool kScaled, class S>
struct LogSoftmaxAlong {
  using T = Compute<S>;
  using V = Vec<T>;
  Panel<S> panel;
  T offset[V::kLanes], minus_high[V::kLanes], low[V::kLanes];
  T temperature[V::kLanes], inverse_hi[V::kLanes], inverse_lo[V::kLanes];
  bool any_degenerate, is_degenerate[V::kLanes], is_all_nan[V::kLanes];

  void Reduce(const Panel<S>& of, const StripTemperature<V>& t, void* scratch) {
    panel = of;
    const auto log = ReduceStoredTo<PanelLog, kScaled, kCoarseWillDo<S>>(panel, t, scratch);
    const auto shifts = LogShift<V>::template Make<kScaled>(log.reduced.strip.sum.offset, log.log_sum);
    Store(offset, shifts.offset);
    Store(minus_high, shifts.minus_high);
    Store(low, shifts.low);
    Store(temperature, t.vector.value);
    Store(inverse_hi, t.vector.inverse_hi);
    Store(inverse_lo, t.vector.inverse_lo);
    any_degenerate = log.AnyDegenerate();
    for (size_t j = 0; any_degenerate && j < panel.rows; ++j) {
      const RowSum sum = RowOf(log.reduced.strip.sum, j);
      is_degenerate[j] = IsDegenerate(sum);
      is_all_nan[j] = IsAllNan(sum);
    }
  }
  void Map() {
    MapAlong(panel, [&](size_t j, auto map) {
      const auto x = panel.Row(j);
      if (any_degenerate && is_degenerate[j]) {
        return LogSoftmaxMapDegenerate(x, panel.Out(j), panel.n, is_all_nan[j]);
      }
      const LogShift<V> shift = {Set<V>(offset[j]), Set<V>(minus_high[j]), Set<V>(low[j])};
      const Temperature<V> t = {Set<V>(temperature[j]), Set<V>(inverse_hi[j]), Set<V>(inverse_lo[j])};
      map([&](size_t i, auto lanes) { return SubtractLog<kScaled>(x(i, lanes), shift, t); });
    });
  }
};

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

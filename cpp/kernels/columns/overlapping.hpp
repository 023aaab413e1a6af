// Maps of short columns in two halves, Reduce and Map, so that those of neighbouring strips can overlap. What passes from
// one to the other is in memory.
#pragma once

#include "columns.hpp"

namespace boltzmax::kernels {
namespace {

// At most kInOrder rows of a strip, and where their results go.
template <class S, bool kCoarse>
struct ShortStrip {
  Strip<S, kCoarse> x;
  StripOut<S> out;

  // out = f(block), row by row, of a copy of the strip or of what was made of it.
  template <class F>
  void MapFrom(const Compute<S>* columns, F f) const {
    using V = VecOf<S>;
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      out.Put(i, 1, f(LoadLanes<V>(columns + i * V::kLanes, Whole<U>{}, Compute<S>(0))));
    });
  }
};

template <bool kScaled, class S, bool kIsCoarse>
struct SoftmaxShortStrip {
  static constexpr bool kCoarse = kIsCoarse;
  using V = VecOf<S>;
  ShortStrip<S, kCoarse> strip;
  Columns<Compute<S>> columns;
  Divisor<V> divisor;

  void Reduce(const ShortStrip<S, kCoarse>& of, const StripTemperature<V>& t) {
    strip = of;
    const auto reduced = ReduceInOrder<kScaled>(CopyStrip(strip.x, columns.at), t.vector, KeepInColumns<V>{columns.at});
    divisor = Divisor<V>(reduced.sum.hi, reduced.sum.lo);
  }
  void Map() const {
    const Divisor<V> by = divisor;
    strip.MapFrom(columns.at, [&](const auto& e) { return Divide(e, by); });
  }
};

template <bool kScaled, class S, bool kIsCoarse>
struct LogSoftmaxShortStrip {
  static constexpr bool kCoarse = kIsCoarse;
  using V = VecOf<S>;
  ShortStrip<S, kCoarse> strip;
  Columns<Compute<S>> columns;
  LogShift<V> shift;
  Temperature<V> temperature;

  void Reduce(const ShortStrip<S, kCoarse>& of, const StripTemperature<V>& t) {
    strip = of;
    temperature = t.vector;
    Columns<Compute<S>> terms;
    auto reduced = ReduceInOrderForLog<kScaled>(CopyStrip(strip.x, columns.at), t.vector, KeepInColumns<V>{terms.at});
    auto& sums = reduced.strip;
    const bool any_degenerate = Any(Eq(DegenerateLanes(sums.sum), Wide<V>(Const(1))));
    if (any_degenerate) MarkDegenerate(strip.x, &sums);
    shift = LogShift<V>::template Make<kScaled>(sums.sum.offset, LogOfShort(sums, reduced.rest));
    if (!any_degenerate) return;
    LogSoftmaxDegenerateStrip<kScaled>(strip.x, strip.out, shift, t, sums.sum);
    strip.x.n = 0;  // nothing is left to do
  }
  void Map() const {
    const LogShift<V> by = shift;
    const Temperature<V> t = temperature;
    strip.MapFrom(columns.at, [&](const auto& v) { return SubtractLog<kScaled>(v, by, t); });
  }
};

}  // namespace
}  // namespace boltzmax::kernels

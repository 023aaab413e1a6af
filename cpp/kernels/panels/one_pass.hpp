// Panels of rows too long to be read twice: a row's maximum and the sum of its exponentials in one pass, as in
// ReduceRow. What is done once per row (the guess, the folds, the shift, the logarithm) is done side by side.
#pragma once

#include "panel_log.hpp"

namespace boltzmax::kernels {
namespace {

// Prefetches the first elements of the row that is a panel further.
template <class S>
[[gnu::always_inline]] inline void PrefetchHead(const Panel<S>& panel, size_t j) {
  constexpr size_t kLine = 64, kBytes = 4 * VecOf<S>::kLanes * sizeof(S);
  const auto* head = reinterpret_cast<const char*>(RowAt(panel.x, panel.x_stride, j + Panel<S>::kRows));
  BOLTZMAX_UNROLL
  for (size_t b = 0; b < kBytes; b += kLine) __builtin_prefetch(head + b);
}

// Reads rows of a panel: their maxima and the sums of their exponentials, for each lane of a vector.
template <class S>
struct PanelReader {
  using T = Compute<S>;
  using V = Vec<T>;
  static constexpr size_t kRows = V::kLanes;
  const Panel<S>& panel;
  bool wanted[kRows];  // the rows that are read
  V maxima[kRows];
  decltype(PartialSum(WideSum<V>{})) partial[kRows];

  // Reads the rows for which counts(j) is true. The sum and the maximum of the others are 0.
  template <class Counts>
  PanelReader(const Panel<S>& of, Counts counts) : panel(of) {
    for (size_t j = 0; j < kRows; ++j) {
      wanted[j] = j < panel.rows && counts(j);
      maxima[j] = Set<V>(0);
      partial[j] = PartialSum(WideSum<V>{});
    }
  }

  // The maximum of the first n elements of each row.
  V Maximum(size_t n) {
    for (size_t j = 0; j < kRows; ++j) {
      if (!wanted[j]) continue;
      const auto x = panel.Row(j);
      V max = Set<V>(Source<S>::kLowest);
      ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) { max = MaxOf(x(i, lanes), max); });
      maxima[j] = max;
    }
    return FoldedMaximum();
  }
  V FoldedMaximum() const {
    return FoldRows<V>(maxima, [](V a, V b) { return Max(a, b); });
  }

  // The exponentials go to keep(j, i, lanes, e).
  template <class Shift, class Keep>
  void Read(const Shift& shift, Keep keep) {
    const LaneShifts<Shift> shifts(shift);
    const bool singly = panel.n <= kShort;
    for (size_t j = 0; j < kRows; ++j) {
      if (!wanted[j]) continue;
      if (panel.far) {
        PrefetchHead(panel, j);
        if (panel.n <= kPaneledForLogs<T>) PrefetchResult(panel, j);
      }
      const auto x = panel.Row(j);
      const Shift own = shifts[j];
      V max = Set<V>(Source<S>::kLowest);
      WideSum<V> sum;
      ForEachBlock<V, 4>(panel.n, [&](size_t i, auto lanes) {
        const auto v = x(i, lanes);
        if (panel.far) PrefetchAhead(x.x + i, lanes);
        max = MaxOf(v, max);
        const auto e = ScaledExp(v, own);
        keep(j, i, lanes, e);
        singly ? AddEach(&sum, e) : AddTrees(&sum, e);
      });
      maxima[j] = max;
      partial[j] = PartialSum(sum);
    }
  }
};

// Reduces the rows of a panel for which counts(j) is true. As in ReduceRow, the maximum of a row's first elements
// serves as a guess; the rows where it was poor are read again.
template <bool kCoarse, bool kScaled, class S, class Counts, class Keep, class V = VecOf<S>>
inline auto ReduceInOnePass(const Panel<S>& panel, const Temperature<V>& t, Counts counts, Keep keep) {
  using Shift = typename Source<S, kCoarse>::template ShiftAs<kScaled>;
  using C = ExpConstants<Compute<S>>;
  constexpr size_t kHead = 4 * V::kLanes;
  PanelReader<S> reader(panel, counts);
  V max = reader.Maximum(panel.n < kHead || (kScaled && t.scaled) ? panel.n : kHead);
  Shift shift(max, t);
  if (!shift.IsScaled()) {
    const V zero = Set<V>(0), one = Set<V>(1), limit = Set<V>(C::kDirectLimit), head = max;
    const V guess = IfThenElse(Lt(limit, Abs(head)), zero, head);
    shift = Shift(guess, t);
    reader.Read(DirectShift(shift), keep);
    max = reader.FoldedMaximum();
    const V far = IfThenElse(Lt(Set<V>(C::kHeadroom), max - guess), one, zero);
    const V poor = IfThenElse(Lt(limit, Abs(max)), one, IfThenElse(Lt(limit, Abs(head)), one, far));
    if (!Any(Eq(poor, one))) return MakeStripSum(max, shift, FoldSums(reader.partial, V{}));
    Compute<S> again[V::kLanes];
    Store(again, poor);
    for (size_t j = 0; j < V::kLanes; ++j) reader.wanted[j] = reader.wanted[j] && again[j] != 0;
    shift = Shift(IfThenElse(Eq(poor, one), max, guess), t);
  }
  reader.Read(shift, keep);
  return MakeStripSum(max, shift, FoldSums(reader.partial, V{}));
}

// The sum of each row without its largest term. Where that term is no large part, the difference has digits enough.
template <class S, class Shift, class Counts, class V = typename Shift::Vector>
inline Pair<Wide<V>> RestInOnePass(const Panel<S>& panel, const StripSum<Shift>& strip, const StripTemperature<V>& t,
                                   Counts counts) {
  using D = Wide<V>;
  constexpr auto kWhole = Whole<sizeof(D) / sizeof(F64)>{};
  const D one = Const(1), zero = Const(0);
  const Pair<D> rest = {strip.sum.hi - strip.sum.top, strip.sum.lo};
  const D peaked = IfThenElse(Lt(strip.sum.hi, strip.sum.top * Const(kPeakedHere)), one, zero);
  if (!Any(Eq(peaked, one))) return rest;
  double hi[V::kLanes], lo[V::kLanes], temperature[V::kLanes];
  StoreLanes(hi, rest.hi, kWhole);
  StoreLanes(lo, rest.lo, kWhole);
  StoreLanes(temperature, t.value, kWhole);
  ForEachMarked(panel, peaked, [&](size_t j) {
    if (!counts(j)) return;
    const auto row = panel.Row(j);
    const Source<S, Shift::Reduction::kIsCoarse> x = {row.x, row.mask};
    const Sum exact = ReduceRest(x, panel.n, {temperature[j], t.vector.scaled}, RowOf(strip.sum, j));
    hi[j] = exact.hi;
    lo[j] = exact.lo;
  });
  return {LoadLanes<F64>(hi, kWhole, 0.0), LoadLanes<F64>(lo, kWhole, 0.0)};
}

// Reduces a panel to a PanelSum or PanelLog. As everywhere, terms of rows of at most kShort elements are added singly.
template <template <class> class Result, bool kCoarse, bool kScaled, class S, class Counts, class Keep,
          class V = VecOf<S>>
inline auto ReduceInOnePassTo(const Panel<S>& panel, const StripTemperature<V>& t, Counts counts, Keep keep) {
  using Shift = typename Source<S, kCoarse>::template ShiftAs<kScaled>;
  return Result<Shift>(panel, [&] {
    return StripRest<Shift>([&] { return ReduceInOnePass<kCoarse, kScaled>(panel, t.vector, counts, keep); },
                            [&](const auto& strip) {
                              return panel.n <= kShort ? RestAlong(panel, strip, t)
                                                       : RestInOnePass(panel, strip, t, counts);
                            });
  });
}

// Keeps no exponential.
struct KeepNoTerm {
  template <class Lanes, class B>
  void operator()(size_t, size_t, Lanes, const B&) const {}
};

// Reduces rows as stored, short ones in two passes and others in one.
template <template <class> class Result, bool kCoarse, bool kScaled, class S, class Trial, class V = VecOf<S>>
inline auto ReduceStoredTo(PanelTerms<S>* terms, const StripTemperature<V>& t, Trial* trial) {
  if (terms->panel.n <= kPaneled<Compute<S>>) return ReduceAlongTo<Result, kCoarse, kScaled>(terms, t, trial, false);
  const auto all = [](size_t) { return true; };
  return ReduceInOnePassTo<Result, kCoarse, kScaled>(terms->panel, t, all, KeepNoTerm{});
}

}  // namespace
}  // namespace boltzmax::kernels

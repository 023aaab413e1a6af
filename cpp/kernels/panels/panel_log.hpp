// The sums of panels, and their logarithms.
#pragma once

#include "along.hpp"
#include "transposed.hpp"

namespace boltzmax::kernels {
namespace {

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
    const Shift shift(row, MakeTemperature<V>(RowTemperature{temperature[j], t.vector.scaled}));
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
template <template <class> class Result, bool kCoarse, bool kScaled, class S, class V = VecOf<S>>
inline auto ReduceTransposedTo(const Panel<S>& panel, Columns<Compute<S>>* columns, Columns<Compute<S>>* terms,
                               const StripTemperature<V>& t) {
  using Shift = typename Strip<Compute<S>, kCoarse>::template ShiftAs<kScaled>;
  const V max = LoadTransposed(panel, columns->at);
  const auto x = AsStrip<S, kCoarse>(columns->at, panel.n);
  return Result<Shift>(panel,
                       [&] { return ReduceInOrderForLog<kScaled>(x, max, t.vector, KeepInColumns<V>{terms->at}); });
}
template <template <class> class Result, bool kCoarse, bool kScaled, class S, class Trial, class V = VecOf<S>>
inline auto ReduceAlongTo(PanelTerms<S>* terms, const StripTemperature<V>& t, Trial* trial, bool keeps_all) {
  using Shift = typename Source<S, kCoarse>::template ShiftAs<kScaled>;
  return Result<Shift>(terms->panel, [&] {
    const auto sum = [&](const auto& shift, V* max) { return terms->SumSingly(shift, keeps_all, max); };
    return StripRest<Shift>([&] { return ReduceAlong<kCoarse, kScaled>(terms->panel, t.vector, trial, sum); },
                            [&](const auto& strip) { return RestAlong(terms->panel, strip, t); });
  });
}

}  // namespace
}  // namespace boltzmax::kernels

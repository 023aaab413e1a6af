// alpha-entmax of short rows with alpha above 2: SteepThreshold, with a row in each lane.
#pragma once

#include "sparse_panels.hpp"
#include "steep_thresholds.hpp"

namespace boltzmax::kernels {
namespace {

// The rows of a panel in double, kTogether elements at a time; beyond the last element they are -inf.
template <class S>
class SteepPanel {
  using V = VecOf<S>;
  using T = Compute<S>;
  using D = Wide<V>;
  static constexpr size_t kElements = kTogether<V>;
  using B = WideBlock<V, kElements>;

 public:
  SteepPanel(const Panel<S>& panel, const EntmaxParameters<D>& parameters) : panel_(panel) {
    max_ = LoadPadded(panel, columns_.at);
    b_ = parameters.alpha - D(Const(1));
    c_ = b_ / parameters.temperature;
  }

  void Run() {
    const D zero = Const(0), one = Const(1);
    const D least = FindLeast();
    D v = one - SumOf(SteepPowers<T, D>(least, b_, c_, zero)).hi, sum = zero;
    D active = IfThenElse(Lt(zero, v), one, zero);
    for (int step = 0; step < kMostSteps && Any(Eq(active, one)); ++step) {
      const auto total = SumOf(SteepPowers<T, D>(least, b_, c_, v));
      const D moved = (total.hi - one) / total.lo;
      const auto is_active = Eq(active, one);
      v = IfThenElse(is_active, v - moved, v);
      active = IfThenElse(is_active, IfThenElse(Lt(v * D(Const(0x1p-30)), moved), one, zero), zero);
      active = IfThenElse(Lt(zero, v), active, zero);
    }
    v = IfThenElse(Lt(v, zero), zero, v);
    const auto powers = Together(SteepPowers<T, D>(least, b_, c_, v));
    for (size_t i = 0; i < panel_.n; i += kElements) {
      B slope;
      const B p = powers(Elements(i), &slope);
      sum = sum + FoldElements<V>(p);
      StoreLanes(columns_.at + i * V::kLanes, Rounded<V>(p), Whole<kElements>{});
    }
    FinishPanel(panel_, columns_.at, max_, sum);
  }

 private:
  B Elements(size_t i) const { return InDouble(LoadLanes<V>(columns_.at + i * V::kLanes, Whole<kElements>{}, T(0))); }
  static SteepPowers<T, B> Together(const SteepPowers<T, D>& powers) {
    return powers.Map([](const D& d) { return Repeat<kElements>(d); });
  }

  // The sums of p and of its slopes.
  Pair<D> SumOf(const SteepPowers<T, D>& of_lanes) const {
    const auto powers = Together(of_lanes);
    B sums = Const(0), slopes = Const(0), slope;
    for (size_t i = 0; i < panel_.n; i += kElements) {
      sums = sums + powers(Elements(i), &slope);
      slopes = slopes + slope;
    }
    return {FoldElements<V>(sums), FoldElements<V>(slopes)};
  }

  // f(x, so far) over the elements of each lane.
  template <class F>
  D Fold(D value, F f) const {
    for (size_t i = 0; i < panel_.n; ++i) value = f(Promote(Load(columns_.at + i * V::kLanes)), value);
    return value;
  }
  D LargestBelow(const D& limit) const {
    return Fold(D(Const(-__builtin_inf())),
                [&](const D& x, const D& best) { return IfThenElse(Lt(x, limit), Max(x, best), best); });
  }
  D SmallestFrom(const D& limit) const {
    return Fold(D(Const(__builtin_inf())), [&](const D& x, const D& best) {
      return IfThenElse(Lt(x, limit), best, IfThenElse(Lt(x, best), x, best));
    });
  }

  // As SteepThreshold::FindLeast.
  D FindLeast() const {
    const D zero = Const(0), one = Const(1), half = Const(0.5);
    D high = Promote(max_), low = high - one / c_, at = SmallestFrom(low);
    D active = IfThenElse(Lt(low, high), one, zero);
    for (int step = 0; step < kMostSteps && Any(Eq(active, one)); ++step) {
      const auto is_active = Eq(active, one);
      const auto is_less = Lt(SumOf(SteepPowers<T, D>(at, b_, c_, zero)).hi, one);
      high = IfThenElse(is_active, IfThenElse(is_less, at, high), high);
      low = IfThenElse(is_active, IfThenElse(is_less, low, at), low);
      const D below = LargestBelow(high), above = SmallestFrom(low + (high - low) * half);
      active = IfThenElse(Lt(low, below), active, zero);
      at = IfThenElse(Lt(above, high), IfThenElse(Lt(low, above), above, below), below);
    }
    return high;
  }

  Columns<T> columns_;
  V max_;
  D b_, c_;
  const Panel<S>& panel_;
};

// A panel, whatever its rows' alpha.
template <class S>
inline void EntmaxPanels(const Panel<S>& panel, const EntmaxParameters<Wide<VecOf<S>>>& parameters) {
  using D = Wide<VecOf<S>>;
  const D one = Const(1), zero = Const(0);
  const D steep = IfThenElse(Lt(D(Const(2)), parameters.alpha), one, zero);
  if (!Any(Eq(steep, zero))) return SteepPanel<S>(panel, parameters).Run();
  EntmaxPanel(panel, parameters);
  double alpha[Panel<S>::kRows], temperature[Panel<S>::kRows];
  StoreLanes(alpha, parameters.alpha, Whole<kWide<VecOf<S>>>{});
  StoreLanes(temperature, parameters.temperature, Whole<kWide<VecOf<S>>>{});
  ForEachMarked(panel, steep, [&](size_t j) {
    Panel<S> row = panel;
    row.x = panel.Row(j).x;
    row.mask = panel.Row(j).mask;
    row.y = panel.Out(j);
    row.rows = 1;
    SteepPanel<S>(row, {Const(alpha[j]), Const(temperature[j])}).Run();
  });
}

}  // namespace
}  // namespace boltzmax::kernels

// Sparse maps of short rows: a lane is a row.
#pragma once

#include "../panels/transposed.hpp"
#include "thresholds.hpp"

namespace boltzmax::kernels {
namespace {

// Stores a panel; rows without a finite maximum, or with NaN, which then is in `sum`, have no probabilities.
template <class S, class V = VecOf<S>>
inline void FinishPanel(const Panel<S>& panel, const Compute<S>* columns, V max, const Wide<V>& sum) {
  StoreTransposed(columns, panel);
  const Wide<V> none = Const(0);
  ForEachMarked(panel, DegenerateLanes(SumOfExp<Wide<V>>{Promote(max), none, none, none, sum, none}),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

// Newton's method in the lanes of a panel, each of which stops by itself, so that no row depends on its neighbours.
// step(&moved, &ends) computes the relative move of every lane, and 1 in `ends` where it is the last.
template <class V, class D, class Step>
inline void SolveLanes(D* unknown, Step step) {
  const D zero = Set<V>(0), one = Set<V>(1);
  D active = one;
  for (int i = 0; i < kMostSteps && Any(Eq(active, one)); ++i) {
    D moved, ends;
    step(&moved, &ends);
    *unknown = IfThenElse(Eq(active, one), NegMulAdd(*unknown, moved, *unknown), *unknown);
    active = IfThenElse(Eq(ends, one), zero, active);
  }
}

// ---- sparsemax and entmax15 ----

// A step is a long chain of dependent instructions, so that several panels take little more time than one.
inline constexpr size_t kPanelsTogether = 4;
template <size_t U, class S, bool kSquare>
inline void PowerPanels(const Panel<S>* panels, const Temperature<VecOf<S>>* temperatures) {
  using V = VecOf<S>;
  using T = Compute<S>;
  using B = Block<V, U>;
  Columns<T> columns[U];
  V max[U];
  const size_t n = panels[0].n;
  for (size_t u = 0; u < U; ++u) {
    T* at = columns[u].at;
    max[u] = LoadTransposed(panels[u], at);
    const Distances<V, kSquare> distances(max[u], temperatures[u]);
    ForEachStripRow(n, [&]<size_t K>(size_t i, RowCount<K>) {
      const auto d = distances.Shifted(LoadLanes<V>(at + i * V::kLanes, Whole<K>{}, T(0)));
      using D = Block<V, K>;
      StoreLanes(at + i * V::kLanes, MulAdd(d, D(distances.hi), d * D(distances.lo)), Whole<K>{});
    });
  }
  const B zero = Set<V>(0), one = Set<V>(1);
  B size = one, sum = zero, slopes_before = zero;  // size = -t
  const auto root = [&](size_t i) {
    B s;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) s.part[u] = Load(columns[u].at + i * V::kLanes);
    return Max(zero, s + size);
  };
  SolveLanes<V>(&size, [&](B* moved, B* ends) {
    B slope = zero;
    sum = zero;
    for (size_t i = 0; i < n; ++i) {
      const B r = root(i);
      sum = kSquare ? MulAdd(r, r, sum) : sum + r;
      slope = slope + (kSquare ? r : IfThenElse(Lt(zero, r), one, zero));
    }
    const B relative = (sum - one) / (slope * size);
    if constexpr (kSquare) {
      // A step doubles the correct digits.
      constexpr T kEnough = sizeof(T) == sizeof(float) ? T(0x1p-14) : T(0x1p-29);
      *moved = relative / (one + Sqrt(Max(zero, one - relative)));
      *ends = IfThenElse(Lt(B(Set<V>(kEnough)), Max(relative, zero - relative)), zero, one);
    } else {
      // With the same support the step is exact, and removes rounding errors of the one before.
      *moved = relative;
      *ends = IfThenElse(Eq(slope, slopes_before), one, zero);
      slopes_before = slope;
    }
  });
  for (size_t i = 0; i < n; ++i) {
    const B r = root(i), p = kSquare ? r * r : r;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) Store(columns[u].at + i * V::kLanes, p.part[u]);
  }
  for (size_t u = 0; u < U; ++u) FinishPanel(panels[u], columns[u].at, max[u], Promote(sum.part[u]));
}

// ---- entmax ----

// The parameters of a map's rows: one of alpha and the temperature may differ from row to row.
template <class D>
struct EntmaxParameters {
  D alpha, temperature;

  EntmaxParameters(const D& of_alpha, const D& of_temperature) : alpha(of_alpha), temperature(of_temperature) {}
  EntmaxParameters(const RowOptions& options, const D& of_row, const D& of_all)
      : alpha(options.flag ? of_row : of_all), temperature(options.flag ? of_all : of_row) {}
};

// d, repeated.
template <size_t U, size_t W>
inline Block<F64, U * W> Repeat(const Block<F64, W>& d) {
  Block<F64, U * W> b;
  BOLTZMAX_UNROLL
  for (size_t k = 0; k < U * W; ++k) b.part[k] = d.part[k % W];
  return b;
}
// The sum of the elements in each lane.
template <class V, size_t W>
inline Wide<V> FoldElements(const Block<F64, W>& b) {
  Wide<V> sum;
  BOLTZMAX_UNROLL
  for (size_t w = 0; w < kWide<V>; ++w) sum.part[w] = b.part[w];
  BOLTZMAX_UNROLL
  for (size_t k = kWide<V>; k < W; ++k) sum.part[k % kWide<V>] = sum.part[k % kWide<V>] + b.part[k];
  return sum;
}

// Loads a panel; the columns are filled up to whole blocks with -inf, so that kTogether elements go through a step at
// once. Returns the rows' maxima.
template <class S, class T>
inline Vec<T> LoadPadded(const Panel<S>& panel, T* columns) {
  using V = Vec<T>;
  const V max = LoadTransposed(panel, columns);
  for (size_t i = panel.n; i % kTogether<V> != 0; ++i)
    Store(columns + i * V::kLanes, Set<V>(-static_cast<T>(__builtin_inff())));
  return max;
}

// Rows with alpha above 2 are left to the caller.
template <class S>
inline void EntmaxPanel(const Panel<S>& panel, const EntmaxParameters<Wide<VecOf<S>>>& parameters) {
  using V = VecOf<S>;
  using T = Compute<S>;
  using D = Wide<V>;
  constexpr bool kIsFloat = sizeof(T) == sizeof(float);
  constexpr size_t kElements = kTogether<V>;
  Columns<T> columns;
  const V max = LoadPadded(panel, columns.at);
  const size_t n = panel.n;
  const auto column = [&](size_t i) { return columns.at + i * V::kLanes; };
  const D one = Const(1), zero = Const(0);
  const auto is_steep = Lt(D(Const(2)), parameters.alpha);
  const D b = IfThenElse(is_steep, one, parameters.alpha - one), c = b / parameters.temperature;
  // A step squares the relative error, times at most n / 2, where b <= 1/2; elsewhere it may not near an edge of the
  // support.
  const D enough =
      IfThenElse(Lt(D(Const(0.5)), b), D(Const(kIsFloat ? 0x1p-20 : 0x1p-30)), D(Const(kIsFloat ? 0x1p-16 : 0x1p-30)));
  EntmaxRatio<T, WideBlock<V, kElements>> ratio = {
      Repeat<kElements>(Promote(max)), Repeat<kElements>(Const(-8.0) / c), Repeat<kElements>(one / b), {}, {}};
  const auto scale = [&](const D& q) { ratio.scale = Repeat<kElements>(c * ratio.exp(LogOf<double>(q) * (zero - b))); };
  const auto load = [&](size_t i) { return InDouble(LoadLanes<V>(column(i), Whole<kElements>{}, T(0))); };
  D q = one, sum = zero;
  SolveLanes<F64>(&q, [&](D* moved, D* ends) {
    scale(q);
    WideBlock<V, kElements> sums = Const(0), slopes = Const(0), slope;
    for (size_t i = 0; i < n; i += kElements) {
      sums = sums + ratio(load(i), &slope);
      slopes = slopes + slope;
    }
    sum = FoldElements<V>(sums);
    *moved = (sum - one / q) / FoldElements<V>(slopes);
    *ends = IfThenElse(Lt(enough, Max(*moved, zero - *moved)), zero, one);
  });
  scale(q);
  for (size_t i = 0; i < n; i += kElements) {
    WideBlock<V, kElements> slope;
    StoreLanes(column(i), Rounded<V>(ratio(load(i), &slope) * Repeat<kElements>(q)), Whole<kElements>{});
  }
  FinishPanel(panel, columns.at, max, sum);
}

}  // namespace
}  // namespace boltzmax::kernels

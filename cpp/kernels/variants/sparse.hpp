// sparsemax, entmax15 and alpha-entmax: probabilities that are zero but for the largest elements of a row.
//
// A row is read for its maximum and for the largest elements of some groups, whose threshold bounds the support; once
// more for the few elements above that bound; and then only these are worked on. Where they are not few, as in rows of
// nearly equal numbers, the whole row is. (Goncalves, Treviso & Martins, "AdaSplash", ICML 2025, also bracket the
// threshold first; Condat, Math. Program. 158, 2016, compares methods without sorting.)
#pragma once

#include "candidates.hpp"
#include "row_call.hpp"
#include "sparse_gradients.hpp"
#include "thresholds.hpp"

namespace boltzmax::kernels {
namespace {

// The most candidates that are compressed; a longer list would take longer to write than the row to read.
constexpr size_t MostCandidates(size_t n) { return n / 8 + 32; }
// A block may be appended beyond the last candidate, and a vector is stored whole.
constexpr size_t CandidateRoom(size_t n) { return MostCandidates(n) + 128; }
// Candidates, their places and their results; and the row itself, if it has to be converted.
constexpr size_t SparseScratch(size_t n) { return 3 * CandidateRoom(n) + n; }

// The maxima of groups of a row: in each lane of four vectors, that of every kLanes-th element.
template <class V>
struct GroupMaxima {
  static constexpr size_t kGroups = 4 * V::kLanes;
  typename V::Scalar at[kGroups], max;

  template <class Src>
  GroupMaxima(const Src& x, size_t n, bool far) {
    Block<V, 4> largest = Set<V>(Src::kLowest);
    ForEachBlock<V, 4>(n, [&]<class Lanes>(size_t i, Lanes lanes) {
      if (far) PrefetchAhead(x.x + i, lanes);
      const auto v = x(i, lanes);
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < Lanes::kVectors; ++u) largest.part[u] = Max(v.part[u], largest.part[u]);
    });
    StoreLanes(at, largest, Whole<4>{});
    max = ReduceMax(MaxOf(largest, Set<V>(Src::kLowest)));
  }
};

// The elements of a row in the arithmetic type: as stored, if that is theirs and none is masked, or a copy.
template <class S, class T = Compute<S>>
inline const T* Converted(const RowOf<S>& row, T* copy) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (row.x.mask == nullptr) return row.x.x;
  }
  MapTo<Vec<T>>(copy, row.n, false, [&](size_t i, auto lanes) { return row.x(i, lanes); });
  return copy;
}

// One row; `parameter` is alpha, if the map has one.
template <class Threshold, class S>
BOLTZMAX_KERNEL inline void SparseRow(const RowOf<S>& row, double parameter, double temperature, bool far,
                                      void* scratch) {
  using V = VecOf<S>;
  using T = Compute<S>;
  constexpr int kFewSteps = 3;
  const GroupMaxima<V> groups(row.x, row.n, far);
  if (!IsFinite(static_cast<double>(groups.max))) return SoftmaxMapDegenerate(row.x, row.y, row.n);
  Threshold threshold(parameter, temperature, groups.max);
  if (row.n > GroupMaxima<V>::kGroups) threshold.Solve(groups.at, GroupMaxima<V>::kGroups, kFewSteps);

  T* memory = static_cast<T*>(scratch);
  const size_t room = CandidateRoom(row.n);
  Candidates<T> few = {memory, reinterpret_cast<typename IndexOf<T>::type*>(memory + room), MostCandidates(row.n)};
  Collect(row.x, row.n, threshold.Bound(), row.y, &few);
  const bool are_few = few.count <= few.most;
  const T* x = are_few ? few.x : Converted(row, memory + 3 * room);
  S* p = are_few ? reinterpret_cast<S*>(memory + 2 * room) : row.y;
  const size_t count = are_few ? few.count : row.n;
  threshold.Solve(x, count);
  if (threshold.IsNan()) return SoftmaxMapDegenerate(row.x, row.y, row.n);
  MapTo<V>(p, count, false, [&](size_t i, auto lanes) { return threshold(LoadUpTo<V>(x + i, lanes)); });
  for (size_t j = 0; are_few && j < count; ++j) row.y[few.place[j]] = p[j];
}

// ---- short rows: a lane is a row ----

// Marks the lanes of a panel whose rows have NaN or no finite maximum.
template <class V>
struct LaneRange {
  V max = Set<V>(-static_cast<typename V::Scalar>(__builtin_inff())), nan = Set<V>(0);

  void Add(V x) {
    max = Max(x, max);
    nan = Max(nan, IsNan<V>(x));
  }
  Wide<V> Degenerate() const {
    const V zero = Set<V>(0), one = Set<V>(1);
    return Promote(IfThenElse(Eq(max - max, zero), nan, one));
  }
};

template <class S>
inline void FinishPanel(const Panel<S>& panel, const Compute<S>* columns, const LaneRange<VecOf<S>>& range) {
  StoreTransposed(columns, panel);
  ForEachMarked(panel, range.Degenerate(),
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

// U panels at once: a step is a long chain of dependent instructions.
template <size_t U, class S, bool kSquare>
inline void PowerPanels(const Panel<S>* panels, const Temperature<VecOf<S>>* temperatures) {
  using V = VecOf<S>;
  using T = Compute<S>;
  using B = Block<V, U>;
  Columns<T> columns[U];
  LaneRange<V> ranges[U];
  const size_t n = panels[0].n;
  for (size_t u = 0; u < U; ++u) {
    T* at = columns[u].at;
    LoadTransposed(panels[u], at);
    for (size_t i = 0; i < n; ++i) ranges[u].Add(Load(at + i * V::kLanes));
    const Distances<V, kSquare> distances(ranges[u].max, temperatures[u]);
    for (size_t i = 0; i < n; ++i) {
      const V d = distances.Shifted(Load(at + i * V::kLanes));
      Store(at + i * V::kLanes, MulAdd(d, distances.hi, d * distances.lo));
    }
  }
  const B zero = Set<V>(0), one = Set<V>(1);
  B size = one, slopes_before = zero;  // size = -t
  const auto root = [&](size_t i) {
    B s;
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) s.part[u] = Load(columns[u].at + i * V::kLanes);
    return Max(zero, s + size);
  };
  SolveLanes<V>(&size, [&](B* moved, B* ends) {
    B sum = zero, slope = zero;
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
  for (size_t u = 0; u < U; ++u) FinishPanel(panels[u], columns[u].at, ranges[u]);
}

// The parameters of a map's rows: one of alpha and the temperature may differ from row to row.
template <class D>
struct EntmaxParameters {
  D alpha, temperature;

  EntmaxParameters(const RowOptions& options, const D& of_row, const D& of_all)
      : alpha(options.flag ? of_row : of_all), temperature(options.flag ? of_all : of_row) {}
};

// Rows with alpha above 2 are left to the caller; returns 1 in their lanes.
template <class S>
inline Wide<VecOf<S>> EntmaxPanel(const Panel<S>& panel, const EntmaxParameters<Wide<VecOf<S>>>& parameters) {
  using V = VecOf<S>;
  using T = Compute<S>;
  using D = Wide<V>;
  constexpr double kEnough = sizeof(T) == sizeof(float) ? 0x1p-20 : 0x1p-30;
  Columns<T> columns;
  LoadTransposed(panel, columns.at);
  const size_t n = panel.n;
  const auto column = [&](size_t i) { return columns.at + i * V::kLanes; };
  LaneRange<V> range;
  for (size_t i = 0; i < n; ++i) range.Add(Load(column(i)));

  const D one = Const(1), zero = Const(0);
  const auto is_steep = Lt(D(Const(2)), parameters.alpha);
  const D b = IfThenElse(is_steep, one, parameters.alpha - one), c = b / parameters.temperature;
  EntmaxRatio<T, D> ratio = {Promote(range.max), Const(-8.0) / c, one / b, c, {}};
  D q = one;
  SolveLanes<F64>(&q, [&](D* moved, D* ends) {
    ratio.scale = c * ratio.exp(LogOf<double>(q) * (zero - b));
    D sum = zero, slopes = zero, slope;
    for (size_t i = 0; i < n; ++i) {
      sum = sum + ratio(Promote(Load(column(i))), &slope);
      slopes = slopes + slope;
    }
    *moved = (sum - one / q) / slopes;
    *ends = IfThenElse(Lt(D(Const(kEnough)), Max(*moved, zero - *moved)), zero, one);
  });
  ratio.scale = c * ratio.exp(LogOf<double>(q) * (zero - b));
  for (size_t i = 0; i < n; ++i) {
    D slope;
    Store(column(i), Demote(ratio(Promote(Load(column(i))), &slope) * q));
  }
  FinishPanel(panel, columns.at, range);
  return IfThenElse(is_steep, one, zero);
}

// ---- batches ----

template <class S, bool kSquare>
BOLTZMAX_KERNEL inline void PowerMap(const RowCall& call) {
  using V = VecOf<S>;
  const RowBatch& batch = call.batch;
  if (batch.n <= V::kInOrder) {
    Panel<S> panels[2];
    Temperature<V> temperatures[2];
    size_t count = 0;
    ForEachPanel<S>(batch, [&](const Panel<S>& panel, const StripTemperature<V>& t) {
      panels[count] = panel;
      temperatures[count] = t.vector;
      if (++count < 2) return;
      PowerPanels<2, S, kSquare>(panels, temperatures);
      count = 0;
    });
    if (count != 0) PowerPanels<1, S, kSquare>(panels, temperatures);
    return;
  }
  for (size_t r = 0; r < batch.rows; ++r) {
    const RowOf<S> row = RowAt<S>(call, r);
    SparseRow<PowerThreshold<V, kSquare>>(row, 0.0, row.temperature, batch.far, batch.scratch);
  }
}

template <class S>
inline void EntmaxRow(const RowCall& call, size_t r) {
  using V = VecOf<S>;
  const RowOf<S> row = RowAt<S>(call, r);
  const EntmaxParameters<double> of_row(call.options, row.temperature, call.options.number);
  const double alpha = of_row.alpha, temperature = of_row.temperature;
  if (alpha > 2) {
    return SparseRow<SteepThreshold<V>>(row, alpha, temperature, call.batch.far, call.batch.scratch);
  }
  SparseRow<EntmaxThreshold<V>>(row, alpha, temperature, call.batch.far, call.batch.scratch);
}

template <class S>
BOLTZMAX_KERNEL inline void EntmaxMap(const RowCall& call) {
  using V = VecOf<S>;
  if (call.batch.n > V::kInOrder) {
    for (size_t r = 0; r < call.batch.rows; ++r) EntmaxRow<S>(call, r);
    return;
  }
  size_t first = 0;
  ForEachPanel<S>(call.batch, [&](const Panel<S>& panel, const StripTemperature<V>& t) {
    const EntmaxParameters<Wide<V>> parameters(call.options, t.value, Const(call.options.number));
    const Wide<V> steep = EntmaxPanel(panel, parameters);
    ForEachMarked(panel, steep, [&](size_t j) { EntmaxRow<S>(call, first + j); });
    first += panel.rows;
  });
}

template <class S>
BOLTZMAX_KERNEL inline void Sparsemax(const RowCall& call) {
  PowerMap<S, false>(call);
}
template <class S>
BOLTZMAX_KERNEL inline void Entmax15(const RowCall& call) {
  PowerMap<S, true>(call);
}

constexpr RowFunction kSparseFunctions[] = {
    {.name = "sparsemax",
     .has_other = false,
     .reduces = false,
     .scratch = SparseScratch,
     .cost = 1.0,
     BOLTZMAX_ROW_KERNELS(Sparsemax)},
    {.name = "entmax15",
     .has_other = false,
     .reduces = false,
     .scratch = SparseScratch,
     .cost = 1.2,
     BOLTZMAX_ROW_KERNELS(Entmax15)},
    {.name = "entmax",
     .has_other = false,
     .reduces = false,
     .scratch = SparseScratch,
     .cost = 3.0,
     BOLTZMAX_ROW_KERNELS(EntmaxMap)},
    {.name = "sparsemax_backward",
     .has_other = true,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 1.0,
     BOLTZMAX_ROW_KERNELS(SparsemaxBackward)},
    {.name = "entmax15_backward",
     .has_other = true,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 1.0,
     BOLTZMAX_ROW_KERNELS(Entmax15Backward)},
    {.name = "entmax_backward",
     .has_other = true,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 2.0,
     BOLTZMAX_ROW_KERNELS(EntmaxBackward)},
    {.name = "entmax_alpha_grad",
     .has_other = true,
     .reduces = true,
     .scratch = NoScratch,
     .cost = 3.0,
     BOLTZMAX_ROW_KERNELS(EntmaxAlphaGrad)},
};

}  // namespace
}  // namespace boltzmax::kernels

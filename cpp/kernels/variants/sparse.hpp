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
#include "steep_panels.hpp"
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
  if (are_few || !threshold.SolveWhole(x, count)) threshold.Solve(x, count);
  if (threshold.IsNan()) return SoftmaxMapDegenerate(row.x, row.y, row.n);
  MapTo<V>(p, count, false, [&](size_t i, auto lanes) { return threshold(LoadUpTo<V>(x + i, lanes)); });
  for (size_t j = 0; are_few && j < count; ++j) row.y[few.place[j]] = p[j];
}

// ---- batches ----

template <class S, bool kSquare>
BOLTZMAX_KERNEL inline void PowerMap(const RowCall& call) {
  using V = VecOf<S>;
  const RowBatch& batch = call.batch;
  if (batch.n <= V::kInOrder) {
    Panel<S> panels[kPanelsTogether];
    Temperature<V> temperatures[kPanelsTogether];
    size_t count = 0;
    ForEachPanel<S>(batch, [&](const Panel<S>& panel, const StripTemperature<V>& t) {
      panels[count] = panel;
      temperatures[count] = t.vector;
      if (++count < kPanelsTogether) return;
      PowerPanels<kPanelsTogether, S, kSquare>(panels, temperatures);
      count = 0;
    });
    for (size_t i = 0; i < count; ++i) PowerPanels<1, S, kSquare>(panels + i, temperatures + i);
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
  ForEachPanel<S>(call.batch, [&](const Panel<S>& panel, const StripTemperature<V>& t) {
    EntmaxPanels(panel, EntmaxParameters<Wide<V>>(call.options, t.value, Const(call.options.number)));
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

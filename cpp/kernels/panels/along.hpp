// Panels as stored: the rows are read one after the other, and their partial maxima and sums are folded side by side.
#pragma once

#include "panel.hpp"
#include "transpose.hpp"

namespace boltzmax::kernels {
namespace {

// A temperature per lane; [lane] broadcasts one of them to all lanes.
template <class V>
struct LaneTemperatures {
  using T = typename V::Scalar;
  T value[V::kLanes], inverse_hi[V::kLanes], inverse_lo[V::kLanes];
  bool scaled;

  explicit LaneTemperatures(const Temperature<V>& t) : scaled(t.scaled) {
    Store(value, t.value);
    Store(inverse_hi, t.inverse_hi);
    Store(inverse_lo, t.inverse_lo);
  }
  Temperature<V> operator[](size_t lane) const {
    return {Set<V>(value[lane]), Set<V>(inverse_hi[lane]), Set<V>(inverse_lo[lane]), scaled};
  }
};

// The same for shifts.
template <class Shift>
struct LaneShifts {
  using V = typename Shift::Vector;
  using T = typename V::Scalar;
  T magic[V::kLanes], floor[V::kLanes], offset[V::kLanes];
  LaneTemperatures<V> temperatures;
  Shift all;

  explicit LaneShifts(const Shift& shift) : temperatures(shift.temperature), all(shift) {
    Store(magic, shift.magic);
    Store(floor, shift.floor);
    Store(offset, shift.offset);
  }
  Shift operator[](size_t lane) const {
    Shift shift = all;
    shift.magic = Set<V>(magic[lane]);
    shift.floor = Set<V>(floor[lane]);
    shift.offset = Set<V>(offset[lane]);
    shift.temperature = temperatures[lane];
    return shift;
  }
};
template <class V, class R>
struct LaneShifts<DirectShift<V, R>> {
  typename V::Scalar magic[V::kLanes], floor[V::kLanes];

  explicit LaneShifts(const DirectShift<V, R>& shift) {
    Store(magic, shift.magic);
    Store(floor, shift.floor);
  }
  DirectShift<V, R> operator[](size_t lane) const { return {Set<V>(magic[lane]), Set<V>(floor[lane])}; }
};

// The lanes of a sum that has yet to be folded.
inline F64 PartialSum(const WideSum<F32>& sum) { return sum.lower + sum.upper; }
inline Pair<F64> PartialSum(const WideSum<F64>& sum) { return sum.sum; }

inline Pair<Wide<F32>> FoldSums(const F64* partial, F32) {
  const auto add = [](F64 a, F64 b) { return a + b; };
  Wide<F32> sum;
  sum.part[0] = FoldRows<F64>(partial, add);
  sum.part[1] = FoldRows<F64>(partial + F64::kLanes, add);
  return {sum, Const(0)};
}
inline Pair<Wide<F64>> FoldSums(const Pair<F64>* partial, F64) {
  const auto sum = FoldRows<F64>(partial, Merge<F64>);
  return Settle(Pair<Wide<F64>>{sum.hi, sum.lo});
}

// The sum of `vectors` kept vectors at e: four make a tree or, for a logarithm, each is added singly.
template <bool kForLog, class V, class T>
inline WideSum<V> SumOfKept(const T* e, size_t vectors) {
  WideSum<V> sum;
  size_t u = 0;
  if constexpr (!kForLog) {
    for (; u + 4 <= vectors; u += 4) AddTrees(&sum, LoadLanes<V>(e + u * V::kLanes, Whole<4>{}, T(0)));
    const auto load = [&](size_t k) { return Load(e + (u + k) * V::kLanes); };
    if (vectors - u == 3) sum.Add((load(0) + load(1)) + load(2));
    if (vectors - u == 2) sum.Add(load(0) + load(1));
    if (vectors - u == 1) sum.Add(load(0));
  } else {
    for (; u < vectors; ++u) sum.AddStored(e + u * V::kLanes);
  }
  return sum;
}

// Room for the exponentials of a panel's rows, in whole vectors padded with zeros: what is stored in pieces of a vector
// could not be loaded as a whole at once.
template <class T>
struct KeptTerms {
  using V = Vec<T>;
  T* at;
  size_t vectors;

  KeptTerms(void* scratch, size_t n) : at(static_cast<T*>(scratch)), vectors((n + V::kLanes - 1) / V::kLanes) {}
  T* Row(size_t j) const { return at + j * vectors * V::kLanes; }
  // Scratch memory holds those of the longest rows that go by panels.
  static_assert(kPaneledForLogs<T> * V::kLanes <= 2 * kKept);
};

// Reduces the rows of a panel. Their exponentials are kept if the caller wants them, and for rows so short that adding
// them up later, one row after the other, is faster. Those of longer rows would leave the first-level cache.
template <bool kCoarse, bool kScaled, bool kForLog, class S, class T, class V = Vec<T>>
inline auto ReduceAlong(const Panel<S>& panel, const Temperature<V>& t, const KeptTerms<T>& kept, bool wants_terms) {
  constexpr size_t kMostKept = 128;
  const bool keeps = wants_terms || panel.n <= kMostKept;
  using Shift = typename Source<S, kCoarse>::template ShiftAs<kScaled>;
  constexpr size_t kRows = V::kLanes;
  V maxima[kRows];
  decltype(PartialSum(WideSum<V>{})) partial[kRows];
  for (size_t j = 0; j < panel.rows; ++j) {
    const auto x = panel.Row(j);
    V max = Set<V>(Source<S>::kLowest);
    ForEachVectorOf<V>(panel.n, [&](size_t i, auto lanes) { max = MaxOf(x(i, lanes), max); });
    maxima[j] = max;
  }
  for (size_t j = panel.rows; j < kRows; ++j) maxima[j] = maxima[0];
  const V max = FoldRows<V>(maxima, [](V a, V b) { return Max(a, b); });
  const Shift shift(max, t);
  // A line that one store fills is not read first. Where exponentials are kept, prefetching such lines would also
  // displace them from the first-level cache.
  const bool fills_lines = V::kLanes * sizeof(S) == 64 && panel.n >= kMostKept;
  WithShift(shift, [&]<class Narrowed>(const Narrowed& narrowed) {
    const LaneShifts<Narrowed> shifts(narrowed);
    for (size_t j = 0; j < panel.rows; ++j) {
      if (panel.far) PrefetchBeyond(panel, j, kForLog || !fills_lines);
      const auto x = panel.Row(j);
      const Narrowed own = shifts[j];
      if (!keeps) {
        WideSum<V> sum;
        ForEachVectorOf<V>(panel.n, [&](size_t i, auto lanes) { AddEach(&sum, ScaledExp(x(i, lanes), own)); });
        partial[j] = PartialSum(sum);
        continue;
      }
      T* e = kept.Row(j);
      ForEachVectorOf<V>(panel.n, [&](size_t i, auto lanes) {
        StoreLanes(e + i, ScaledExp(x(i, lanes), own), Whole<decltype(lanes)::kVectors>{});
      });
    }
  });
  for (size_t j = 0; j < panel.rows && keeps; ++j) {
    partial[j] = PartialSum(SumOfKept<kForLog, V>(kept.Row(j), kept.vectors));
  }
  for (size_t j = panel.rows; j < kRows; ++j) partial[j] = partial[0];
  return MakeStripSum(max, shift, FoldSums(partial, V{}));
}

// y = f for row j.
template <class S, class F>
inline void StoreRow(const Panel<S>& panel, size_t j, F f) {
  constexpr size_t kLeast = VecOf<S>::kLanes * sizeof(S) == 64 ? 384 : 1024;  // by measurement
  S* y = panel.Out(j);
  ForEachVectorTo<VecOf<S>, kLeast>(y, panel.n, [&](size_t i, auto lanes) { StoreLanes(y + i, f(i, lanes), lanes); });
}
// The same, past the cache if the panel is streamed.
template <class S, class F>
inline void MapRow(const Panel<S>& panel, size_t j, F f) {
  if (panel.stream) return MapTo<VecOf<S>>(panel.Out(j), panel.n, true, f);
  StoreRow(panel, j, f);
}

}  // namespace
}  // namespace boltzmax::kernels

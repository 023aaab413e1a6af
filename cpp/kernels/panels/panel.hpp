// Panels: as many rows as a vector has lanes, worked on together. The results of reducing a row are in its lane, so
// that everything done once per row (the shift, a division, a logarithm) is done once per panel.
//
// Rows of at most kInOrder elements are first transposed into columns: each lane is a row from beginning to end. Longer
// ones, up to kPaneled elements, are read as stored, and their partial maxima and sums are folded side by side.
#pragma once

#include "../columns/columns.hpp"
#include "places.hpp"
#include "transpose.hpp"

namespace boltzmax::kernels {
namespace {

template <class S>
struct Panel {
  using T = Compute<S>;
  using V = Vec<T>;
  static constexpr size_t kRows = V::kLanes;
  const S* x;
  S* y;
  const uint8_t* mask;  // or null
  ptrdiff_t x_stride, y_stride, mask_stride;
  size_t rows, n;
  bool far, stream = false;
  const ptrdiff_t *x_places = nullptr, *y_places = nullptr;  // see RowBatch

  Source<S> Row(size_t j) const {
    return {Rows<const S>{x, x_stride, x_places}[j], mask == nullptr ? nullptr : RowAt(mask, mask_stride, j)};
  }
  S* Out(size_t j) const { return Rows<S>{y, y_stride, y_places}[j]; }
};

// Calls prefetch(byte) for every cache line of row j of a panel whose rows are neighbours. (Always inlined: GCC regards
// a call that only prefetches as without effect, and may drop it.)
template <class S, class F>
[[gnu::always_inline]] inline void ForEachLine(const Panel<S>& panel, size_t j, F prefetch) {
  constexpr size_t kLine = 64;
  const size_t row = panel.n * sizeof(S);
  for (size_t at = j * row / kLine * kLine; at < (j + 1) * row / kLine * kLine; at += kLine) prefetch(at);
}
template <class S>
inline bool AreNeighbours(const Panel<S>& panel, ptrdiff_t stride) {
  return stride == static_cast<ptrdiff_t>(panel.n * sizeof(S));
}

// Prefetches the input that is a panel or more beyond row j and, unless `y_too` is false, where its result will go.
// Rows come from memory, and the processor has too many instructions in flight to look ahead by itself. Called for one
// row at a time, as the processor cannot wait for many lines at once.
template <class S>
[[gnu::always_inline]] inline void PrefetchBeyond(const Panel<S>& panel, size_t j, bool y_too = true) {
  constexpr size_t kLeast = 4096;
  const size_t bytes = panel.n * sizeof(S) * Panel<S>::kRows, ahead = bytes < kLeast ? kLeast : bytes;
  const bool has_x = AreNeighbours(panel, panel.x_stride), has_y = y_too && AreNeighbours(panel, panel.y_stride);
  ForEachLine(panel, j, [&](size_t at) __attribute__((always_inline)) {
    if (has_x) __builtin_prefetch(reinterpret_cast<const char*>(panel.x) + at + ahead);
    if (has_y) __builtin_prefetch(reinterpret_cast<const char*>(panel.y) + at + ahead, 1);
  });
}
// Prefetches where the result of row j will go, into the second-level cache.
template <class S>
[[gnu::always_inline]] inline void PrefetchResult(const Panel<S>& panel, size_t j) {
  if (!AreNeighbours(panel, panel.y_stride)) return;
  ForEachLine(panel, j, [&](size_t at) __attribute__((always_inline)) {
    __builtin_prefetch(reinterpret_cast<const char*>(panel.y) + at, 1, 2);
  });
}

// ---- rows as columns ----

// A copy of a panel, with all its rows and without a mask: absent rows are copies of the first, and masked elements are
// -inf. Whole vectors are stored, beyond the end of a row, too, where the next one follows: what is stored in part of a
// vector could not be loaded at once.
template <class S>
struct WholePanel {
  static constexpr size_t kRows = Panel<S>::kRows;
  Panel<S> panel;
  S x[kRows * VecOf<S>::kInOrder + VecOf<S>::kLanes];

  explicit WholePanel(const Panel<S>& part) : panel(part) {
    panel.rows = kRows;
    panel.x = x;
    panel.x_places = nullptr;
    panel.x_stride = static_cast<ptrdiff_t>(part.n * sizeof(S));
    panel.mask = nullptr;
    panel.far = false;
    const bool together = part.rows == kRows && part.x_stride == panel.x_stride &&
                          (part.mask == nullptr || part.mask_stride == static_cast<ptrdiff_t>(part.n));
    if (together) Copy(part.Row(0), kRows * part.n, x);
    for (size_t j = 0; j < kRows && !together; ++j) Copy(part.Row(j < part.rows ? j : 0), part.n, x + j * part.n);
  }

 private:
  static void Copy(const Source<S>& from, size_t n, S* to) {
    ForEachVectorOf<VecOf<S>>(
        n, [&]<class Lanes>(size_t i, Lanes lanes) { StoreLanes(to + i, from(i, lanes), Whole<Lanes::kVectors>{}); });
  }
};

// Whether two adjacent rows of two numbers fill a part of a vector.
template <class S>
inline bool HasPairsIn(const Panel<S>& part, ptrdiff_t stride) {
  return VecOf<S>::kPart == 4 && part.n == 2 && stride == 2 * sizeof(S);
}

// Loads elements [0, n) of all rows as lines of `columns`, given where the rows from j on are. Returns the maximum of
// each row. Calls prefetch() before each part of the rows.
template <class S, class T, class From, class Prefetch>
[[gnu::always_inline]] inline Vec<T> LoadSquares(size_t n, From from, T* columns, Prefetch prefetch) {
  using V = Vec<T>;
  constexpr size_t kPart = V::kPart;
  MaxInLanes<V> max;
  const auto put = [&](size_t c, size_t n, auto load) {
    V v[kPart];
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kPart; ++j) {
      const auto row = from(j);
      v[j] = load(row.first + c, row.rows);
    }
    TransposeParts(v);
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kPart; ++j) {
      Store(columns + (c + j) * V::kLanes, v[j]);
      if (j < n) max.max[j] = Max(v[j], max.max[j]);
    }
  };
  if (n < kPart) {
    prefetch();
    put(0, n, [n](const S* p, auto rows) { return LoadPartsN(p, rows, n); });
    return max.Get();
  }
  // The last part of a row may overlap the one before it.
  for (size_t c = 0; c < n; c += kPart) {
    prefetch();
    put(c + kPart <= n ? c : n - kPart, kPart, [](const S* p, auto rows) { return LoadParts(p, rows); });
  }
  return max.Get();
}
// Rows at places are loaded and stored by functions of their own, so that kernels for other rows stay as they are.
template <class S, class T>
BOLTZMAX_KERNEL inline Vec<T> LoadFromPlaces(const Panel<S>& whole, T* columns) {
  return LoadSquares<S>(whole.n, [&](size_t j) { return RowsFrom{whole.x, whole.x_places + j}; }, columns, [] {});
}

// Loads elements [0, n) of all rows as lines of `columns`; masked ones are -inf. Returns the maximum of each row; NaN
// is ignored.
template <class S, class T>
inline Vec<T> LoadTransposed(const Panel<S>& part, T* columns) {
  using V = Vec<T>;
  constexpr size_t kRows = Panel<S>::kRows;
  const size_t n = part.n;
  const bool is_copied = part.rows < kRows || part.mask != nullptr, is_pair = HasPairsIn(part, part.x_stride);
  // The number of rows that are prefetched with each part of a row: the processor cannot wait for all of them at once.
  const size_t share = !part.far ? 0 : is_copied || n * sizeof(S) <= 64 ? kRows : (kRows * V::kPart + n - 1) / n;
  size_t prefetched = 0;
  const auto prefetch = [&]() __attribute__((always_inline)) {
    for (const size_t end = prefetched + share; prefetched < end && prefetched < kRows; ++prefetched) {
      PrefetchBeyond(part, prefetched);
    }
  };
  if (is_copied || is_pair) prefetch();
  if (is_copied) return LoadTransposed(WholePanel<S>(part).panel, columns);
  if (part.x_places != nullptr) return LoadFromPlaces(part, columns);
  if (is_pair) {
    const V a = LoadParts(part.x, part.x_stride), b = LoadParts(RowAt(part.x, part.x_stride, 2), part.x_stride);
    const V even = UnpackLow(a, b), odd = UnpackHigh(a, b);
    Block<V, 2> v;
    v.part[0] = UnpackLow(even, odd);
    v.part[1] = UnpackHigh(even, odd);
    StoreLanes(columns, v, Whole<2>{});
    MaxInLanes<V> max;
    max.Add(v);
    return max.Get();
  }
  return LoadSquares<S>(
      n, [&](size_t j) { return RowsFrom{RowAt(part.x, part.x_stride, j), part.x_stride}; }, columns, prefetch);
}

// Stores f of the lines of `columns`, given where the rows from j on go.
template <class S, class T, class F, class To>
inline void StoreSquares(const T* columns, size_t n, F f, To to) {
  using V = Vec<T>;
  constexpr size_t kPart = V::kPart;
  const auto take = [&](size_t c, auto store) {
    Block<V, kPart> v = f(LoadLanes<V>(columns + c * V::kLanes, Whole<kPart>{}, T(0)));
    TransposeParts(v.part);
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kPart; ++j) {
      const auto row = to(j);
      store(row.first + c, row.rows, v.part[j]);
    }
  };
  if (n < kPart) return take(0, [n](S* p, auto rows, V v) { StorePartsN(p, rows, v, n); });
  for (size_t c = 0; c < n; c += kPart) {
    take(c + kPart <= n ? c : n - kPart, [](S* p, auto rows, V v) { StoreParts(p, rows, v); });
  }
}
template <class S, class T>
BOLTZMAX_KERNEL inline void StoreAtPlaces(const T* columns, const Panel<S>& whole) {
  StoreSquares<S>(
      columns, whole.n, [](const auto& v) { return v; },
      [&](size_t j) { return RowsFrom{whole.y, whole.y_places + j}; });
}

// Stores f of the lines of `columns` into the rows that exist.
template <class S, class T, class F>
inline void StoreTransposed(const T* columns, const Panel<S>& part, F f) {
  using V = Vec<T>;
  constexpr size_t kRows = Panel<S>::kRows;
  if (part.rows < kRows) {
    S y[kRows * V::kInOrder];
    Panel<S> whole = part;
    whole.rows = kRows;
    whole.y = y;
    whole.y_places = nullptr;
    whole.y_stride = static_cast<ptrdiff_t>(part.n * sizeof(S));
    StoreTransposed(columns, whole, f);
    for (size_t j = 0; j < part.rows; ++j) {
      for (size_t i = 0; i < part.n; ++i) part.Out(j)[i] = y[j * part.n + i];
    }
    return;
  }
  if (part.y_places != nullptr) {
    Columns<T> mapped;
    ForEachVectorOf<V>(part.n * V::kLanes, [&](size_t i, auto lanes) {
      StoreLanes(mapped.at + i, f(LoadLanes<V>(columns + i, lanes, T(0))), lanes);
    });
    return StoreAtPlaces(mapped.at, part);
  }
  if (HasPairsIn(part, part.y_stride)) {
    const Block<V, 2> v = f(LoadLanes<V>(columns, Whole<2>{}, T(0)));
    StoreParts(part.y, part.y_stride, UnpackLow(v.part[0], v.part[1]));
    return StoreParts(part.Out(2), part.y_stride, UnpackHigh(v.part[0], v.part[1]));
  }
  StoreSquares<S>(columns, part.n, f,
                  [&](size_t j) { return RowsFrom{RowAt(part.y, part.y_stride, j), part.y_stride}; });
}
template <class S, class T>
inline void StoreTransposed(const T* columns, const Panel<S>& part) {
  StoreTransposed(columns, part, [](const auto& v) { return v; });
}

// ---- rows as stored ----

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

// Calls f for the rows of a panel whose lanes are marked.
template <class S, class D, class F>
inline void ForEachMarked(const Panel<S>& panel, const D& marks, F f) {
  if (!Any(Eq(marks, D(Const(1))))) return;
  double marked[Panel<S>::kRows];
  StoreLanes(marked, marks, Whole<sizeof(D) / sizeof(F64)>{});
  for (size_t j = 0; j < panel.rows; ++j) {
    if (marked[j] != 0) f(j);
  }
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

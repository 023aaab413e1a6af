// Panels: as many rows as a vector has lanes, worked on together. What a row is reduced to lies in its lane, so that all
// that happens once for a row (the shift, a division, a logarithm) happens once for a panel.
//
// Rows of at most kInOrder elements are transposed into columns first: each lane is a row from the beginning to the end.
// Longer ones, up to kShort elements, are read as they lie, and their partial maxima and sums folded side by side.
#pragma once

#include "columns.hpp"
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

  Source<S> Row(size_t j) const {
    return {RowAt(x, x_stride, j), mask == nullptr ? nullptr : RowAt(mask, mask_stride, j)};
  }
  S* Out(size_t j) const { return RowAt(y, y_stride, j); }
};

// Asks for rows that lie so far beyond a panel, and for where their results go: they come from memory, and the processor
// has too many instructions on their way to look ahead by itself. (Always inlined: to GCC, a call that only prefetches has
// no effect, and may go.)
template <class S>
[[gnu::always_inline]] inline void PrefetchBeyond(const Panel<S>& panel) {
  constexpr size_t kAhead = 8192, kLine = 64;
  const auto bytes = static_cast<ptrdiff_t>(panel.n * sizeof(S));
  for (size_t at = 0; at < panel.rows * panel.n * sizeof(S); at += kLine) {
    if (panel.x_stride == bytes) __builtin_prefetch(reinterpret_cast<const char*>(panel.x) + kAhead + at);
    if (panel.y_stride == bytes) __builtin_prefetch(reinterpret_cast<const char*>(panel.y) + kAhead + at, 1);
  }
}

// ---- rows as columns ----

// Columns of numbers to compute with, a line of kRows for each element of the rows; and room for what fills a square.
template <class T>
struct Columns {
  using V = Vec<T>;
  static constexpr size_t kLanes = V::kLanes;
  alignas(64) T at[(V::kInOrder + V::kPart - 1) * kLanes];
};

// A panel that has all its rows: where some are missing, a copy of those that are there, and the first again.
template <class S>
struct WholePanel {
  static constexpr size_t kRows = Panel<S>::kRows, kMost = kRows * VecOf<S>::kInOrder;
  Panel<S> panel;
  S x[kMost];
  uint8_t mask[kMost];

  // Those of a whole one are not initialized, and not looked at.
  explicit WholePanel(const Panel<S>& part) : panel(part) {
    panel.rows = kRows;
    panel.x = Copied(part, part.x, part.x_stride, x, &panel.x_stride);
    if (part.mask != nullptr) panel.mask = Copied(part, part.mask, part.mask_stride, mask, &panel.mask_stride);
  }

 private:
  template <class P>
  static const P* Copied(const Panel<S>& part, const P* from, ptrdiff_t stride, P* to, ptrdiff_t* to_stride) {
    const size_t n = part.n;
    for (size_t j = 0; j < kRows; ++j) {
      const P* row = RowAt(from, stride, j < part.rows ? j : 0);
      for (size_t i = 0; i < n; ++i) to[j * n + i] = row[i];
    }
    *to_stride = static_cast<ptrdiff_t>(n * sizeof(P));
    return to;
  }
};

// Elements [0, n) of all rows as lines of `columns`; masked ones are -inf.
template <class S, class T>
inline void LoadTransposed(const Panel<S>& part, T* columns) {
  using V = Vec<T>;
  constexpr size_t kPart = V::kPart;
  if (part.rows < Panel<S>::kRows) return LoadTransposed(WholePanel<S>(part).panel, columns);
  const auto put = [&](size_t c, size_t n, auto load) {
    V v[kPart];
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kPart; ++j) {
      v[j] = load(RowAt(part.x, part.x_stride, j) + c, part.x_stride);
      if (part.mask == nullptr) continue;
      const auto counts = MaskOfParts<V>(RowAt(part.mask, part.mask_stride, j) + c, part.mask_stride, n);
      v[j] = IfThenElse(counts, v[j], Set<V>(Source<S>::kLowest));
    }
    TransposeParts(v);
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kPart; ++j) Store(columns + (c + j) * V::kLanes, v[j]);
  };
  size_t c = 0;
  for (; c + kPart <= part.n; c += kPart) put(c, kPart, [](const S* p, ptrdiff_t rows) { return LoadParts(p, rows); });
  const size_t n = part.n - c;
  if (n != 0) put(c, n, [n](const S* p, ptrdiff_t rows) { return LoadPartsN(p, rows, n); });
}

// Back, into the rows that are there.
template <class S, class T>
inline void StoreTransposed(const T* columns, const Panel<S>& part) {
  using V = Vec<T>;
  constexpr size_t kPart = V::kPart, kRows = Panel<S>::kRows;
  if (part.rows < kRows) {
    S y[kRows * V::kInOrder];
    Panel<S> whole = part;
    whole.rows = kRows;
    whole.y = y;
    whole.y_stride = static_cast<ptrdiff_t>(part.n * sizeof(S));
    StoreTransposed(columns, whole);
    for (size_t j = 0; j < part.rows; ++j) {
      for (size_t i = 0; i < part.n; ++i) part.Out(j)[i] = y[j * part.n + i];
    }
    return;
  }
  const auto take = [&](size_t c, auto store) {
    V v[kPart];
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kPart; ++j) v[j] = Load(columns + (c + j) * V::kLanes);
    TransposeParts(v);
    BOLTZMAX_UNROLL
    for (size_t j = 0; j < kPart; ++j) store(part.Out(j) + c, part.y_stride, v[j]);
  };
  size_t c = 0;
  for (; c + kPart <= part.n; c += kPart) take(c, [](S* p, ptrdiff_t rows, V v) { StoreParts(p, rows, v); });
  const size_t n = part.n - c;
  if (n != 0) take(c, [n](S* p, ptrdiff_t rows, V v) { StorePartsN(p, rows, v, n); });
}

template <class S, bool kCoarse>
inline Strip<Compute<S>, kCoarse> AsStrip(Compute<S>* columns, size_t n) {
  constexpr size_t kLanes = Panel<S>::kRows;
  return {reinterpret_cast<char*>(columns), kLanes * sizeof(Compute<S>), n, kLanes};
}

// ---- rows as they lie ----

// A temperature for each lane, of which one lane is wanted in all.
template <class V>
struct LaneTemperatures {
  using T = typename V::Scalar;
  T value[V::kLanes], inverse_hi[V::kLanes], inverse_lo[V::kLanes];

  explicit LaneTemperatures(const Temperature<V>& t) {
    Store(value, t.value);
    Store(inverse_hi, t.inverse_hi);
    Store(inverse_lo, t.inverse_lo);
  }
  Temperature<V> operator[](size_t lane) const {
    return {Set<V>(value[lane]), Set<V>(inverse_hi[lane]), Set<V>(inverse_lo[lane])};
  }
};

// The same of shifts.
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

// The lanes of partial sums, still to be folded.
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

// The sum of what waits at e, `vectors` of them: four of a lane make a tree, or, for a logarithm, each is added on its own.
template <bool kForLog, class V, class T>
inline WideSum<V> SumOfWaiting(const T* e, size_t vectors) {
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

// Exponentials of the rows of a panel: whole vectors, beyond the end zeros. What is stored in part of a vector could not
// be loaded again at once.
template <class T>
struct Waiting {
  using V = Vec<T>;
  T* at;
  size_t vectors;

  Waiting(void* scratch, size_t n) : at(static_cast<T*>(scratch)), vectors((n + V::kLanes - 1) / V::kLanes) {}
  T* Row(size_t j) const { return at + j * vectors * V::kLanes; }
};

// The rows of a panel, reduced, with their exponentials.
template <bool kScaled, bool kCoarse, bool kForLog, class S, class T, class V = Vec<T>>
inline auto ReduceAlong(const Panel<S>& panel, const Temperature<V>& t, const Waiting<T>& waiting) {
  using Shift = typename Source<S, kCoarse>::template Shift<kScaled>;
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
  const LaneShifts<Shift> shifts(shift);
  WithShift<kScaled>(shift, [&]<class Narrowed>(const Narrowed&) {
    for (size_t j = 0; j < panel.rows; ++j) {
      const auto x = panel.Row(j);
      const Narrowed own(shifts[j]);
      T* e = waiting.Row(j);
      ForEachVectorOf<V>(panel.n, [&](size_t i, auto lanes) {
        StoreLanes(e + i, ScaledExp(x(i, lanes), own), Whole<decltype(lanes)::kVectors>{});
      });
    }
  });
  for (size_t j = 0; j < panel.rows; ++j) {
    partial[j] = PartialSum(SumOfWaiting<kForLog, V>(waiting.Row(j), waiting.vectors));
  }
  for (size_t j = panel.rows; j < kRows; ++j) partial[j] = partial[0];
  return MakeStripSum(max, shift, FoldSums(partial, V{}));
}

// The rows of a panel whose lanes are marked.
template <class S, class D, class F>
inline void ForEachMarked(const Panel<S>& panel, const D& marks, F f) {
  if (!Any(Eq(marks, D(Const(1))))) return;
  double marked[Panel<S>::kRows];
  StoreLanes(marked, marks, Whole<sizeof(D) / sizeof(F64)>{});
  for (size_t j = 0; j < panel.rows; ++j) {
    if (marked[j] != 0) f(j);
  }
}

// Exponentials kept in columns, which are added up from there.
template <class V>
struct KeepInColumns {
  using T = typename V::Scalar;
  T* columns;

  template <size_t U>
  void operator()(size_t i, size_t, const Block<V, U>& e) const {
    StoreLanes(columns + i * V::kLanes, e, Whole<U>{});
  }
  const T* Kept(size_t i) const { return columns + i * V::kLanes; }
};

// y = f, row by row: row(j, map) calls map(f).
template <class S, class Row>
inline void MapAlong(const Panel<S>& panel, bool stream, Row row) {
  using V = VecOf<S>;
  if (stream) {
    for (size_t j = 0; j < panel.rows; ++j) row(j, [&](auto f) { MapTo<V>(panel.Out(j), panel.n, true, f); });
    return;
  }
  for (size_t j = 0; j < panel.rows; ++j) {
    S* y = panel.Out(j);
    row(j, [&](auto f) {
      ForEachVectorOf<V>(panel.n, [&](size_t i, auto lanes) { StoreLanes(y + i, f(i, lanes), lanes); });
    });
  }
}

// ---- softmax ----

template <bool kScaled, class S, class V = VecOf<S>>
inline void SoftmaxTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  Columns<Compute<S>> columns;
  LoadTransposed(panel, columns.at);
  const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
  const auto strip = ReduceInOrder<kScaled>(x, t.vector, KeepInColumns<V>{columns.at});
  const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
    StoreLanes(columns.at + i * V::kLanes, Divide(x.template Rows<U>(i, 1), divisor), Whole<U>{});
  });
  StoreTransposed(columns.at, panel);
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void SoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch, bool stream) {
  using T = Compute<S>;
  const Waiting<T> waiting(scratch, panel.n);
  const auto strip = ReduceAlong<kScaled, kCoarseWillDo<S>, false>(panel, t.vector, waiting);
  const LaneDivisors<V> divisors(strip.sum);
  MapAlong(panel, stream, [&](size_t j, auto map) {
    const Divisor<V> divisor = divisors[j];
    const T* e = waiting.Row(j);
    map([&]<class Lanes>(size_t i, Lanes) {
      return Divide(LoadLanes<V>(e + i, Whole<Lanes::kVectors>{}, T(0)), divisor);
    });
  });
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

// ---- logarithms ----

// What the rows of a panel were reduced to, with the logarithms of their sums.
template <class Shift>
struct PanelLog {
  using V = typename Shift::Vector;
  StripSum<Shift> strip;
  Pair<Wide<V>> rest;  // the sums without a largest term
  Pair<Wide<V>> log_sum;
  Wide<V> degenerate;  // 1 in the lanes of rows without a finite maximum or with NaN, else 0

  bool AnyDegenerate() const { return Any(Eq(degenerate, Wide<V>(Const(1)))); }
};

template <class D>
inline RowSum RowOf(const SumOfExp<D>& lanes, size_t j) {
  constexpr auto kWhole = Whole<sizeof(D) / sizeof(F64)>{};
  double numbers[6][sizeof(D) / sizeof(double)];
  const D* fields[] = {&lanes.max, &lanes.offset, &lanes.exponent, &lanes.top, &lanes.hi, &lanes.lo};
  for (size_t f = 0; f < 6; ++f) StoreLanes(numbers[f], *fields[f], kWhole);
  return {numbers[0][j], numbers[1][j], numbers[2][j], numbers[3][j], numbers[4][j], numbers[5][j]};
}

// The sum of each row without its largest term; where it is tiny, from the row itself.
template <bool kScaled, class S, class Shift, class V = typename Shift::Vector>
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
    const typename Source<S>::template Shift<kScaled> shift(row, MakeTemperature<V>(temperature[j]));
    const Sum again = SumRest(panel.Row(j), panel.n, Set<V>(static_cast<T>(row.max)), shift);
    hi[j] = again.hi;
    lo[j] = again.lo;
  });
  return {LoadLanes<F64>(hi, kWhole, 0.0), LoadLanes<F64>(lo, kWhole, 0.0)};
}

// Where a row has no finite maximum, hi becomes what DegenerateSum says.
template <class S, class Shift, class V = typename Shift::Vector>
BOLTZMAX_RARE inline void MarkDegenerateRows(const Panel<S>& panel, PanelLog<Shift>* log) {
  constexpr auto kWhole = Whole<sizeof(Wide<V>) / sizeof(F64)>{};
  double hi[V::kLanes], max[V::kLanes];
  StoreLanes(hi, log->strip.sum.hi, kWhole);
  StoreLanes(max, log->strip.sum.max, kWhole);
  ForEachMarked(panel, log->degenerate, [&](size_t j) { hi[j] = DegenerateSum(panel.Row(j), panel.n, max[j]).hi; });
  log->strip.sum.hi = LoadLanes<F64>(hi, kWhole, 0.0);
}

template <class S, class Shift, class V = typename Shift::Vector>
inline PanelLog<Shift> FinishLog(const Panel<S>& panel, const StripSum<Shift>& strip, const Pair<Wide<V>>& rest) {
  PanelLog<Shift> log = {strip, rest, LogOfShort(strip, rest), DegenerateLanes(strip.sum)};
  if (log.AnyDegenerate()) MarkDegenerateRows(panel, &log);
  return log;
}

// The logarithms of the sums of a panel; transposed, its rows lie in `columns`, and all but the largest exponentials in
// `terms`.
template <bool kScaled, bool kCoarse, class S, class V = VecOf<S>>
inline auto ReduceTransposedToLog(const Panel<S>& panel, Columns<Compute<S>>* columns, Columns<Compute<S>>* terms,
                                  const StripTemperature<V>& t) {
  LoadTransposed(panel, columns->at);
  const auto x = AsStrip<S, kCoarse>(columns->at, panel.n);
  const auto in_order = ReduceInOrderForLog<kScaled>(x, t.vector, KeepInColumns<V>{terms->at});
  return FinishLog(panel, in_order.strip, in_order.rest);
}
template <bool kScaled, bool kCoarse, class S, class V = VecOf<S>>
inline auto ReduceAlongToLog(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch) {
  const auto strip = ReduceAlong<kScaled, kCoarse, true>(panel, t.vector, Waiting<Compute<S>>(scratch, panel.n));
  return FinishLog(panel, strip, RestAlong<kScaled>(panel, strip, t));
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void LogSoftmaxTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  using T = Compute<S>;
  Columns<T> columns, terms;
  const auto log = ReduceTransposedToLog<kScaled, kCoarseWillDo<S>>(panel, &columns, &terms, t);
  const auto shift = LogShift<V>::template Make<kScaled>(log.strip.sum.offset, log.log_sum);
  const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
  const bool any_degenerate = log.AnyDegenerate();
  if (any_degenerate) {
    const StripOut<T> y = {reinterpret_cast<char*>(columns.at), x.stride, x.n, x.lanes};
    LogSoftmaxDegenerateStrip<kScaled>(x, y, shift, t, log.strip.sum);
  } else {
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      const auto y = SubtractLog<kScaled>(x.template Rows<U>(i, 1), shift, t.vector);
      StoreLanes(columns.at + i * V::kLanes, y, Whole<U>{});
    });
  }
  StoreTransposed(columns.at, panel);
  if (any_degenerate && panel.mask != nullptr) {
    ForEachMarked(panel, log.degenerate, [&](size_t j) {
      const uint8_t* counts = RowAt(panel.mask, panel.mask_stride, j);
      for (size_t i = 0; i < panel.n; ++i) {
        if (counts[i] == 0) StoreScalar(panel.Out(j) + i, -__builtin_inf());
      }
    });
  }
}

template <bool kScaled, class S, class V = VecOf<S>>
inline void LogSoftmaxAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch, bool stream) {
  using T = Compute<S>;
  const auto log = ReduceAlongToLog<kScaled, kCoarseWillDo<S>>(panel, t, scratch);
  const auto shifts = LogShift<V>::template Make<kScaled>(log.strip.sum.offset, log.log_sum);
  T offset[V::kLanes], minus_high[V::kLanes], low[V::kLanes];
  Store(offset, shifts.offset);
  Store(minus_high, shifts.minus_high);
  Store(low, shifts.low);
  const LaneTemperatures<V> temperatures(t.vector);
  double degenerate[V::kLanes];
  StoreLanes(degenerate, log.degenerate, Whole<sizeof(Wide<V>) / sizeof(F64)>{});
  MapAlong(panel, stream, [&](size_t j, auto map) {
    const auto x = panel.Row(j);
    if (degenerate[j] != 0) {
      return LogSoftmaxMapDegenerate(x, panel.Out(j), panel.n, IsAllNan(RowOf(log.strip.sum, j)));
    }
    const LogShift<V> shift = {Set<V>(offset[j]), Set<V>(minus_high[j]), Set<V>(low[j])};
    const Temperature<V> temperature = temperatures[j];
    map([&](size_t i, auto lanes) { return SubtractLog<kScaled>(x(i, lanes), shift, temperature); });
  });
}

// logsumexp of each lane.
template <bool kScaled, class Shift, class V = typename Shift::Vector>
inline Wide<V> LogSumExpOfLanes(const PanelLog<Shift>& log, const StripTemperature<V>& t) {
  const auto usual = (Scaled<kScaled>(log.strip.sum.offset, t.value) + log.log_sum.hi) + log.log_sum.lo;
  const auto special = IfThenElse(Eq(log.strip.sum.hi, log.strip.sum.hi), log.strip.sum.max, log.strip.sum.hi);
  return IfThenElse(Eq(log.degenerate, Wide<V>(Const(1))), special, usual);
}

template <class S, class D>
inline void StoreLanesTo(const Panel<S>& panel, const D& result) {
  S numbers[Panel<S>::kRows];
  Store(numbers, Demote(result));
  for (size_t j = 0; j < panel.rows; ++j) *panel.Out(j) = numbers[j];
}
template <bool kScaled, class S, class V = VecOf<S>>
inline void LogSumExpTransposed(const Panel<S>& panel, const StripTemperature<V>& t) {
  Columns<Compute<S>> columns, terms;
  StoreLanesTo(panel, LogSumExpOfLanes<kScaled>(ReduceTransposedToLog<kScaled, false>(panel, &columns, &terms, t), t));
}
template <bool kScaled, class S, class V = VecOf<S>>
inline void LogSumExpAlong(const Panel<S>& panel, const StripTemperature<V>& t, void* scratch) {
  StoreLanesTo(panel, LogSumExpOfLanes<kScaled>(ReduceAlongToLog<kScaled, false>(panel, t, scratch), t));
}

}  // namespace
}  // namespace boltzmax::kernels

// Passes over columns, like those over a row in passes.hpp. They work on a strip of neighbouring columns; each lane of
// a vector is a column.
//
// A column has the bits of the same numbers in a row. A row adds element i to lane i mod kLanes; so a strip keeps one
// sum for each of those lanes, and folds them as WideSum does.
#pragma once

#include "../math/exp.hpp"
#include "../rows/passes.hpp"

namespace boltzmax::kernels {
namespace {

// Calls f for every vector of a block that holds `lanes` columns: whole(u), or part(u) where they do not fill a vector.
// The branch is taken once per block, which costs nothing compared with a second copy of every kernel.
template <class V, size_t U, class Whole, class Part>
inline void ForEachVector(size_t lanes, Whole whole, Part part) {
  if (lanes == V::kLanes) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) whole(u);
  } else {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) part(u);
  }
}

// Prefetches U rows of a strip that will be needed soon or, beyond its last row, of the next strip: no processor
// predicts strides of this length by itself. A row may cross into a second cache line. (Always inlined: GCC regards a
// call that only prefetches as without effect, and may drop it.)
template <class V, class S, size_t U>
[[gnu::always_inline]] inline void PrefetchRows(const char* strip, ptrdiff_t stride, size_t n, size_t i, size_t step) {
  constexpr size_t kAhead = 4 * V::kLanes, kBytes = V::kLanes * sizeof(S);
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) {
    const size_t row = i + u * step + kAhead, of_next = row - n < n ? row - n : n - 1;
    const char* at = strip + (row < n ? static_cast<ptrdiff_t>(row) * stride
                                      : static_cast<ptrdiff_t>(of_next) * stride + static_cast<ptrdiff_t>(kBytes));
    __builtin_prefetch(at);
    __builtin_prefetch(at + kBytes - 1);
  }
}

// At most kLanes neighbouring columns. Rows loads U elements of each: rows i, i + step, ... of the strip.
template <class S, bool kCoarse>
struct Strip {
  using T = Compute<S>;
  using V = Vec<T>;
  template <bool kScaled>
  using ShiftAs = ExpShift<V, kScaled, ReductionOf<V, kCoarse>>;
  using Shift = ShiftAs<true>;
  const char* x;
  ptrdiff_t stride;
  size_t n, lanes;

  const S* At(size_t i) const { return reinterpret_cast<const S*>(x + static_cast<ptrdiff_t>(i) * stride); }

  template <size_t U>
  Block<V, U> Rows(size_t i, size_t step) const {
    Block<V, U> b;
    ForEachVector<V, U>(
        lanes, [&](size_t u) { b.part[u] = Load(At(i + u * step)); },
        [&](size_t u) { b.part[u] = LoadN(At(i + u * step), lanes, T(0)); });
    return b;
  }
  template <size_t U>
  [[gnu::always_inline]] void Prefetch(size_t i, size_t step) const {
    PrefetchRows<V, S, U>(x, stride, n, i, step);
  }
};

// The destination of a strip's results: rows i, i + step, ... of the columns.
template <class S>
struct StripOut {
  char* y;
  ptrdiff_t stride;
  size_t n, lanes;

  S* At(size_t i) const { return reinterpret_cast<S*>(y + static_cast<ptrdiff_t>(i) * stride); }

  template <class V, size_t U>
  void Put(size_t i, size_t step, const Block<V, U>& b) const {
    ForEachVector<V, U>(
        lanes, [&](size_t u) { Store(At(i + u * step), b.part[u]); },
        [&](size_t u) { StoreN(At(i + u * step), b.part[u], lanes); });
  }
  template <size_t U>
  [[gnu::always_inline]] void Prefetch(size_t i, size_t step) const {
    PrefetchRows<VecOf<S>, S, U>(y, stride, n, i, step);
  }
};

template <size_t U>
struct RowCount {};

// Calls f(i, RowCount<U>) for every row of a strip, four rows at a time and then two and one.
template <class F>
inline void ForEachStripRow(size_t n, F f) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) f(i, RowCount<4>{});
  if ((n & 2) != 0) f(i, RowCount<2>{});
  if ((n & 1) != 0) f(n - 1, RowCount<1>{});
}

// The maximum over rows that come in blocks; NaN is ignored. Four chains of maxima: the latency of one would count.
template <class V>
struct MaxInLanes {
  static constexpr size_t kChains = 4;
  V max[kChains];

  MaxInLanes() {
    for (V& m : max) m = Set<V>(-static_cast<typename V::Scalar>(__builtin_inff()));
  }
  template <size_t U>
  void Add(const Block<V, U>& b) {
    static_assert(U <= kChains);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) max[u] = Max(b.part[u], max[u]);
  }
  V Get() const { return Max(Max(max[0], max[1]), Max(max[2], max[3])); }
};

// The maximum of f over the first n rows; NaN is ignored.
template <class V, class F>
inline V ColumnMax(size_t n, F f) {
  MaxInLanes<V> max;
  ForEachStripRow(n, [&](size_t i, auto count) { max.Add(f(i, count)); });
  return max.Get();
}
template <class StripType>
inline auto StripMax(const StripType& x, size_t n) {
  return ColumnMax<typename StripType::V>(n, [&]<size_t U>(size_t i, RowCount<U>) { return x.template Rows<U>(i, 1); });
}

// Folds the sums of the row-lanes as those of a row are: halves onto halves.
template <class V>
inline Pair<Wide<V>> FoldColumnSums(WideSum<V>* sums) {
  FoldLanes<V::kLanes / 2>(sums, [](WideSum<V> a, const WideSum<V>& b) {
    a.Fold(b);
    return a;
  });
  return sums[0].Lanes();
}

// SumOver for columns: each column gets the bits that SumOver gives its numbers. f is called as f(i, step,
// RowCount<U>). Rows are visited in order, kLanes trees of four at a time, so that the rows of a tree are near each
// other in memory.
template <class V, class F>
inline Pair<Wide<V>> ColumnSum(size_t n, F f) {
  constexpr size_t kLanes = V::kLanes, kTrees = 4 * kLanes;
  WideSum<V> sums[kLanes];
  // Trees of at most U rows that begin at rows first + [begin, end).
  const auto add = [&]<size_t U>(size_t first, size_t begin, size_t end, RowCount<U> count) {
    for (size_t lane = begin; lane < end; ++lane) {
      const auto terms = f(first + lane, kLanes, count);
      Block<V, 4> tree = Set<V>(0);
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < U; ++u) tree.part[u] = terms.part[u];
      AddTrees(&sums[lane], tree);
    }
  };
  size_t first = 0;
  for (; first + kTrees <= n; first += kTrees) add(first, 0, kLanes, RowCount<4>{});
  const size_t whole = (n - first) / kLanes, longer = (n - first) % kLanes;
  if (whole == 3) {
    add(first, 0, longer, RowCount<4>{});
    add(first, longer, kLanes, RowCount<3>{});
  } else if (whole == 2) {
    add(first, 0, longer, RowCount<3>{});
    add(first, longer, kLanes, RowCount<2>{});
  } else if (whole == 1) {
    add(first, 0, longer, RowCount<2>{});
    add(first, longer, kLanes, RowCount<1>{});
  } else {
    add(first, 0, longer, RowCount<1>{});
  }
  return FoldColumnSums(sums);
}

}  // namespace
}  // namespace boltzmax::kernels

// Panels as columns: short rows are transposed, so that each lane is a row.
#pragma once

#include "panel.hpp"
#include "transpose.hpp"

namespace boltzmax::kernels {
namespace {

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

}  // namespace
}  // namespace boltzmax::kernels

// Panels: as many rows as a vector has lanes, worked on together. The results of reducing a row are in its lane, so
// that everything done once per row (the shift, a division, a logarithm) is done once per panel.
//
// Rows of at most kInOrder elements (kTransposed in softmax) are first transposed into columns: each lane is a row from
// beginning to end. Longer ones, up to kPaneled elements, are read as stored, and their partial sums, and maxima if they
// are needed, are folded side by side.
#pragma once

#include "../columns/columns.hpp"
#include "places.hpp"

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

  // Its elements from `begin` on.
  Panel After(size_t begin) const {
    return {x + begin, y + begin, mask == nullptr ? nullptr : mask + begin,
            x_stride,  y_stride,  mask_stride,
            rows,      n - begin, false,
            stream,    x_places,  y_places};
  }
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

}  // namespace
}  // namespace boltzmax::kernels

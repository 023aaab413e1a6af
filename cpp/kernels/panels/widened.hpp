// Short rows of 16 bits, which go by panels as floats: they are widened, a block at a time that stays in the first-level
// cache, and their results are narrowed. So there is one copy of the code for panels of floats and not three, except for
// those of AVX-512 that are not transposed. The bits are those of arithmetic that widens every vector where it is
// loaded.
#pragma once

#include "for_each_panel.hpp"

namespace boltzmax::kernels {
namespace {

// Calls f(element, its place, number of elements) for rows of n: once for all of them if they are neighbours.
template <class S, class F>
inline void ForEachStretch(const Rows<S>& rows, size_t count, size_t n, F f) {
  if (rows.stride == static_cast<ptrdiff_t>(n * sizeof(S))) return f(rows.first, size_t{0}, count * n);
  for (size_t j = 0; j < count; ++j) f(rows[j], j * n, n);
}

// Calls f(first, count, x) for blocks of rows as floats, one after the other at x; f may overwrite them.
template <Storage16 S, class F>
inline void ForEachWidenedBlock(const Rows<const S>& all, size_t rows, size_t n, bool far, F f) {
  constexpr size_t kRows = Panel<float>::kRows, kMost = kPaneledForLogs<float> * kRows;
  alignas(64) float x[kMost];
  const size_t panels = kMost / 2 / (n * kRows), together = (panels == 0 ? 1 : panels) * kRows;
  for (size_t r = 0; r < rows; r += together) {
    const size_t count = rows - r < together ? rows - r : together;
    ForEachStretch(all.From(r), count, n, [&](const S* from, size_t at, size_t elements) {
      MapTo<F32>(x + at, elements, false, [&](size_t i, auto lanes) {
        if (far) PrefetchAhead(from + i, lanes);
        return LoadLanes<F32>(from + i, lanes, 0.0f);
      });
    });
    f(r, count, x);
  }
}

// Stores rows of n floats, one after the other at x, as 16 bits.
template <Storage16 S>
inline void NarrowRows(const float* x, const Rows<S>& y, size_t rows, size_t n, bool stream) {
  ForEachStretch(y, rows, n, [&](S* to, size_t at, size_t elements) {
    MapTo<F32>(to, elements, stream, [&](size_t i, auto lanes) { return LoadLanes<F32>(x + at + i, lanes, 0.0f); });
  });
}

}  // namespace
}  // namespace boltzmax::kernels

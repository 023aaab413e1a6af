// Panels of a batch of rows.
#pragma once

#include "panel.hpp"

namespace boltzmax::kernels {
namespace {

template <class P, class Byte>
inline P* Offset(Byte* base, size_t i, ptrdiff_t stride) {
  return reinterpret_cast<P*>(base + static_cast<ptrdiff_t>(i) * stride);
}

// Calls f(panel, temperatures) for every kLanes rows of a batch.
template <class S, class F>
inline void ForEachPanel(const RowBatch& b, F f) {
  using V = VecOf<S>;
  constexpr size_t kRows = Panel<S>::kRows;
  const Rows<const S> all_x = {reinterpret_cast<const S*>(b.x), b.x_stride, b.x_places};
  const Rows<S> all_y = {reinterpret_cast<S*>(b.y), b.y_stride, b.y_places};
  StripTemperature<V> t;
  for (size_t r = 0; r < b.rows; r += kRows) {
    const auto x = all_x.From(r);
    const auto y = all_y.From(r);
    const Panel<S> panel = {x.first,
                            y.first,
                            b.mask == nullptr ? nullptr : Offset<const uint8_t>(b.mask, r, b.mask_stride),
                            x.stride,
                            y.stride,
                            b.mask_stride,
                            b.rows - r < kRows ? b.rows - r : kRows,
                            b.n,
                            b.far,
                            b.stream,
                            x.places,
                            y.places};
    if (b.scaled) {
      const char* first = reinterpret_cast<const char*>(b.temperature);
      t = {Offset<const double>(first, r, b.temperature_stride), b.temperature_stride, panel.rows};
    }
    f(panel, t);
  }
  if (b.stream) StreamFence();
}

}  // namespace
}  // namespace boltzmax::kernels

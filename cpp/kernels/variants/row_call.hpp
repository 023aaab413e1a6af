// Rows of a call, one by one.
#pragma once

#include "../panels/for_each_panel.hpp"
#include "../row_functions.hpp"

namespace boltzmax::kernels {
namespace {

// One row of a call.
template <class S>
struct RowOf {
  Source<S> x;
  const S* other;  // or null
  S* y;
  size_t n;
  double temperature;
  uint64_t number;  // of the row, for random numbers
};

template <class S>
inline RowOf<S> RowAt(const RowCall& call, size_t r) {
  const RowBatch& b = call.batch;
  const auto* temperatures = reinterpret_cast<const char*>(b.temperature);
  return {{Offset<const S>(b.x, r, b.x_stride),
           b.mask == nullptr ? nullptr : Offset<const uint8_t>(b.mask, r, b.mask_stride)},
          call.other == nullptr ? nullptr : Offset<const S>(call.other, r, call.other_stride),
          Offset<S>(b.y, r, b.y_stride),
          b.n,
          *Offset<const double>(temperatures, r, b.temperature_stride),
          call.options.first_row + r};
}

constexpr size_t NoScratch(size_t) { return 0; }

}  // namespace
}  // namespace boltzmax::kernels

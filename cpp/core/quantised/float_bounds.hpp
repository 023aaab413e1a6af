// Upper bounds of logits in float, for a quick look at the classes of a layer with one scale a class.
#pragma once

#include "bounds.hpp"
#include "hidden_rows.hpp"

namespace boltzmax {

// The bounds of a row in float. With z the sum of q p, the exact upper bound is
//
//     t s z + by_error e + by_norm ||s q|| + b,    ||s q|| <= ratio s,
//
// and every term is enlarged by 2^-20 of its size, more than what a few roundings in float can lose: |t s z| is at most
// (||h|| + ||h - t p||) ratio s.
struct FloatBounds {
  float t, by_scale, by_error;
  bool usable;

  FloatBounds(const QuantisedLayer& layer, const RowBounds& row) {
    constexpr double kMore = 0x1p-20, kLeast = 1e-30, kMost = 1e12;
    const double scale = layer.ratio * (row.by_norm + kMore * (row.by_error + 2.0 * row.by_norm)) * (1.0 + kMore);
    t = static_cast<float>(row.t);
    by_scale = FloatAbove(scale);
    by_error = FloatAbove(row.by_error * (1.0 + kMore));
    usable = layer.moderate && row.t > kLeast && row.t < kMost && scale < kMost && row.by_error < kMost;
  }

  // The bounds of n classes from the first one on, with these sums.
  UpperBounds Of(const QuantisedLayer& layer, const int32_t* z, size_t first, size_t n) const {
    return {z, layer.scale + first, layer.error + first, layer.bias_above + first, n, t, by_scale, by_error};
  }
};

}  // namespace boltzmax

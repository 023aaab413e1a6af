// Maps that replace the exponential of softmax by another function.
//
//     spherical_softmax = x_i^2 / sum_j x_j^2
#pragma once

#include "../rows/softmax.hpp"
#include "row_call.hpp"

namespace boltzmax::kernels {
namespace {

template <class S>
BOLTZMAX_KERNEL inline void SphericalSoftmax(const RowCall& call) {
  using V = VecOf<S>;
  using T = Compute<S>;
  for (size_t r = 0; r < call.batch.rows; ++r) {
    const RowOf<S> row = RowAt<S>(call, r);
    const auto square = [&](size_t i, auto lanes) {
      const auto x = row.x.Keep(i, lanes, LoadLanes<V>(row.x.x + i, lanes, T(0)), Set<V>(T(0)));
      return x * x;
    };
    const Sum sum = SumOver<V>(row.n, square);
    const V inverse = Set<V>(static_cast<T>(1.0 / (sum.hi + sum.lo)));
    MapTo<V>(row.y, row.n, false, [&](size_t i, auto lanes) { return square(i, lanes) * inverse; });
  }
}

constexpr RowFunction kShapeFunctions[] = {
    {.name = "spherical_softmax",
     .has_other = false,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 1.0,
     BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_VALUE, SphericalSoftmax)},
};

}  // namespace
}  // namespace boltzmax::kernels

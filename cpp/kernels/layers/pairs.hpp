// A tile of logits whose rows and columns both have a softmax: the sums of columns, and the gradients of both losses.
#pragma once

#include "tiles.hpp"

namespace boltzmax::kernels {
namespace {

template <class T>
BOLTZMAX_KERNEL inline void MaxOfColumns(const T* rows, size_t stride, size_t count, size_t n, T* max) {
  using V = Vec<T>;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    auto m = LoadLanes<V>(max + i, lanes, T(0));
    for (size_t r = 0; r < count; ++r) m = Max(LoadLanes<V>(rows + r * stride + i, lanes, T(0)), m);
    StoreLanes(max + i, m, lanes);
  });
}

template <class T>
BOLTZMAX_KERNEL inline void SumExpOfColumns(const T* rows, size_t stride, size_t count, size_t n, const T* offset,
                                            double* sums) {
  using V = Vec<T>;
  const ExpShift<V, false> shift(Set<V>(0), MakeTemperature<V>(1));
  const V unscale = Set<V>(static_cast<T>(ExpConstants<T>::kUnscale));
  ForEachBlock<V, 1>(n, [&](size_t i, auto lanes) {
    const auto wide = AsDoubles<V>(lanes);
    const V from = LoadLanes<V>(offset + i, lanes, T(0)).part[0];
    Wide<V> total = LoadLanes<F64>(sums + i, wide, 0.0);
    const auto distance = [&](size_t r) { return LoadLanes<V>(rows + r * stride + i, lanes, T(0)).part[0] - from; };
    size_t r = 0;
    for (; r + 4 <= count; r += 4) {
      Block<V, 4> x;
      BOLTZMAX_UNROLL
      for (size_t k = 0; k < 4; ++k) x.part[k] = distance(r + k);
      const Block<V, 4> e = ScaledExp(x, shift);
      total = total + Wide<V>(Promote(((e.part[0] + e.part[1]) + (e.part[2] + e.part[3])) * unscale));
    }
    for (; r < count; ++r) {
      const Block<V, 1> e = ScaledExp(Block<V, 1>(distance(r)), shift);
      total = total + Wide<V>(Promote(e.part[0] * unscale));
    }
    StoreLanes(sums + i, total, wide);
  });
}

template <class T>
BOLTZMAX_KERNEL inline void PairSlope(const PairRow<T>& row) {
  using V = Vec<T>;
  const ExpShift<V, false> shift(Set<V>(0), MakeTemperature<V>(1));
  const V offset = Set<V>(row.offset), gain = Set<V>(row.gain);
  const V unscale = Set<V>(static_cast<T>(ExpConstants<T>::kUnscale));
  ForEachBlock<V, 2>(row.n, [&](size_t i, auto lanes) {
    using B = Block<V, decltype(lanes)::kVectors>;
    const B s = LoadLanes<V>(row.s + i, lanes, T(0));
    const B of_row = ScaledExp(s - B(offset), shift) * B(unscale);
    const B of_column = ScaledExp(s - LoadLanes<V>(row.column_offset + i, lanes, T(0)), shift) * B(unscale);
    const B column_gain = LoadLanes<V>(row.column_gain + i, lanes, T(0));
    StoreLanes(row.s + i, MulAdd(of_row, B(gain), of_column * column_gain), lanes);
  });
}

}  // namespace
}  // namespace boltzmax::kernels

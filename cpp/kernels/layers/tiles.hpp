// The work on a tile of a linear layer's logits that is not a matrix product: scores, the shares that soft targets have
// in them, and the gradients that replace them.
#pragma once

#include "../math/tanh.hpp"
#include "../row_sum.hpp"
#include "../rows/passes.hpp"
#include "../tile_types.hpp"

namespace boltzmax::kernels {
namespace {

template <class T>
BOLTZMAX_KERNEL inline void Score(const ScoreRow<T>& row) {
  using V = Vec<T>;
  const V factor = Set<V>(row.factor), inverse_cap = Set<V>(row.inverse_cap);
  const auto biased = [&](size_t i, auto lanes) {
    const auto x = LoadLanes<V>(row.x + i, lanes, T(0));
    return row.bias == nullptr ? x : x + LoadLanes<V>(row.bias + i, lanes, T(0));
  };
  if (row.inverse_cap == T(0)) {
    return ForEachBlock<V, 4>(row.n,
                              [&](size_t i, auto lanes) { StoreLanes(row.x + i, biased(i, lanes) * factor, lanes); });
  }
  ForEachBlock<V, 2>(row.n, [&](size_t i, auto lanes) {
    StoreLanes(row.x + i, Tanh(biased(i, lanes) * inverse_cap) * factor, lanes);
  });
}

// a_c, for a block of classes.
template <class V, class Lanes>
inline Block<V, Lanes::kVectors> LoadShares(const Shares<typename V::Scalar>& shares, size_t i, Lanes lanes) {
  using T = typename V::Scalar;
  using B = Block<V, Lanes::kVectors>;
  B a = Set<V>(shares.even);
  if (shares.q != nullptr) a = MulAdd(LoadLanes<V>(shares.q + i, lanes, T(0)), B(Set<V>(shares.sharp)), a);
  return shares.w == nullptr ? a : a * LoadLanes<V>(shares.w + i, lanes, T(0));
}

template <class T>
BOLTZMAX_KERNEL inline ShareSums SumShares(const T* s, size_t n, const Shares<T>& shares, T from) {
  using V = Vec<T>;
  WideSum<V> mass;
  const Sum distance = SumOver<V>(n, [&](size_t i, auto lanes) {
    using B = Block<V, decltype(lanes)::kVectors>;
    const B zero = Set<V>(0), a = LoadShares<V>(shares, i, lanes);
    AddTrees(&mass, ZeroBeyond(a, lanes));
    const B away = B(Set<V>(from)) - LoadLanes<V>(s + i, lanes, from);
    return IfThenElse(Eq(a, zero), zero, a * away);
  });
  const Sum total = mass.Total();
  return {IsFinite(distance.hi) ? distance.hi + distance.lo : distance.hi, total.hi + total.lo};
}

template <class T>
BOLTZMAX_KERNEL inline void Slope(const SlopeRow<T>& row) {
  using V = Vec<T>;
  const ExpShift<V, false> shift(row.unit, MakeTemperature<V>(1));
  const V unscale = Set<V>(static_cast<T>(ExpConstants<T>::kUnscale)), gain = Set<V>(row.gain);
  const V cap_ratio = Set<V>(row.cap_ratio), one = Set<V>(1);
  ForEachBlock<V, 4>(row.n, [&](size_t i, auto lanes) {
    using B = Block<V, decltype(lanes)::kVectors>;
    const B s = LoadLanes<V>(row.s + i, lanes, T(0));
    const B p = ScaledExp(s, shift) * unscale;
    B g = MulAdd(p, B(gain), B(Set<V>(0)) - LoadShares<V>(row.shares, i, lanes));
    if (row.cap_ratio != T(0)) {
      const B ratio = s * cap_ratio;
      g = g * NegMulAdd(ratio, ratio, B(one));
    }
    StoreLanes(row.s + i, g, lanes);
  });
}

// The number of lanes of one vector, as lanes of its two promoted halves.
template <class V>
inline Whole<V::kLanes / F64::kLanes> AsDoubles(Whole<1>) {
  return {};
}
template <class V>
inline Partial<V::kLanes / F64::kLanes> AsDoubles(Partial<1> lanes) {
  return {lanes.n};
}

template <class T>
BOLTZMAX_KERNEL inline void SumColumns(const T* rows, size_t stride, size_t count, size_t n, double* sums) {
  using V = Vec<T>;
  ForEachBlock<V, 1>(n, [&](size_t i, auto lanes) {
    const auto wide = AsDoubles<V>(lanes);
    Wide<V> total = LoadLanes<F64>(sums + i, wide, 0.0);
    for (size_t r = 0; r < count; ++r) {
      total = total + Wide<V>(Promote(LoadLanes<V>(rows + r * stride + i, lanes, T(0)).part[0]));
    }
    StoreLanes(sums + i, total, wide);
  });
}

}  // namespace
}  // namespace boltzmax::kernels

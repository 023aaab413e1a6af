// Sums in twice the precision of their terms: floats into doubles, doubles into compensated pairs. Rounding happens in
// the trees of four that come in, not in the running total, so a row of 10^7 terms loses no more than one of ten.
//
// The lanes are folded in a fixed order, halves onto halves; a kernel that walks columns keeps one WideSum for each
// row-lane and folds them in the same order, which gives a column the bits of the same numbers in a row.
#pragma once

#include "block.hpp"
#include "row_sum.hpp"

namespace boltzmax::kernels {
namespace {

template <class V>
struct Pair {
  V hi, lo;
};

template <class V>
inline Pair<V> Merge(Pair<V> a, Pair<V> b) {
  V error;
  const V hi = TwoSum(a.hi, b.hi, &error);
  return {hi, (a.lo + b.lo) + error};
}

inline Sum Normalize(Pair<double> sum) {
  double error;
  const double hi = TwoSum(sum.hi, sum.lo, &error);
  return {hi, error};
}

// The sum of each four vectors of a block, paired so that equal terms add without rounding.
template <class V>
inline V Tree(V a, V b, V c, V d) {
  return (a + b) + (c + d);
}

template <class V>
struct WideSum;

template <class V, size_t U>
inline void AddTrees(WideSum<V>* sum, const Block<V, U>& b) {
  static_assert(U == 1 || U % 4 == 0);
  if constexpr (U == 1) {
    sum->Add(b.part[0]);
  } else {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; u += 4) sum->Add(Tree(b.part[u], b.part[u + 1], b.part[u + 2], b.part[u + 3]));
  }
}

template <>
struct WideSum<Vec<float>> {
  using F32 = Vec<float>;
  using F64 = Vec<double>;
  F64 lower = Set<F64>(0.0), upper = Set<F64>(0.0);

  void Add(F32 v) {
    lower = lower + PromoteLower(v);
    upper = upper + PromoteUpper(v);
  }
  void Fold(const WideSum& other) {
    lower = lower + other.lower;
    upper = upper + other.upper;
  }
  Sum Total() const {
    double lanes[F64::kLanes];
    Store(lanes, lower + upper);
    for (size_t half = F64::kLanes / 2; half > 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return {lanes[0], 0.0};
  }
  // The sum in each lane, for columns.
  void Lanes(Sum* out) const {
    double lanes[F32::kLanes];
    Store(lanes, lower);
    Store(lanes + F64::kLanes, upper);
    for (size_t i = 0; i < F32::kLanes; ++i) out[i] = {lanes[i], 0.0};
  }
};

template <>
struct WideSum<Vec<double>> {
  using F64 = Vec<double>;
  Pair<F64> sum = {Set<F64>(0.0), Set<F64>(0.0)};

  void Add(F64 v) {
    F64 error;
    sum.hi = TwoSum(sum.hi, v, &error);
    sum.lo = sum.lo + error;
  }
  void Fold(const WideSum& other) { sum = Merge(sum, other.sum); }
  Sum Total() const {
    Pair<double> lanes[F64::kLanes];
    Unpack(lanes);
    for (size_t half = F64::kLanes / 2; half > 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) lanes[i] = Merge(lanes[i], lanes[i + half]);
    }
    return Normalize(lanes[0]);
  }
  void Lanes(Sum* out) const {
    Pair<double> lanes[F64::kLanes];
    Unpack(lanes);
    for (size_t i = 0; i < F64::kLanes; ++i) out[i] = Normalize(lanes[i]);
  }

 private:
  void Unpack(Pair<double>* lanes) const {
    double hi[F64::kLanes], lo[F64::kLanes];
    Store(hi, sum.hi);
    Store(lo, sum.lo);
    for (size_t i = 0; i < F64::kLanes; ++i) lanes[i] = {hi[i], lo[i]};
  }
};

}  // namespace
}  // namespace boltzmax::kernels

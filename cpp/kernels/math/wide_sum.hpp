// Sums in twice the precision of their terms: floats into doubles, doubles into compensated pairs. Only the trees of
// four that are added are rounded, not the running total; so a row of 10^7 terms loses no more digits than one of ten.
//
// The lanes are folded in a fixed order, halves onto halves. A kernel that walks down columns keeps one WideSum per
// row-lane and folds them in the same order, which gives a column the bits of the same numbers in a row.
#pragma once

#include "log_sum.hpp"

namespace boltzmax::kernels {
namespace {

template <class V>
inline Pair<V> Merge(Pair<V> a, Pair<V> b) {
  V error;
  const V hi = TwoSum(a.hi, b.hi, &error);
  return {hi, (a.lo + b.lo) + error};
}

template <class D>
inline Pair<D> Normalize(const Pair<D>& sum) {
  D error;
  const D hi = TwoSum(sum.hi, sum.lo, &error);
  return {hi, error};
}

// Removes the low part of a sum that overflowed or is infinite, where it would be NaN.
template <class D>
inline Pair<D> Settle(const Pair<D>& sum) {
  return Normalize(Pair<D>{sum.hi, IfThenElse(Eq(sum.lo, sum.lo), sum.lo, Const(0))});
}
inline Pair<double> Settle(const Pair<double>& sum) {
  return Normalize(Pair<double>{sum.hi, __builtin_isnan(sum.lo) ? 0.0 : sum.lo});
}

// Folds halves onto halves; the result is in lanes[0].
template <size_t kHalf, class Lane, class Add>
inline void FoldLanes(Lane* lanes, Add add) {
  if constexpr (kHalf > 0) {
    BOLTZMAX_UNROLL
    for (size_t i = 0; i < kHalf; ++i) lanes[i] = add(lanes[i], lanes[i + kHalf]);
    FoldLanes<kHalf / 2>(lanes, add);
  }
}

// A vector's lanes as doubles.
template <class V>
using Wide = Block<F64, V::kLanes / F64::kLanes>;

inline Wide<F32> Promote(F32 v) {
  Wide<F32> wide;
  wide.part[0] = PromoteLower(v);
  wide.part[1] = PromoteUpper(v);
  return wide;
}
inline Wide<F64> Promote(F64 v) { return v; }

inline F32 Demote(const Wide<F32>& wide) { return Demote(wide.part[0], wide.part[1]); }
inline F64 Demote(const Wide<F64>& wide) { return wide.part[0]; }

// The sum of four vectors, paired so that equal terms add without rounding.
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

// The same for up to four vectors.
template <class V, size_t U>
inline V Tree(const Block<V, U>& b) {
  static_assert(U <= 4);
  if constexpr (U == 1) return b.part[0];
  if constexpr (U == 2) return b.part[0] + b.part[1];
  if constexpr (U == 3) return (b.part[0] + b.part[1]) + b.part[2];
  if constexpr (U == 4) return Tree(b.part[0], b.part[1], b.part[2], b.part[3]);
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
  void AddStored(const float* p) {
    lower = lower + LoadPromoted(p);
    upper = upper + LoadPromoted(p + F64::kLanes);
  }
  void Fold(const WideSum& other) {
    lower = lower + other.lower;
    upper = upper + other.upper;
  }
  Sum Total() const {
    double lanes[F64::kLanes];
    Store(lanes, lower + upper);
    FoldLanes<F64::kLanes / 2>(lanes, [](double a, double b) { return a + b; });
    return {lanes[0], 0.0};
  }
  // The sum in each lane, for columns.
  Pair<Wide<F32>> Lanes() const {
    Wide<F32> sum;
    sum.part[0] = lower;
    sum.part[1] = upper;
    return {sum, Set<F64>(0.0)};
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
  void AddStored(const double* p) { Add(Load(p)); }
  void Fold(const WideSum& other) { sum = Merge(sum, other.sum); }
  Sum Total() const {
    double hi[F64::kLanes], lo[F64::kLanes];
    Store(hi, sum.hi);
    Store(lo, sum.lo);
    Pair<double> lanes[F64::kLanes];
    for (size_t i = 0; i < F64::kLanes; ++i) lanes[i] = {hi[i], lo[i]};
    FoldLanes<F64::kLanes / 2>(lanes, Merge<double>);
    const auto total = Settle(lanes[0]);
    return {total.hi, total.lo};
  }
  Pair<Wide<F64>> Lanes() const { return Settle(Pair<Wide<F64>>{sum.hi, sum.lo}); }
};

// Adds every vector singly, without trees.
template <class V, size_t U>
inline void AddEach(WideSum<V>* sum, const Block<V, U>& b) {
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) sum->Add(b.part[u]);
}

}  // namespace
}  // namespace boltzmax::kernels

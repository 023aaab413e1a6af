// What the kernels and core/ both know of a row's sum.
#pragma once

#include "exp_constants.hpp"
#include "types.hpp"

namespace boltzmax {
namespace {

inline bool IsFinite(double x) { return x - x == 0.0; }

// a + b and what its rounding lost (Knuth).
template <class V>
inline V TwoSum(V a, V b, V* error) {
  const V sum = a + b;
  const V rest = sum - a;
  *error = (a - (sum - rest)) + (b - rest);
  return sum;
}

// A row without a finite maximum, or with NaN in it.
inline bool IsDegenerate(const RowSum& sum) { return !IsFinite(sum.max) || sum.hi != sum.hi; }

// Where the largest term is a large share of the sum, the digits of the others have drowned in it: the sum without it is
// taken instead. A sum of more than e times its largest term has a logarithm of more than 1, whose ulp is twice as large
// as those below: there the rounding of the terms and of their trees stays within the bound by itself. Terms computed
// without FMA are rounded more often.
inline constexpr double kPeaked = 2.75, kPeakedWithoutFma = 4.0;
inline bool IsPeaked(const RowSum& sum, double limit) { return sum.hi < limit * sum.top; }

// logsumexp, given log(sum).
inline double LogSumExpOf(const RowSum& sum, const Sum& log_sum, double temperature) {
  if (IsDegenerate(sum)) return sum.hi != sum.hi ? sum.hi : sum.max;
  return (sum.offset / temperature + log_sum.hi) + log_sum.lo;
}

}  // namespace
}  // namespace boltzmax

// Properties of a row's sum that kernels and core/ share.
#pragma once

#include "exp_constants.hpp"
#include "types.hpp"

namespace boltzmax {
namespace {

inline bool IsFinite(double x) { return x - x == 0.0; }

// a + b and its rounding error (Knuth).
template <class V>
inline V TwoSum(V a, V b, V* error) {
  const V sum = a + b;
  const V rest = sum - a;
  *error = (a - (sum - rest)) + (b - rest);
  return sum;
}

// Whether a row has NaN or no finite maximum.
inline bool IsDegenerate(const RowSum& sum) { return !IsFinite(sum.max) || sum.hi != sum.hi; }

// Where the largest term makes up much of the sum, the digits of the others are lost in it, and the sum of the others
// is used instead. A sum of more than e times its largest term has a logarithm above 1, whose ulp is twice as large as
// below 1: there the rounding of the terms and of their trees stays within the bound anyway. Terms computed without FMA
// are rounded more often.
inline constexpr double kPeaked = 2.75, kPeakedWithoutFma = 4.0;
inline bool IsPeaked(const RowSum& sum, double limit) { return sum.hi < limit * sum.top; }

// logsumexp, given log(sum).
inline double LogSumExpOf(const RowSum& sum, const Sum& log_sum, double temperature) {
  if (IsDegenerate(sum)) return sum.hi != sum.hi ? sum.hi : sum.max;
  return (sum.offset / temperature + log_sum.hi) + log_sum.lo;
}

}  // namespace
}  // namespace boltzmax

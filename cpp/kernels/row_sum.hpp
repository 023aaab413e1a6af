// From the sum of a row to its logarithm. Scalar double arithmetic, shared by the kernels (rows that fit one chunk) and
// by core/ (rows that do not).
#pragma once

#include <math.h>

#include "exp_constants.hpp"
#include "types.hpp"

namespace boltzmax {
namespace {

inline bool IsFinite(double x) { return x - x == 0.0; }

// exp(a - k ln 2) for a - k ln 2 in [-ln(2)/2, ln(2)/2], to about 2^-58.
inline Sum ExpReduced(double a, double k) {
  using C = ExpConstants<double>;
  const double high = a - k * C::kLn2Hi;  // exact
  const double low = k * C::kLn2Lo;
  const double r = high - low;
  const double r_error = (high - r) - low;
  double q = C::kPoly[0];
  for (size_t i = 1; i < sizeof(C::kPoly) / sizeof(C::kPoly[0]); ++i) q = q * r + C::kPoly[i];
  const double head = 1.0 + r;
  const double tail = (r - (head - 1.0)) + (q * r * r + r_error * head);
  const double hi = head + tail;
  return {hi, tail - (hi - head)};
}

inline double RoundToInteger(double x) {
  constexpr double kMagic = ExpConstants<double>::kRoundingMagic;
  return (x + kMagic) - kMagic;
}

// 2^k for an integer -1022 <= k <= 1023.
inline double PowerOfTwo(double k) {
  return __builtin_bit_cast(double, static_cast<uint64_t>(static_cast<int64_t>(k) + 1023) << 52);
}

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

// Where the largest term is a large share of the sum, the digits of the others have drowned in it: then they are summed
// again without it (reduce_rest). Floats, summed in double, can bear a half; doubles a third.
inline constexpr double kPeakedFloat = 2.0, kPeakedDouble = 3.0;
inline bool IsPeaked(const RowSum& sum, double limit) { return sum.hi < limit * sum.top; }
template <class T>
inline bool IsPeakedFor(const RowSum& sum) {
  return IsPeaked(sum, sizeof(T) == sizeof(float) ? kPeakedFloat : kPeakedDouble);
}

// log((hi + lo) * 2^k) as a sum of two numbers. The power of two is taken out of the number first, so that what libm
// rounds is at most ln(2)/2.
inline Sum LogOf(double hi, double lo, double k) {
  using C = ExpConstants<double>;
  const uint64_t bits = __builtin_bit_cast(uint64_t, hi);
  const auto exponent = static_cast<double>(static_cast<int64_t>(bits >> 52) - 1023);
  const double mantissa = __builtin_bit_cast(double, (bits & 0xfffffffffffffu) | 0x3ff0000000000000u);  // [1, 2)
  const double carry = mantissa > 0x1.6a09e667f3bcdp0 ? 1.0 : 0.0;
  const double j = k + exponent + carry;
  double error;
  const double sum = TwoSum(j * C::kLn2Hi, log(carry != 0.0 ? 0.5 * mantissa : mantissa), &error);
  return {sum, error + (j * C::kLn2Lo + lo / hi)};
}

// log(sum of exp(x/T)) - offset/T, as a sum of two numbers.
inline Sum LogOfSum(const RowSum& sum) { return LogOf(sum.hi, sum.lo, sum.exponent); }

// The same for a peaked row: max + log1p(rest / largest) keeps it all when the rest is tiny. logsumexp([0, -40]) is
// log1p(exp(-40)), not 0. A rest that is not small is better added to the largest term, itself taken to twice the
// precision here.
inline Sum LogOfPeakedSum(const RowSum& sum, const RestSum& rest) {
  const double a = sum.max - sum.offset;
  const double k = RoundToInteger(a * ExpConstants<double>::kLog2e);
  const double unit = PowerOfTwo(sum.exponent - k);
  const Sum largest = ExpReduced(a, k);
  const double others = rest.hi * unit + (rest.count - 1.0) * largest.hi;
  double error;
  if (others > 0.25 * largest.hi) {
    const double hi = TwoSum(largest.hi, others, &error);
    return LogOf(hi, error + largest.lo + rest.lo * unit, k);
  }
  const double ratio = others / largest.hi;
  const double correction = (rest.lo * unit - ratio * largest.lo) / largest.hi;
  const double hi = TwoSum(a, log1p(ratio), &error);
  return {hi, error + correction / (1.0 + ratio)};
}

// logsumexp, given LogOfSum.
inline double LogSumExpOf(const RowSum& sum, const Sum& log_sum, double temperature) {
  if (IsDegenerate(sum)) return sum.hi != sum.hi ? sum.hi : sum.max;
  return (sum.offset / temperature + log_sum.hi) + log_sum.lo;
}

}  // namespace
}  // namespace boltzmax

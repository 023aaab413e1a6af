// Totals of rows that come in parts: whatever the parts and their order, the total has the same bits.
#pragma once

#include "types.hpp"

namespace boltzmax {

// A sum as whole numbers: sum_j digit[j] 2^(32 (unit - j)). Each addend is divided into multiples of 2^(32 i), by
// rounding from the top down, and what is below the last digit is dropped. Digits of different weight are never carried
// into each other, so that addition is exact and can be done in any order, for up to 2^31 addends (an indexed sum:
// Demmel & Nguyen, IEEE Transactions on Computers 64(7), 2015). The unit is the one of the largest addend.
inline constexpr size_t kExactDigits = 4;
inline constexpr int64_t kDigitBits = 32;
inline constexpr int64_t kNoUnit = -(int64_t{1} << 62);  // of an empty sum: below every other

struct ExactSum {
  int64_t unit;
  int64_t digit[kExactDigits];
};

// sum_i exp(x_i / T): the largest x, its first index, how often it occurs, and the sum of all other terms. So no rest is
// lost, however small. Of a row with NaN, max is NaN and nothing else is kept.
struct RowTotal {
  double max;
  int64_t argmax, count;
  ExactSum rest;
};
constexpr RowTotal kNoTotal = {-__builtin_inf(), 0, 0, {kNoUnit, {}}};

// One exponential.
struct ExactTerm {
  double mantissa;  // from 0.7 to 1.42; 0 for a term that is left out
  int64_t exponent;
};

// Terms of which |x / T| is larger are counted if they are the maximum, and left out otherwise: then neighbouring doubles
// are at least 64 apart.
inline constexpr double kMostExact = 0x1p59;

// What maps a row: with d = (x - max) / T, exp(d) / sum, or d - log_sum.
struct TotalMap {
  double max, temperature, sum, log_sum;
};

template <class T>
struct ExactTotalKernels {
  // Of a part of a row, up to a segment; 2^16 elements.
  void (*total)(const T* x, size_t n, double temperature, RowTotal* total);
  void (*softmax)(const T* x, size_t n, const TotalMap&, T* y);
  void (*log_softmax)(const T* x, size_t n, const TotalMap&, T* y);
};

struct ExactTotalTable {
  ExactTotalKernels<float> f32;
  ExactTotalKernels<double> f64;
  ExactTerm (*term)(double x, double temperature);
};

namespace scalar {
extern const ExactTotalTable kExactTotals;
}
namespace avx2 {
extern const ExactTotalTable kExactTotals;
}
namespace avx512 {
extern const ExactTotalTable kExactTotals;
}
namespace neon {
extern const ExactTotalTable kExactTotals;
}

// ---- arithmetic of sums, for kernels and their callers ----

// Splits number * 2^exponent, where 0.5 <= |number| < 2, into digits.
static inline ExactSum ExactSumOf(double number, int64_t exponent) {
  const int64_t unit = exponent >> 5;
  ExactSum sum = {unit, {}};
  double rest = number * static_cast<double>(int64_t{1} << (exponent - unit * kDigitBits));
  double weight = 1.0;
  for (int64_t& digit : sum.digit) {
    const double magic = 0x1.8p52 * weight, part = (rest + magic) - magic;
    digit = static_cast<int64_t>(part / weight);
    rest -= part;
    weight *= 0x1p-32;
  }
  return sum;
}

static inline void AddTo(ExactSum* sum, const ExactSum& other, int64_t times = 1) {
  if (other.unit == kNoUnit) return;
  if (sum->unit == kNoUnit) *sum = {other.unit, {}};
  constexpr auto kMost = static_cast<int64_t>(kExactDigits);
  if (other.unit > sum->unit) {
    const int64_t shift = other.unit - sum->unit;
    for (int64_t j = kMost; j-- > 0;) sum->digit[j] = j >= shift ? sum->digit[j - shift] : 0;
    sum->unit = other.unit;
  }
  const int64_t shift = sum->unit - other.unit;
  for (int64_t j = shift; j < kMost; ++j) sum->digit[j] += other.digit[j - shift] * times;
}

}  // namespace boltzmax

// exp, and a row's maximum and sum of exponentials, from the pieces that threads hold.
//
// A row's sum is kept as `count` terms equal to the largest, each exactly 1, and the `rest` of them: its logarithm is
// log1p(count - 1 + rest), in which no term is too small to be seen beside the largest. The rest has twice the precision
// of what is added to it: trees of what a thread loads at once.
#pragma once

#include "../kernels/exp_constants.hpp"
#include "task.hpp"
#include "threads.cuh"

namespace boltzmax::cuda {

template <class T>
BOLTZMAX_DEVICE T Infinity() {
  return static_cast<T>(__builtin_huge_val());
}
template <class T>
BOLTZMAX_DEVICE T NotANumber() {
  return BitCast<T>(sizeof(T) == 4 ? 0x7fc00000u : 0);
}
template <>
BOLTZMAX_DEVICE double NotANumber<double>() {
  return BitCast<double>(uint64_t{0x7ff8000000000000});
}

BOLTZMAX_DEVICE float MulAdd(float a, float b, float c) { return fmaf(a, b, c); }
BOLTZMAX_DEVICE double MulAdd(double a, double b, double c) { return fma(a, b, c); }
// NaN is passed over.
BOLTZMAX_DEVICE float Max(float a, float b) { return fmaxf(a, b); }
BOLTZMAX_DEVICE double Max(double a, double b) { return fmax(a, b); }

BOLTZMAX_DEVICE float TimesPow2(float x, int k) { return x * BitCast<float>(static_cast<uint32_t>(k + 127) << 23); }
BOLTZMAX_DEVICE double TimesPow2(double x, int k) { return x * BitCast<double>(static_cast<uint64_t>(k + 1023) << 52); }

// A coefficient as a constant of its own: device code cannot see a host's array.
template <class T, int i>
constexpr T kExpPoly = ExpReduction<T, 1>::kPoly[i];

template <class T, int i = 0>
BOLTZMAX_DEVICE T ExpPolynomial(T r, T q) {
  constexpr int kTerms = sizeof(ExpReduction<T, 1>::kPoly) / sizeof(T);
  if constexpr (i == kTerms) {
    return MulAdd(q, r, T(1));
  } else {
    return ExpPolynomial<T, i + 1>(r, MulAdd(q, r, kExpPoly<T, i>));
  }
}

// T and 1/T, the inverse as an unevaluated sum: what is divided is rounded once.
template <class T>
struct Temperature {
  T value, inverse_hi, inverse_lo;

  explicit BOLTZMAX_DEVICE Temperature(const Divisor& temperature)
      : value(static_cast<T>(temperature.value)), inverse_hi(static_cast<T>(temperature.inverse)) {
    inverse_lo = sizeof(T) == 4 ? static_cast<T>(temperature.inverse - static_cast<double>(inverse_hi))
                                : static_cast<T>(temperature.error);
  }
  // d / T. Where that is infinite, the small half of 1 / T has nothing to add; it might make it NaN.
  BOLTZMAX_DEVICE T Divide(T d) const {
    const T quotient = d * inverse_hi;
    return quotient - quotient == T(0) ? MulAdd(d, inverse_hi, d * inverse_lo) : quotient;
  }
};

// exp(d / T) for d <= 0: within 1 ULP at T = 1, or half the smallest number more where the result is subnormal; another T
// rounds d / T. The reduction and the polynomial are those of kernels/exp.hpp.
template <class T>
BOLTZMAX_DEVICE T Exp(T d, const Temperature<T>& temperature) {
  using C = ExpConstants<T>;
  const T lowest = (sizeof(T) == 4 ? T(-105) : T(-746)) * temperature.value;  // where the exponential is 0
  const T finite = d < lowest ? lowest : d;                                   // NaN stays
  const T a = MulAdd(finite, temperature.inverse_hi, finite * temperature.inverse_lo);
  const T k = MulAdd(a, C::kLog2e, C::kRoundingMagic) - C::kRoundingMagic;
  const T r = MulAdd(-k, C::kLn2Lo, MulAdd(-k, C::kLn2Hi, a));
  const T v = MulAdd(ExpPolynomial<T>(r, T(0)), r, T(1));
  // NaN has no integer.
  const int j = k == k ? static_cast<int>(k) : 0, half = j / 2;
  return TimesPow2(TimesPow2(v, half), j - half);
}

// The same for rows of S. For those of sixteen bits the processor's own power of two is good enough, within 2^-21, as long
// as its argument d log2(e) / T is exact: what the rounding of that lost is a factor near 1.
template <class S>
struct ExpOf {
  using T = Compute<S>;
  const Temperature<T>& temperature;

  explicit BOLTZMAX_DEVICE ExpOf(const Temperature<T>& t) : temperature(t) {}
  BOLTZMAX_DEVICE T operator()(T d) const { return Exp(d, temperature); }
};
struct ExpOfHalves {
  float lowest, factor, rest;

  explicit BOLTZMAX_DEVICE ExpOfHalves(const Temperature<float>& t) {
    constexpr float kLog2e = ExpConstants<float>::kLog2e, kLog2eLo = 0x1.4ae0cp-26f;
    lowest = -160.0f * t.value;  // where the exponential is 0
    factor = t.inverse_hi * kLog2e;
    rest = MulAdd(t.inverse_hi, kLog2e, -factor) + MulAdd(t.inverse_hi, kLog2eLo, t.inverse_lo * kLog2e);
  }
  BOLTZMAX_DEVICE float operator()(float d) const {
    const float finite = d < lowest ? lowest : d;  // NaN stays
    const float power = finite * factor;
    const float lost = MulAdd(finite, rest, MulAdd(finite, factor, -power));
    const float e = exp2f(power);
    return MulAdd(e, lost * 0x1.62e43p-1f, e);
  }
};
template <>
struct ExpOf<Half> : ExpOfHalves {
  using ExpOfHalves::ExpOfHalves;
};
template <>
struct ExpOf<BFloat16> : ExpOfHalves {
  using ExpOfHalves::ExpOfHalves;
};

// a + b, and in `error` what its rounding lost (Knuth).
template <class T>
BOLTZMAX_DEVICE T TwoSum(T a, T b, T* error) {
  const T sum = a + b;
  const T rest = sum - a;
  *error = (a - (sum - rest)) + (b - rest);
  return sum;
}

template <class T>
struct RowSum {
  T max, rest, low;  // the sum of the terms below the largest is rest + low
  int64_t count;

  static BOLTZMAX_DEVICE RowSum Empty() { return {-Infinity<T>(), T(0), T(0), 0}; }

  BOLTZMAX_DEVICE void Add(T term) {
    T error;
    rest = TwoSum(rest, term, &error);
    low += error;
  }
  // Of two parts of a row. An infinite maximum scales finite terms by 0; NaN in a rest stays NaN.
  BOLTZMAX_DEVICE void Merge(RowSum other, const Temperature<T>& temperature) {
    if (other.max > max) {
      const RowSum mine = *this;
      *this = other;
      other = mine;
    }
    if (other.max == max) {  // the same whichever is the other
      T error;
      count += other.count;
      rest = TwoSum(rest, other.rest, &error);
      low = (low + other.low) + error;
    } else if (other.count > 0 || other.rest != other.rest) {
      Add((static_cast<T>(other.count) + (other.rest + other.low)) * Exp(other.max - max, temperature));
    }
  }
};

// What the maps need of a whole row.
template <class T>
struct RowTotals {
  T max;
  T inverse_hi, inverse_lo;  // 1 / sum exp(x - max)
  T log_hi, log_lo;          // its logarithm
  bool is_empty;             // no element counts

  explicit BOLTZMAX_DEVICE RowTotals(const RowSum<T>& row)
      : max(row.max), log_hi(0), log_lo(0), is_empty(row.count == 0 && row.rest == T(0)) {
    T error;
    const T sum = TwoSum(static_cast<T>(row.count), row.rest, &error);
    inverse_hi = T(1) / sum;
    inverse_lo = (MulAdd(-inverse_hi, sum, T(1)) - inverse_hi * (error + row.low)) * inverse_hi;
  }
  // The logarithm is in double precision, which many devices are slow at: only where it is wanted.
  BOLTZMAX_DEVICE void FindLog(const RowSum<T>& row) {
    const double others =
        static_cast<double>(row.count - 1) + static_cast<double>(row.rest) + static_cast<double>(row.low);
    const double log = log1p(others);
    log_hi = static_cast<T>(log);
    log_lo = static_cast<T>(log - static_cast<double>(log_hi));
  }
};

template <class T>
BOLTZMAX_DEVICE RowSum<T> FromLane(const RowSum<T>& sum, int distance) {
  return {FromLane(sum.max, distance), FromLane(sum.rest, distance), FromLane(sum.low, distance),
          FromLane(sum.count, distance)};
}

}  // namespace boltzmax::cuda

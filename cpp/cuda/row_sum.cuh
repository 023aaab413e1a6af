// A row's maximum and sum of exponentials, from the pieces that threads hold.
//
// A row's sum is kept as `count`, the number of terms equal to the largest, each exactly 1, and `rest`, the sum of the
// others: its logarithm is log1p(count - 1 + rest), in which no term is too small to count next to the largest. The
// rest has twice the precision of the terms that are added to it: trees of what a thread loads at once.
#pragma once

#include "exp.cuh"
#include "wide_sum.cuh"

namespace boltzmax::cuda {

// The terms relative to one maximum.
template <class T>
struct Terms {
  WideSum<T> rest;
  int64_t count;

  static BOLTZMAX_DEVICE Terms Zero() { return {WideSum<T>::Zero(), 0}; }
  BOLTZMAX_DEVICE void Join(const Terms& other) {
    rest.Join(other.rest);
    count += other.count;
  }
};
template <class T>
BOLTZMAX_DEVICE Terms<T> FromLane(const Terms<T>& terms, int distance) {
  return {FromLane(terms.rest, distance), FromLane(terms.count, distance)};
}

template <class T>
struct RowSum {
  T max;
  Terms<T> terms;

  static BOLTZMAX_DEVICE RowSum Empty() { return {-Infinity<T>(), Terms<T>::Zero()}; }

  BOLTZMAX_DEVICE void Add(T term) { terms.rest.Add(term); }
  // Adds an element of a row whose largest is known.
  template <class Exponential>
  BOLTZMAX_DEVICE void AddElement(T x, const Exponential& exp) {
    if (x == max) {
      ++terms.count;
    } else {
      Add(exp(x - max));
    }
  }
  // Merges two parts of a row. An infinite maximum scales finite terms by 0; NaN in a rest stays NaN.
  BOLTZMAX_DEVICE void Merge(RowSum other, const Temperature<T>& temperature) {
    if (other.max > max) {
      const RowSum mine = *this;
      *this = other;
      other = mine;
    }
    if (other.max == max) {  // the same for either order
      terms.Join(other.terms);
    } else if (other.terms.count > 0 || other.terms.rest.hi != other.terms.rest.hi) {
      const T sum = static_cast<T>(other.terms.count) + (other.terms.rest.hi + other.terms.rest.lo);
      Add(sum * Exp(other.max - max, temperature));
    }
  }
};

// What the maps use of a whole row.
template <class T>
struct RowTotals {
  T max;
  T inverse_hi, inverse_lo;  // 1 / sum exp(x - max); NaN where the largest is infinite
  T log_hi, log_lo;          // its logarithm
  bool is_empty;             // no element counts

  explicit BOLTZMAX_DEVICE RowTotals(const RowSum<T>& row)
      : max(row.max), log_hi(0), log_lo(0), is_empty(row.terms.count == 0 && row.terms.rest.hi == T(0)) {
    T error;
    const T sum = TwoSum(static_cast<T>(row.terms.count), row.terms.rest.hi, &error);
    inverse_hi = max - max == T(0) ? T(1) / sum : NotANumber<T>();
    inverse_lo = (MulAdd(-inverse_hi, sum, T(1)) - inverse_hi * (error + row.terms.rest.lo)) * inverse_hi;
  }
  // Switches to exponentials that are scaled by ExpScale.
  BOLTZMAX_DEVICE void TakeScaled() {
    inverse_hi *= ExpScale<T>::kInverse;
    inverse_lo *= ExpScale<T>::kInverse;
  }
  // The logarithm is in double precision, which is slow on many devices: call it only if it is needed.
  BOLTZMAX_DEVICE void FindLog(const RowSum<T>& row) {
    const double others = static_cast<double>(row.terms.count - 1) + static_cast<double>(row.terms.rest.hi) +
                          static_cast<double>(row.terms.rest.lo);
    const double log = log1p(others);
    log_hi = static_cast<T>(log);
    log_lo = static_cast<T>(log - static_cast<double>(log_hi));
  }
};

template <class T>
BOLTZMAX_DEVICE RowSum<T> FromLane(const RowSum<T>& sum, int distance) {
  return {FromLane(sum.max, distance), FromLane(sum.terms, distance)};
}

}  // namespace boltzmax::cuda

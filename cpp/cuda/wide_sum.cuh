// Sums of many numbers.
#pragma once

#include "row_sum.cuh"

namespace boltzmax::cuda {

// Twice the precision of what is added.
template <class T>
struct WideSum {
  T hi, lo;

  static BOLTZMAX_DEVICE WideSum Zero() { return {T(0), T(0)}; }
  BOLTZMAX_DEVICE void Add(T x) {
    T error;
    hi = TwoSum(hi, x, &error);
    lo += error;
  }
  // What overflowed has no low part.
  BOLTZMAX_DEVICE T Total() const { return hi - hi == T(0) ? hi + lo : hi; }
  BOLTZMAX_DEVICE void Join(const WideSum& other) {
    T error;
    hi = TwoSum(hi, other.hi, &error);
    lo = (lo + other.lo) + error;
  }
};
template <class T>
BOLTZMAX_DEVICE WideSum<T> FromLane(const WideSum<T>& sum, int distance) {
  return {FromLane(sum.hi, distance), FromLane(sum.lo, distance)};
}

}  // namespace boltzmax::cuda

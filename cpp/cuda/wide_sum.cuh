// Sums of many numbers.
#pragma once

#include "threads.cuh"

namespace boltzmax::cuda {

// a + b, and its rounding error in `error` (Knuth).
template <class T>
BOLTZMAX_DEVICE T TwoSum(T a, T b, T* error) {
  const T sum = a + b;
  const T rest = sum - a;
  *error = (a - (sum - rest)) + (b - rest);
  return sum;
}

// The sum of a power of two of a thread's numbers, as a tree.
template <class T, int n>
BOLTZMAX_DEVICE T TreeSum(T (&x)[n]) {
  BOLTZMAX_UNROLL
  for (int step = n / 2; step > 0; step /= 2) {
    BOLTZMAX_UNROLL
    for (int i = 0; i < step; ++i) x[i] += x[i + step];
  }
  return x[0];
}

// A sum in twice the precision of its terms.
template <class T>
struct WideSum {
  T hi, lo;

  static BOLTZMAX_DEVICE WideSum Zero() { return {T(0), T(0)}; }
  BOLTZMAX_DEVICE void Add(T x) {
    T error;
    hi = TwoSum(hi, x, &error);
    lo += error;
  }
  // A sum that overflowed has no low part.
  BOLTZMAX_DEVICE T Total() const { return hi - hi == T(0) ? hi + lo : hi; }
  BOLTZMAX_DEVICE void Join(const WideSum& other) {
    T error;
    hi = TwoSum(hi, other.hi, &error);
    lo = (lo + other.lo) + error;
  }
  BOLTZMAX_DEVICE WideSum Times(T factor) const { return {hi * factor, lo * factor}; }
};
template <class T>
BOLTZMAX_DEVICE WideSum<T> FromLane(const WideSum<T>& sum, int distance) {
  return {FromLane(sum.hi, distance), FromLane(sum.lo, distance)};
}

}  // namespace boltzmax::cuda

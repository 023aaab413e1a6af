// Gradients through softmax and log_softmax, and what becomes of the losses of rows.
#pragma once

#include "rows.cuh"

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

//   softmax:      dx = y (dy - sum dy y)
//   log_softmax:  dx = dy - exp(y) sum dy,    y <= 0
template <class S, int kWarps, int kRowsOfBlock>
__global__ void __launch_bounds__(32 * kWarps * kRowsOfBlock) GradientsOfRows(const __grid_constant__ Task task) {
  using T = Compute<S>;
  __shared__ WideSum<T> shared[kWarps];
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kRowsOfBlock + static_cast<int64_t>(threadIdx.y);
  if (r >= task.rows) return;
  const RowOf<S> row(task, r);
  const bool of_softmax = task.operation == Operation::kSoftmaxBackward;
  const int64_t first = static_cast<int64_t>(threadIdx.x), step = 32 * kWarps;
  auto sum = WideSum<T>::Zero();
  for (int64_t i = first; i < task.n; i += step) sum.Add(of_softmax ? row.X(i) * row.Third(i) : row.X(i));
  sum = Fold<kWarps>(sum, shared, [](WideSum<T>& a, const WideSum<T>& b) { a.Join(b); });
  const T total = sum.Total();
  const Temperature<T> one(1.0);
  for (int64_t i = first; i < task.n; i += step) {
    const T dy = row.X(i), y = row.Third(i);
    row.SetY(i, of_softmax ? y * (dy - total) : MulAdd(-Exp(y > T(0) ? T(0) : y, one), total, dy));
  }
}

inline constexpr int kLossWarps = 8;

// scale[0] = 1 / the number of rows that count: what the gradient of a mean is scaled by. (0 / 0 is NaN, as a mean is.)
static __global__ void __launch_bounds__(32 * kLossWarps)
    ScaleOfMean(const int64_t* target, int64_t rows, double* scale) {
  __shared__ double shared[kLossWarps];
  double count = 0;
  for (int64_t r = static_cast<int64_t>(threadIdx.x); r < rows; r += 32 * kLossWarps) count += target[r] >= 0 ? 1 : 0;
  count = Fold<kLossWarps>(count, shared, [](double& a, double b) { a += b; });
  if (threadIdx.x == 0) *scale = 1.0 / count;
}

// result[0] = scale[0] * the sum of the losses.
template <class T>
__global__ void __launch_bounds__(32 * kLossWarps)
    SumOfLosses(const T* loss, int64_t rows, const double* scale, T* result) {
  __shared__ WideSum<double> shared[kLossWarps];
  auto sum = WideSum<double>::Zero();
  for (int64_t r = static_cast<int64_t>(threadIdx.x); r < rows; r += 32 * kLossWarps) sum.Add(loss[r]);
  sum = Fold<kLossWarps>(sum, shared, [](WideSum<double>& a, const WideSum<double>& b) { a.Join(b); });
  // 0 * inf, where no row counts.
  if (threadIdx.x == 0) *result = static_cast<T>(sum.Total() * (scale == nullptr ? 1.0 : *scale));
}

}  // namespace boltzmax::cuda

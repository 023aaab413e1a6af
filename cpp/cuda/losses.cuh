// What becomes of the losses of rows.
#pragma once

#include "wide_sum.cuh"

namespace boltzmax::cuda {

inline constexpr int kLossWarps = 32;

static __global__ void __launch_bounds__(32 * kLossWarps)
    WidenedTargets(const int32_t* from, int64_t* to, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * (32 * kLossWarps) + static_cast<int64_t>(threadIdx.x);
  if (i < count) to[i] = from[i];
}

// scale[0] = 1 / the number of rows that count: what the gradient of a mean is scaled by. (0 / 0 is NaN, as a mean is.)
static __global__ void __launch_bounds__(32 * kLossWarps)
    ScaleOfMean(const int64_t* target, int64_t rows, double* scale) {
  BOLTZMAX_SHARED(double, shared, kLossWarps);
  double count = 0;
  for (int64_t r = static_cast<int64_t>(threadIdx.x); r < rows; r += 32 * kLossWarps) count += target[r] >= 0 ? 1 : 0;
  count = Fold<kLossWarps>(count, shared, [](double& a, double b) { a += b; });
  if (threadIdx.x == 0) *scale = 1.0 / count;
}

// result[0] = scale[0] * the sum of the losses.
template <class T>
__global__ void __launch_bounds__(32 * kLossWarps)
    SumOfLosses(const T* loss, int64_t rows, const double* scale, T* result) {
  BOLTZMAX_SHARED(WideSum<double>, shared, kLossWarps);
  auto sum = WideSum<double>::Zero();
  for (int64_t r = static_cast<int64_t>(threadIdx.x); r < rows; r += 32 * kLossWarps) sum.Add(loss[r]);
  sum = Fold<kLossWarps>(sum, shared, Join());
  // 0 * inf, where no row counts.
  if (threadIdx.x == 0) *result = static_cast<T>(sum.Total() * (scale == nullptr ? 1.0 : *scale));
}

}  // namespace boltzmax::cuda

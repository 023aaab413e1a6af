// Reductions of the rows' losses.
#pragma once

#include "wide_sum.cuh"

namespace boltzmax::cuda {

inline constexpr int kLossThreads = 1024;

static __global__ void __launch_bounds__(kLossThreads) WidenedTargets(const int32_t* from, int64_t* to, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kLossThreads + static_cast<int64_t>(threadIdx.x);
  if (i < count) to[i] = from[i];
}

// ---- sums of terms over rows, by any number of blocks, each of which stores its own sum ----

struct RowCounts {
  const int64_t* target;
  BOLTZMAX_DEVICE double operator()(int64_t r) const { return target[r] >= 0 ? 1.0 : 0.0; }
};
template <class T>
struct LossOfRow {
  const T* loss;
  BOLTZMAX_DEVICE double operator()(int64_t r) const { return static_cast<double>(loss[r]); }
};
struct PartOfSum {
  const double* part;
  BOLTZMAX_DEVICE double operator()(int64_t i) const { return part[i]; }
};

struct ToPart {
  double* part;
  BOLTZMAX_DEVICE void operator()(double sum) const { part[blockIdx.x] = sum; }
};
// The factor of a mean's gradient. The sum over nothing is 0; an infinite factor makes a mean of NaN of it, a factor of
// 0 makes 0.
struct ToInverse {
  double* scale;
  bool zero_if_empty;
  BOLTZMAX_DEVICE void operator()(double sum) const { *scale = sum == 0.0 && zero_if_empty ? 0.0 : 1.0 / sum; }
};
template <class T>
struct ToLoss {
  const double* scale;  // or null, for 1
  T* result;
  BOLTZMAX_DEVICE void operator()(double sum) const {
    *result = static_cast<T>(sum * (scale == nullptr ? 1.0 : *scale));
  }
};

// `step` is the number of threads in all blocks.
template <class Term, class Store>
__global__ void __launch_bounds__(kLossThreads)
    SumOfTerms(const __grid_constant__ Term term, int64_t count, int64_t step, const __grid_constant__ Store store) {
  BOLTZMAX_SHARED(WideSum<double>, shared, kLossThreads / 32);
  auto sum = WideSum<double>::Zero();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kLossThreads + static_cast<int64_t>(threadIdx.x);
  for (int64_t i = first; i < count; i += step) sum.Add(term(i));
  sum = Fold<kLossThreads / 32>(sum, shared, Join());
  if (threadIdx.x == 0) store(sum.Total());
}

}  // namespace boltzmax::cuda

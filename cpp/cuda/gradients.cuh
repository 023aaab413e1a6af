// Gradients through softmax and log_softmax.
#pragma once

#include "rows.cuh"
#include "wide_sum.cuh"

namespace boltzmax::cuda {

//   softmax:      dx = y (dy - sum dy y)
//   log_softmax:  dx = dy - exp(y) sum dy,    y <= 0
template <class S, int kWarps, int kRowsOfBlock>
__global__ void __launch_bounds__(32 * kWarps * kRowsOfBlock) GradientsOfRows(const __grid_constant__ Task task) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<T>, shared, kWarps);
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

}  // namespace boltzmax::cuda

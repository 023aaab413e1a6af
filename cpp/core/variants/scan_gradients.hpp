// Gradients of running and of windowed sums of exponentials.
#pragma once

#include <cstddef>

namespace boltzmax {

enum class Scan { kRunningLogSumExp, kWindowedLogSumExp, kWindowedSoftmax };

// dx[r, j], the gradient by x[r, j], given dy[r, i] by the result of the scan, for C-contiguous arrays. `half` is the
// number of elements of a window on either side.
struct ScanGradientProblem {
  Scan scan;
  const double* dy;
  const double* x;
  double* dx;
  size_t rows, n, half;
};

void Run(const ScanGradientProblem& problem);

}  // namespace boltzmax

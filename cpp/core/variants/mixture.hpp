// Mixtures of softmaxes.
#pragma once

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// y[r, k] = log sum_m exp(log_weights[r, m] + log_softmax(x[r, m])[k]), for C-contiguous arrays of x's type.
struct MixtureProblem {
  DType storage;
  const char* x;
  const double* log_weights;
  char* y;
  size_t rows, components, n;
};

void Run(const MixtureProblem& problem);

}  // namespace boltzmax

// The derivatives by 1 / T that temperature scaling needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// Rows of n logits, float or double, contiguous; `stride` in bytes. Weights may be null, for ones.
struct TemperatureProblem {
  DType storage;
  const char* logits;
  ptrdiff_t stride;
  size_t rows, n;
  const int64_t* target;
  const double* weight;
  double temperature;
};

// Of sum_i w_i (lse(z_i / T) - z_i[y_i] / T): sum_i w_i (E[z_i] - z_i[y_i]) and sum_i w_i Var[z_i], under softmax(z_i / T).
struct TemperatureDerivatives {
  double first, second;
};

TemperatureDerivatives Run(const TemperatureProblem& problem);

}  // namespace boltzmax

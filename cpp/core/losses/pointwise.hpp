// Losses of single numbers, over arrays of any layout and type, and their gradients.
#pragma once

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

enum class PointLoss { kBinaryCrossEntropy, kDivergence, kDivergenceOfLogs };

// An operand, in C order. `axes`, of which operand kX counts, are empty if the elements are contiguous.
struct Elements {
  DType dtype = DType::kFloat32;
  const char* at = nullptr;  // null if the operand is absent
  Axes axes = {};            // NOLINT(readability-redundant-member-init): GCC warns of calls that leave it out
};

// Computed in double if any operand is double, otherwise in float. The gradient is of x's type. It may be x or another
// operand itself, but must not overlap them otherwise.
struct PointProblem {
  PointLoss loss;
  size_t n;
  Elements x, target, weight, pos_weight;
  char* losses;  // contiguous, double if x is, otherwise float; or null
  char* gradient;
  Axes gradient_axes;  // like those of Elements
  double divisor;      // of the gradient
};

// Returns the sum of the losses.
double Run(const PointProblem& problem);

// A rough estimate of the time in nanoseconds.
double EstimateNanoseconds(const PointProblem& problem);

}  // namespace boltzmax

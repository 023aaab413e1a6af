// Losses of which each element depends on one number and what belongs to it, over arrays of any layout and type, and their
// gradients.
#pragma once

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

enum class PointLoss { kBinaryCrossEntropy, kDivergence, kDivergenceOfLogs };

// What is read, in C order. `axes`, of which operand kX counts, are empty where elements lie one after the other.
struct Elements {
  DType dtype = DType::kFloat32;
  const char* at = nullptr;  // or nothing is there
  Axes axes = {};            // NOLINT(readability-redundant-member-init): GCC warns of calls that leave it out
};

// Elements are computed in double where one of those that are read is a double, otherwise in float. The gradient is of x's
// type and may be x, or anything else that is read, but may not overlap it in any other way.
struct PointProblem {
  PointLoss loss;
  size_t n;
  Elements x, target, weight, pos_weight;
  char* losses;  // contiguous, double if x is, otherwise float; or null
  char* gradient;
  Axes gradient_axes;  // as those of Elements
  double divisor;      // of the gradient
};

// Returns the sum of the losses.
double Run(const PointProblem& problem);

// How long it takes, roughly, in nanoseconds.
double EstimateNanoseconds(const PointProblem& problem);

}  // namespace boltzmax

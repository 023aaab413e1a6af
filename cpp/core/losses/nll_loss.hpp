// The negative log-likelihood of the rows' targets, and its gradient.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

// The operands of `rows`.
inline constexpr Operand kLogProb = kX, kLogProbGradient = kY, kTarget = kMask, kSampleWeight = kTemperature;

// Numbers, `stride` bytes apart. If there is one per row, the strides are those of `rows`.
struct Numbers {
  DType dtype = DType::kFloat64;
  const char* at = nullptr;
  ptrdiff_t stride = 0;
};

// With w the product of a row's weights, 1 where there are none, and t its target:
//
//     loss = -w log_prob[t],     gradient[c] = -w / divisor [c = t],     divisor = the sum of all w ("mean"), or 1
//
// A row whose target is ignore_index has loss 0. The gradient has log_prob's type, and may overlap no other operand.
struct NllProblem {
  Axes rows;
  size_t classes;
  Numbers log_prob, target, weight, sample_weight;  // log_prob's and weight's strides are those between classes
  int64_t ignore_index;                             // not the largest: larger unsigned targets are read as that
  bool mean;
  bool zero_if_empty;  // whether the mean is 0, and so is its gradient, if the rows' weights sum to 0
  char* losses;        // per row, contiguous, double if log_prob is, otherwise float; or null
  char* gradient;
  ptrdiff_t gradient_stride;
};

// Computes the reduced loss. False if a target is out of range; then nothing but losses is written.
bool Run(const NllProblem& problem, double* loss);

double EstimateNanoseconds(const NllProblem& problem);

}  // namespace boltzmax

// The negative log-likelihood of the rows' targets, and its gradient.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

// The operands of `rows`.
inline constexpr Operand kLogProb = kX, kLogProbGradient = kY, kTarget = kMask, kSampleWeight = kTemperature;

// Numbers, `stride` bytes apart, which is for `rows` to say where there is one for each row.
struct Numbers {
  DType dtype = DType::kFloat64;
  const char* at = nullptr;
  ptrdiff_t stride = 0;
};

// With w the product of a row's weights, which are 1 where there are none, and t its target:
//
//     loss = -w log_prob[t],     gradient[c] = -w / divisor [c = t],     divisor = the sum of all w ("mean"), or 1
//
// A row whose target is ignore_index loses nothing. The gradient is of log_prob's type; it may overlap that alone.
struct NllProblem {
  Axes rows;
  size_t classes;
  Numbers log_prob, target, weight, sample_weight;  // log_prob's and weight's strides are those between classes
  int64_t ignore_index;                             // not the largest number: unsigned targets that exceed it read so
  bool mean;
  bool zero_if_empty;  // whether the mean over rows whose weights sum to 0 is 0, and so is its gradient
  char* losses;        // of each row, contiguous, double if log_prob is, otherwise float; or null
  char* gradient;
  ptrdiff_t gradient_stride;
};

// The loss, reduced; false, and nothing written but losses, where a target is out of range.
bool Run(const NllProblem& problem, double* loss);

double EstimateNanoseconds(const NllProblem& problem);

}  // namespace boltzmax

// Cross-entropy and focal loss of a batch of logits: from targets to one number, with its gradient.
#pragma once

#include <cstdint>
#include <optional>

#include "../runtime/integers.hpp"

namespace boltzmax {

// Per row, with p = softmax(logits / temperature), t its target, K classes and e the smoothing,
//
//     cross-entropy:  w[t] ((1 - e) (-log p[t]) + e / K sum_c (-log p[c])) + z_loss lse^2     (w and e not together)
//     focal loss:     w[t] (1 - p[t])^gamma (-log p[t])
//
// A row whose target is `ignored` does not count. The mean divides by the sum of w[t], for the focal loss by the number
// of rows that count.
struct BatchLoss {
  DType storage;
  const char* logits;  // rows of n contiguous elements
  ptrdiff_t logits_stride;
  size_t rows, n;
  IntegerColumn target;
  int64_t ignored;
  double temperature;
  double smoothing, z_loss;
  const double* class_weight;  // or null
  bool focal;
  double gamma;
  bool mean;
  // Whether the mean is 0, and so is its gradient, over no rows or over rows whose weights sum to 0.
  bool zero_if_empty;
  char* gradient;  // of the reduced loss; null for none; may be the logits
  ptrdiff_t gradient_stride;
  double* losses;  // one per row, if there is no reduction; else null
};

// The reduced loss. If a target is out of range: nothing is returned and nothing written.
std::optional<double> Run(const BatchLoss& problem);

// A rough estimate of the time.
double EstimateNanoseconds(const BatchLoss& problem);

}  // namespace boltzmax

// The log-probability of each row's target, and the gradient of a loss of it. Losses differ only in four numbers per
// row, which the caller chooses.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// Per row, with p = softmax(logits / temperature) and t its target:
//
//     lse = logsumexp(logits / temperature),   log_prob = log p[t],
//     gradient[c] = (gain + lse_gain * lse) p[c] + add - (target_gain if c = t)
//
// A row whose target is negative is ignored: lse and log_prob are 0, and so is its gradient.
struct CrossEntropyProblem {
  DType storage;
  const char* logits;  // rows of n contiguous elements
  ptrdiff_t logits_stride;
  size_t rows, n;
  const int64_t* target;
  double temperature;
  double* lse;
  double* log_prob;
  double* distance;  // the mean of logits[t] - logits[c], before any temperature; null for none
  char* gradient;    // null for none; may be logits themselves
  ptrdiff_t gradient_stride;
  const double* gain;  // these four are read only with a gradient; one per row, or one for all (step 0)
  const double* lse_gain;
  const double* add;
  const double* target_gain;
  size_t step;
  size_t batch;  // the number of rows of which these are some; large results bypass the cache
};

void Run(const CrossEntropyProblem& problem);

// The same for rows [begin, end), in the calling thread.
void RunCrossEntropyRows(const CrossEntropyProblem& problem, size_t begin, size_t end);

// A rough estimate of the time.
double EstimateNanoseconds(const CrossEntropyProblem& problem);

}  // namespace boltzmax

// Losses of rows of logits: the structs that kernels and their callers share.
#pragma once

#include "types.hpp"

namespace boltzmax {

// Rows of the same length, with one class each. With p = softmax(x / temperature) and t the class,
//
//     lse = logsumexp(x / temperature),   log_prob = log p[t],
//     y[c] = (gain + lse_gain * lse) p[c] + add - (target_gain if c = t)
//
// A row whose class is negative is ignored: its lse and log_prob are 0, and so is y.
struct LossBatch {
  const char* x;
  char* y;  // null if no gradient is wanted; may be x
  ptrdiff_t x_stride, y_stride;
  size_t rows, n;
  double temperature;
  const int64_t* target;
  double* lse;
  double* log_prob;
  // Per row, or one for all rows (step 0).
  const double *gain, *lse_gain, *add, *target_gain;
  size_t step;
  void* scratch;  // 2 * kKept elements of the arithmetic type
  bool far;
};

// Statistics of each row about its largest element and about its target.
struct RowStatsBatch {
  const char* x;
  ptrdiff_t x_stride;
  size_t rows, n;
  double temperature;
  const int64_t* target;  // or null
  double* lse;
  int64_t* top_id;  // the class of the largest, or null
  double* top_log_prob;
  double* target_log_prob;
  int64_t* target_rank;  // 1 + the number of elements above it
  void* scratch;
  bool far;
};

// For one storage type.
struct LossKernels {
  size_t most;  // the longest rows that they take
  void (*cross_entropy_rows)(const LossBatch&);
  void (*row_stats_rows)(const RowStatsBatch&);
};
struct LossTable {
  BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_MEMBER, LossKernels)
};

}  // namespace boltzmax

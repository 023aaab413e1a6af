// Statistics of rows of logits in one pass over memory: a row is taken in pieces that stay in the first-level cache,
// and each is read as often as necessary.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// One number per row, or k; null for results that are not wanted.
struct RowStatsProblem {
  DType storage;
  const char* logits;  // rows of n contiguous elements
  ptrdiff_t stride;
  size_t rows, n;
  const int64_t* target;
  double temperature;
  size_t k;  // 0 for none, at most n
  double* lse;
  double* entropy;
  int64_t* top_id;       // rows x k, the largest first, equal ones by index
  double* top_log_prob;  // rows x k
  double* target_log_prob;
  int64_t* target_rank;  // 1 + the number of larger elements
};

void Run(const RowStatsProblem& problem);

}  // namespace boltzmax

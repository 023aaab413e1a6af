// Statistics of rows of logits in one pass over memory: a row is taken in pieces that stay in the first-level cache,
// and each is read as often as necessary.
#pragma once

#include <cstdint>

#include "../runtime/integers.hpp"

namespace boltzmax {

// One number per row, or k; null for results that are not wanted.
struct RowStatsProblem {
  DType storage;
  const char* logits;  // rows of n contiguous elements
  ptrdiff_t stride;
  size_t rows, n;
  IntegerColumn target;
  double temperature;
  size_t k;       // 0 for none, at most n
  DType numbers;  // float or double, of the results that are not integers
  char* lse;
  char* energy;  // -temperature lse
  char* entropy;
  int64_t* top_id;     // rows x k, the largest first, equal ones by index
  char* top_log_prob;  // rows x k
  char* target_log_prob;
  int64_t* target_rank;  // 1 + the number of larger elements
};

// False if a target is out of range; then results are incomplete.
bool Run(const RowStatsProblem& problem);

// A rough estimate of the time.
double EstimateNanoseconds(const RowStatsProblem& problem);

}  // namespace boltzmax

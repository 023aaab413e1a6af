// Logits of chosen classes in double, with bounds of their errors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace boltzmax {

// For row r, the classes id[begin[r]] to id[begin[r + 1] - 1], which ascend; matrices are contiguous.
struct RescoreProblem {
  const float* hidden;  // rows x features
  const float* weight;  // classes x features
  const float* bias;    // of each class, or null
  size_t rows, classes, features;
  const int64_t* begin;  // rows + 1
  const int64_t* id;
  double* score;  // of each entry of `id`: hidden . weight + bias
  double* error;  // |score - exact logit| is at most that
};

// Products of floats are exact in double, so only additions round. With n of them one after the other, the error is at
// most n u / (1 - n u) times the sum of the absolute values, u = 2^-53 (Higham, Accuracy and Stability of Numerical
// Algorithms, 2nd ed., eq. 3.5 and 4.4). No product of finite floats overflows or is subnormal in double. Compiled
// once: all ISAs have the same bits.
void Rescore(const RescoreProblem& p);

}  // namespace boltzmax

// Rows of complex numbers: logarithms of sums of exponentials, softmax and log_softmax. All are computed in double.
//
// The error of a sum is at most kErrorOfComplex times the sum of the sizes of its terms, without those that cancel
// exactly. If it is more than 2^-36 of the sum, or of a logarithm near 0, equal terms are joined and the rest is summed
// to the last digit (exact_sum.hpp).
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

// Elements of any type. Complex ones are two of `part`.
struct Numbers {
  const char* data;  // null for none
  DType part;
  bool is_complex;
};

// log |sum b exp(x / temperature)| along the `inner` axes, and the sum up to a positive factor. In the axes, weights
// are in y's place; results have one element per row, sums two.
struct ComplexSumProblem {
  Numbers x, b;
  const char* mask;         // NumPy bools, or null
  const char* temperature;  // doubles with outer axes only, or null for 1
  Axes outer, inner;
  double* log_size;
  double* sum;
  uint8_t* special;  // 1 for rows with infinities or NaN that count, which are not computed, else 0
};

// y = softmax(x), or its logarithm, of complex numbers.
struct ComplexSoftmaxProblem {
  Numbers x;
  char* y;  // of the same type
  bool wants_log;
  Axes outer, inner;
  uint8_t* special;
};

void Run(const ComplexSumProblem& problem);
void Run(const ComplexSoftmaxProblem& problem);

}  // namespace boltzmax

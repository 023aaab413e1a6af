// Logarithms of weighted sums, log |sum_i b_i exp(x_i)|, and their signs.
//
// Weights of both signs cancel, so a sum is taken with as many digits as it then needs: with terms in the arithmetic of
// the type, in double, in pairs of doubles (nearly twice the precision), and finally, for the rare row of which even
// these leave nothing certain, with equal x joined and in fixed point with as many digits as it takes (exact_sum.hpp).
// After each step, the sum of the sizes of the terms shows whether the logarithm is certain to within one ULP before it
// is rounded; so the result is within 1.5 ULP, however much cancels.
#pragma once

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

// In the axes of a sum the weights take the place of y; the results have axes of their own.
inline constexpr Operand kWeights = kY, kLogSize = kX, kSign = kY;

// log |sum b exp(x / temperature)| along the `inner` axes, for every index of the `outer` axes.
//
// Elements of weight 0 and masked ones are ignored. But where the logarithm is not finite, an infinity or NaN of weight
// 0 makes it NaN, as in SciPy.
struct WeightedProblem {
  DType input;    // of x
  DType weights;  // of b
  DType storage;  // of the results
  const char* x;
  const char* b;
  const char* mask;         // NumPy bools, or null
  const char* temperature;  // doubles with outer axes only, or null for 1
  Axes outer, inner;
  char* log_size;  // per row; without signs, NaN for a negative sum
  char* sign;      // per row: -1, 0, 1 or NaN; or null
  Axes results;    // the outer axes, with the strides of log_size and sign
};

void Run(const WeightedProblem& problem);

}  // namespace boltzmax

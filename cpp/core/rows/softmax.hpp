// softmax, log_softmax and logsumexp on arrays of any layout: the entry point that the bindings call.
#pragma once

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

// y = op(x / temperature) along the `inner` axes, for every index of the `outer` axes.
//
// y may be x itself, element for element, and must not overlap it otherwise. For logsumexp y has no inner axes.
struct Problem {
  Op op;
  DType input;    // of x
  DType storage;  // of y; x is converted to it. Arithmetic is in double for kFloat64, else in float
  const char* x;
  char* y;
  const char* mask;         // NumPy bools, or null
  const char* temperature;  // doubles with outer axes only, or null for 1
  Axes outer, inner;
};

void Run(const Problem& problem);

// The same for aligned, C-contiguous x and y, `rows` times `n`. The axes and the mask of the problem are ignored, and
// one temperature serves all rows. Small ones go straight to a kernel.
void RunContiguous(const Problem& problem, size_t rows, size_t n);

}  // namespace boltzmax

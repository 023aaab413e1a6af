// Functions of rows on arrays of any layout.
#pragma once

#include <string>

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

// y = function(x, other) along the `inner` axes, for every index of the `outer` axes, whose order numbers the rows.
// `temperature` has one double for each row; some functions take it for another parameter. y must not overlap an input;
// for a reduction it has no inner axes.
struct RowFunctionProblem {
  const RowFunction* function;
  DType input;        // of x
  DType other_input;  // of other
  DType storage;      // of y; inputs are converted to it
  const char* x;
  const char* other;  // or null
  char* y;
  const char* mask;         // NumPy bools, or null
  const char* temperature;  // or null for 1
  RowOptions options;
  Axes outer, inner;
};

void Run(const RowFunctionProblem& problem);

}  // namespace boltzmax

// The classes of each row above a bar, and bounds of the logsumexp of all others.
#pragma once

#include <vector>

#include "search.hpp"

namespace boltzmax {

// The bar of a row is `bar`, or higher if there is a budget for what the intervals of the others may add to the sum. If
// a sample of the classes takes less than the budget, the bar is that of the tiles with the largest classes. Otherwise
// levels say what it may be: if the classes whose upper bounds are at most upper[i] keep their intervals, they add about
// exp(gap[i]). Both ascend. Where more than a share of the sample would be above, the bar is infinite instead: then all
// classes are cheaper to compute.
struct SplitProblem {
  const double* bar;          // of each row
  const double *upper, *gap;  // (rows, n), or null
  size_t n;
  double budget, allowed;  // the largest gap, of all classes and of the sample, less the logsumexp
  double share;
};

struct RowParts {
  std::vector<BoundedClass> above;  // in order of their ids
  Interval rest;
};

// One pass over the weights, and a second look at tiles with classes above the bar.
std::vector<RowParts> Split(const QuantisedLayer& layer, const HiddenRows& hidden, const SplitProblem& p);

}  // namespace boltzmax

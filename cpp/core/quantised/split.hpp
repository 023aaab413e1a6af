// The classes of each row above a bar, and bounds of the logsumexp of all others.
#pragma once

#include <vector>

#include "search.hpp"

namespace boltzmax {

// How high the bar of a row may be, by a sample of its classes: if those whose upper bounds are at most upper[i] keep
// their intervals, the logsumexp may be off by exp(gap[i]) over the sum. Both ascend.
struct Levels {
  const double* upper;
  const double* gap;
  size_t n;        // 0 for a bar that stays
  double allowed;  // the largest gap, less the logsumexp
};

struct SplitProblem {
  const double* bar;    // of each row, at the least
  const double* upper;  // (rows, n) levels, or null
  const double* gap;
  size_t n;
  double allowed;
};

struct RowParts {
  std::vector<BoundedClass> above;  // in order of their ids
  Interval rest;
};

// One pass over the weights. As the sum of the lower bounds grows, the levels raise the bar.
std::vector<RowParts> Split(const QuantisedLayer& layer, const HiddenRows& hidden, const SplitProblem& p);

}  // namespace boltzmax

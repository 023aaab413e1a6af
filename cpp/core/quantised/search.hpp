// The classes of each row that may be among the k with the largest exact logits.
#pragma once

#include <vector>

#include "centers.hpp"

namespace boltzmax {

struct BoundedClass {
  int64_t id;
  Interval logit;
};

// For each row, in order of their ids, the classes whose upper bound reaches the row's k-th largest lower bound.
std::vector<std::vector<BoundedClass>> FindCandidates(const QuantisedLayer& layer, const HiddenRows& hidden, size_t k);

}  // namespace boltzmax

// Sums of parts, added in order: the bits do not depend on which thread computed a part, or when.
#pragma once

#include <cmath>

#include "../../kernels/row_sum.hpp"

namespace boltzmax {

class RunningSum {
 public:
  void Add(const Sum& part) {
    double error;
    hi_ = TwoSum(hi_, part.hi, &error);
    lo_ += part.lo + error;
  }
  Sum Parts() const { return {hi_, lo_}; }
  double Total() const { return std::isnan(lo_) ? hi_ : hi_ + lo_; }  // an infinite sum has no low part

 private:
  double hi_ = 0.0, lo_ = 0.0;
};

}  // namespace boltzmax

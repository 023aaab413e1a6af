// Bounds of a number.
#pragma once

namespace boltzmax {

struct Interval {
  double lower, upper;
};

}  // namespace boltzmax

// What the kernels of point losses and their callers say to each other.
#pragma once

#include "types.hpp"

namespace boltzmax {

// Neighbouring elements of a loss whose every element depends on one number x and a few others. All are of one storage
// type but the losses, which are of its arithmetic type.
struct PointPiece {
  const void* x;
  const void* target;
  const void* weight;      // of each element, or null
  const void* pos_weight;  // of what is true, or null
  void* loss;              // of each element, or null
  void* gradient;          // or null; may be x or target
  double divisor;          // of the gradient
  size_t n;
};

// Each returns the sum of the losses.
struct PointKernels {
  Sum (*binary_cross_entropy)(const PointPiece&);
  Sum (*divergence)(const PointPiece&);          // of probabilities from exp(x)
  Sum (*divergence_of_logs)(const PointPiece&);  // of exp(target)
};

struct PointwiseTable {
  BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_MEMBER, PointKernels)
};

}  // namespace boltzmax

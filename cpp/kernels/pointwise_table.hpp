// Losses of single numbers: the structs that kernels and their callers share.
#pragma once

#include "types.hpp"

namespace boltzmax {

// Neighbouring elements of a loss, each of which depends on one number x and a few others. All are of one storage type,
// except the losses, which are of its arithmetic type.
struct PointPiece {
  const void* x;
  const void* target;
  const void* weight;      // per element, or null
  const void* pos_weight;  // weight of the label true, or null
  void* loss;              // per element, or null
  void* gradient;          // or null; may be x or target
  double divisor;          // of the gradient
  size_t n;
};

// Each returns the sum of the losses.
struct PointKernels {
  Sum (*binary_cross_entropy)(const PointPiece&);
  Sum (*divergence)(const PointPiece&);          // between probabilities and exp(x)
  Sum (*divergence_of_logs)(const PointPiece&);  // between exp(target) and exp(x)
};

struct PointwiseTable {
  BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_MEMBER, PointKernels)
};

}  // namespace boltzmax

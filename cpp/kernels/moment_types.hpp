// The kernels of moments, which derivatives of a loss by the temperature consist of.
#pragma once

#include "types.hpp"

namespace boltzmax {

// With p = softmax(x / T), of a row: its maximum, the mean of x - max under p, and the variance of x. NaN in a row that
// has NaN or no finite maximum.
struct RowMoments {
  double max, mean, variance;
};

template <class T>
struct MomentKernels {
  // Of rows of n contiguous elements, `stride` bytes apart.
  void (*moments)(const T* x, ptrdiff_t stride, size_t rows, size_t n, double temperature, RowMoments* moments);
};

struct MomentTable {
  MomentKernels<float> f32;
  MomentKernels<double> f64;
};

namespace scalar {
extern const MomentTable kMoments;
}
namespace avx2 {
extern const MomentTable kMoments;
}
namespace avx512 {
extern const MomentTable kMoments;
}
namespace neon {
extern const MomentTable kMoments;
}

}  // namespace boltzmax

#include BOLTZMAX_ISA_HEADER
#include "losses/pointwise.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const PointwiseTable kPointwise = {kernels::kPointKernels<float>, kernels::kPointKernels<double>,
                                             kernels::kPointKernels<Half>, kernels::kPointKernels<BFloat16>};
}  // namespace boltzmax::BOLTZMAX_ISA

#include BOLTZMAX_ISA_HEADER
#include "losses/pointwise.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const PointwiseTable kPointwise = {BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_VALUE, kernels::kPointKernels)};
}  // namespace boltzmax::BOLTZMAX_ISA

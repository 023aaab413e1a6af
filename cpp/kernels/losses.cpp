#include BOLTZMAX_ISA_HEADER
#include "losses/losses.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const LossTable kLosses = {kernels::kLossKernels<float>, kernels::kLossKernels<double>,
                                     kernels::kLossKernels<Half>, kernels::kLossKernels<BFloat16>};
}  // namespace boltzmax::BOLTZMAX_ISA

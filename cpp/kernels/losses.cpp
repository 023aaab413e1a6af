#include BOLTZMAX_ISA_HEADER
#include "losses/batches.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const LossTable kLosses = {BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_VALUE, kernels::kLossKernels)};
}  // namespace boltzmax::BOLTZMAX_ISA

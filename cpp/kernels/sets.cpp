#include BOLTZMAX_ISA_HEADER
#include "variants/sets.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const SetTable kSets = {kernels::SetKernelsOf<float>(), kernels::SetKernelsOf<double>()};
}  // namespace boltzmax::BOLTZMAX_ISA

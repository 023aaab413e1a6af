#include BOLTZMAX_ISA_HEADER
#include "sampling/sampling.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const SamplingTable kSampling = {kernels::SamplingKernelsOf<float>(), kernels::SamplingKernelsOf<double>()};
}  // namespace boltzmax::BOLTZMAX_ISA

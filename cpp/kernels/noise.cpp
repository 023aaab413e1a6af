#include BOLTZMAX_ISA_HEADER
#include "variants/noise.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const RowFamily kNoise = {kernels::kNoiseFunctions, sizeof kernels::kNoiseFunctions / sizeof(RowFunction)};
}  // namespace boltzmax::BOLTZMAX_ISA

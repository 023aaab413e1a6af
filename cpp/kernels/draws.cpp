#include BOLTZMAX_ISA_HEADER
#include "variants/draws.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const DrawTable kDraws = {kernels::DrawKernelsOf<float>(), kernels::DrawKernelsOf<double>()};
}  // namespace boltzmax::BOLTZMAX_ISA

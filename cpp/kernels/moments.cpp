#include BOLTZMAX_ISA_HEADER
#include "variants/moments.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const MomentTable kMoments = {{kernels::MomentsOfRows<float>}, {kernels::MomentsOfRows<double>}};
}  // namespace boltzmax::BOLTZMAX_ISA

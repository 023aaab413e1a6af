#include BOLTZMAX_ISA_HEADER
#include "variants/shapes.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const RowFamily kShapes = {kernels::kShapeFunctions, sizeof kernels::kShapeFunctions / sizeof(RowFunction)};
}  // namespace boltzmax::BOLTZMAX_ISA

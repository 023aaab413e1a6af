#include BOLTZMAX_ISA_HEADER
#include "variants/sparse.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const RowFamily kSparse = {kernels::kSparseFunctions, sizeof kernels::kSparseFunctions / sizeof(RowFunction)};
}  // namespace boltzmax::BOLTZMAX_ISA

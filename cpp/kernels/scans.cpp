#include BOLTZMAX_ISA_HEADER
#include "variants/scan_functions.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const RowFamily kScans = {kernels::kScanFunctions, sizeof kernels::kScanFunctions / sizeof(RowFunction)};
}  // namespace boltzmax::BOLTZMAX_ISA

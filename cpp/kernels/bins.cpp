#include BOLTZMAX_ISA_HEADER
#include "variants/bins.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const BinTable kBins = {{kernels::FindBins<float>}, {kernels::FindBins<double>}};
}  // namespace boltzmax::BOLTZMAX_ISA

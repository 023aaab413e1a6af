#include BOLTZMAX_ISA_HEADER
#include "weighted/exact_totals.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const ExactTotalTable kExactTotals = {kernels::ExactTotalKernelsOf<float>(),
                                                kernels::ExactTotalKernelsOf<double>(), kernels::TermOfNumber};
}  // namespace boltzmax::BOLTZMAX_ISA

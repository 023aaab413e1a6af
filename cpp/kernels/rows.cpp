#include BOLTZMAX_ISA_HEADER
#include "operations/make_table.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const KernelTable kKernels = kernels::MakeTable(BOLTZMAX_ISA_NAME);
}  // namespace boltzmax::BOLTZMAX_ISA

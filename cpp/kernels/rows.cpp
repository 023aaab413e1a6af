#include BOLTZMAX_ISA_HEADER
#include "make_table.hpp"

namespace boltzmax::BOLTZMAX_ISA {
// The families that are objects of their own.
extern const LossTable kLosses;

constinit const KernelTable kKernels = kernels::MakeTable(BOLTZMAX_ISA_NAME, &kLosses);
}  // namespace boltzmax::BOLTZMAX_ISA

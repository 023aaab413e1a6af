#include "isa/scalar.hpp"
#include "make_table.hpp"

namespace boltzmax {
constinit const KernelTable kScalarTable = kernels::MakeTable("scalar");
}  // namespace boltzmax

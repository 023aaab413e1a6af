#include "isa/neon.hpp"
#include "make_table.hpp"

namespace boltzmax {
constinit const KernelTable kNeonTable = kernels::MakeTable("neon");
}  // namespace boltzmax

#include "isa/avx2.hpp"
#include "make_table.hpp"

namespace boltzmax {
constinit const KernelTable kAvx2Table = kernels::MakeTable("avx2");
}  // namespace boltzmax

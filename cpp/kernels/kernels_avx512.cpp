#include "isa/avx512.hpp"
#include "make_table.hpp"

namespace boltzmax {
constinit const KernelTable kAvx512Table = kernels::MakeTable("avx512");
}  // namespace boltzmax

// The kernels of totals for the active ISA; defined in dispatch.cpp.
#pragma once

#include "../../kernels/exact_total_types.hpp"

namespace boltzmax {

const ExactTotalTable& ActiveExactTotals();

}  // namespace boltzmax

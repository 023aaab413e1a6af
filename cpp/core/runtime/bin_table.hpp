// The kernels of bins of equal width for the active ISA; defined in dispatch.cpp.
#pragma once

#include "../../kernels/bin_types.hpp"

namespace boltzmax {

const BinTable& ActiveBins();

}  // namespace boltzmax

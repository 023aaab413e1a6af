// The kernels of quantised layers for the active ISA; defined in dispatch.cpp.
#pragma once

#include "../../kernels/quantised_types.hpp"

namespace boltzmax {

// An ISA has two tables where the processor may also have dot products of bytes (VNNI, SDOT): that with them is used
// unless they are switched off. BOLTZMAX_DOT_PRODUCTS=0 does so from the start.
const QuantisedTable& ActiveQuantised();
void UseDotProducts(bool use);
bool UsesDotProducts();

}  // namespace boltzmax

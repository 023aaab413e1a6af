// The kernels of sampling for the active ISA; defined in dispatch.cpp.
#pragma once

#include "../../kernels/sampling_types.hpp"

namespace boltzmax {

const SamplingTable& ActiveSampling();

}  // namespace boltzmax

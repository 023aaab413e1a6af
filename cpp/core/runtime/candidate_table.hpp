// The kernels of samplers of candidates for the active ISA; defined in dispatch.cpp.
#pragma once

#include "../../kernels/candidate_types.hpp"

namespace boltzmax {

const CandidateTable& ActiveCandidates();

}  // namespace boltzmax

#include "candidate_types.hpp"

#include BOLTZMAX_ISA_HEADER
#include "layers/ordered.hpp"
#include "variants/log_uniform.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const CandidateTable kCandidates = {kernels::WordsOfBatch, kernels::DrawLogUniform, kernels::LogUniformLogP,
                                              kernels::kOrdered<float>, kernels::kOrdered<double>};
}  // namespace boltzmax::BOLTZMAX_ISA

#include BOLTZMAX_ISA_HEADER
#include "weighted/weighted.hpp"
#include "weighted/complex.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const WeightedTable kWeighted = {
    kernels::SumWeighted<float>, kernels::SumWeightedCoarsely,     kernels::SumWeighted<double>,
    kernels::MaxOfDoubles,       kernels::SumWeightedPairs<false>, kernels::SumWeightedPairs<true>,
    kernels::SumComplex};
}  // namespace boltzmax::BOLTZMAX_ISA

#include BOLTZMAX_ISA_HEADER

// clang-format off: it would put blanks into the name of the file
#define BOLTZMAX_LANES_OF(isa) quantised/lanes_##isa.hpp
// clang-format on
#define BOLTZMAX_LANES(isa) BOLTZMAX_STRING_OF(BOLTZMAX_LANES_OF(isa))
#include BOLTZMAX_LANES(BOLTZMAX_ISA)
#include "quantised/dots.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const QuantisedTable kQuantised = {
    BOLTZMAX_ISA_NAME,        kernels::IntegerDots<8>, kernels::IntegerDots<4>, kernels::DotsOfFloats<8>,
    kernels::DotsOfFloats<4>, kernels::FloatDots,      kernels::FindReaching,   kernels::StoreUpperBounds};
}  // namespace boltzmax::BOLTZMAX_ISA

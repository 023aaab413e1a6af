#include BOLTZMAX_ISA_HEADER
#include "layers/tiles.hpp"

namespace boltzmax::BOLTZMAX_ISA {
constinit const TileTable kTiles = {kernels::kTileKernels<float>, kernels::kTileKernels<double>};
}  // namespace boltzmax::BOLTZMAX_ISA

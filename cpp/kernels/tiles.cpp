#include BOLTZMAX_ISA_HEADER
#include "layers/tiles.hpp"
#include "layers/pairs.hpp"

namespace boltzmax::BOLTZMAX_ISA {
namespace {

template <class T>
constexpr TileKernels<T> kTileKernels = {kernels::Score<T>,      kernels::SumShares<T>,    kernels::Slope<T>,
                                         kernels::SumColumns<T>, kernels::MaxOfColumns<T>, kernels::SumExpOfColumns<T>,
                                         kernels::PairSlope<T>};

}  // namespace

constinit const TileTable kTiles = {kTileKernels<float>, kTileKernels<double>};
}  // namespace boltzmax::BOLTZMAX_ISA

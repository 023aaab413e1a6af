#include "conversion_types.hpp"

#include BOLTZMAX_ISA_HEADER

namespace boltzmax::kernels {
namespace {

template <Storage16 S>
void Widen(const S* x, size_t n, float* y) {
  constexpr size_t kLanes = F32::kLanes;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(y + i, Load(x + i));
  if (i < n) StoreN(y + i, LoadN(x + i, n - i, 0.0f), n - i);
}

template <Storage16 S>
void Narrow(const float* x, size_t n, S* y) {
  constexpr size_t kLanes = F32::kLanes;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(y + i, Load(x + i));
  if (i < n) StoreN(y + i, LoadN(x + i, n - i, 0.0f), n - i);
}

}  // namespace
}  // namespace boltzmax::kernels

namespace boltzmax::BOLTZMAX_ISA {
using namespace kernels;
constinit const ConversionTable kConversions = {{Widen<Half>, Narrow<Half>}, {Widen<BFloat16>, Narrow<BFloat16>}};
}  // namespace boltzmax::BOLTZMAX_ISA

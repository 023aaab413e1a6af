// Conversions of contiguous elements between 16 bits and float. Each result is rounded once, to nearest, ties to even.
#pragma once

#include "types.hpp"

namespace boltzmax {

template <class S>
struct ConversionKernels {
  void (*widen)(const S* x, size_t n, float* y);
  void (*narrow)(const float* x, size_t n, S* y);
};
struct ConversionTable {
  ConversionKernels<Half> f16;
  ConversionKernels<BFloat16> bf16;
};

namespace scalar {
extern const ConversionTable kConversions;
}
namespace avx2 {
extern const ConversionTable kConversions;
}
namespace avx512 {
extern const ConversionTable kConversions;
}
namespace neon {
extern const ConversionTable kConversions;
}

}  // namespace boltzmax

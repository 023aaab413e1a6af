// A linear layer whose weights are stored in few bits: w ~ s q, with bounds of ||w - s q|| and ||s q|| for each class.
// The layout of the codes is that of kernels/quantised_types.hpp; numbers of classes include those that fill the last
// block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../kernels/quantised_types.hpp"

namespace boltzmax {

struct QuantisedLayer {
  int bits;  // 4, 8, or 16: bfloat16
  size_t classes, blocks;
  size_t features, width;  // without and with padding
  size_t section, groups;  // features that are summed as whole numbers; scales of a class
  const uint8_t* codes;
  const float* scale;  // (blocks, groups, 16)
  const float* error;  // >= ||w - s q||
  const float* norm;   // >= ||s q||
  const double* bias;
  const float* bias_above;  // >= bias (1 + 2^-20)
  double ratio;             // >= norm / scale, where a class has one scale
  bool floats;              // hidden vectors are floats rather than whole numbers; always with 16 bits
  bool moderate;            // scales, errors and biases are such that nothing overflows or vanishes in float

  size_t BlockBytes() const { return width * kClassLanes * static_cast<size_t>(bits) / 8; }
  size_t Sections() const { return (width + section - 1) / section; }
};

}  // namespace boltzmax

// Weights as codes, with the bounds of what these leave out.
#pragma once

#include "layer.hpp"

namespace boltzmax {

// The arrays of a layer that is being made, whose shape is that of `layer`.
struct LayerArrays {
  uint8_t* codes;
  float *scale, *error, *norm;
};

// Encodes rows of weights, (rows, layer.features), that have an error of `rounding` times their norm, as the classes
// from `first` on, the first of a block; a block that they do not fill is filled with zeros. Returns the first row that
// is not finite or has a norm above 3e38, or `rows`.
size_t Encode(const QuantisedLayer& layer, const LayerArrays& to, const double* weight, size_t first, size_t rows,
              double rounding);

}  // namespace boltzmax

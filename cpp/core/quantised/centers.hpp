// Logits of the stored weights, and intervals that contain the exact ones.
#pragma once

#include "../linear/interval.hpp"
#include "hidden_rows.hpp"

namespace boltzmax {

// Classes in a tile, rows in a block. The sums of a tile stay in the second-level cache, its codes, too, and they are
// read from memory once for all rows of a block.
inline constexpr size_t kTileBlocks = 16, kTileClasses = kTileBlocks * kClassLanes, kBlockRows = 64;

// An estimate of the time for the products.
double EstimateNanoseconds(const QuantisedLayer& layer, size_t rows, size_t classes);

// The interval of the exact logit of class c, whose center is the logit of the stored weights.
Interval IntervalOf(const QuantisedLayer& layer, const RowBounds& bounds, size_t c, double center);

// The sums of whole numbers of a section, for blocks from `block` on: z[r * kTileClasses + c].
void SumNumbers(const QuantisedLayer& layer, const NumberRows& p, size_t section, size_t block, size_t blocks,
                int32_t* z);

// The logits of the stored weights, at[r * kTileClasses + c], of at most kBlockRows rows and kTileBlocks blocks.
void Centers(const QuantisedLayer& layer, const HiddenRows& hidden, size_t row, size_t rows, size_t block,
             size_t blocks, double* at);

// The same for all rows and the classes from `first` to `last`: z[r * (last - first) + c - first].
void AllCenters(const QuantisedLayer& layer, const HiddenRows& hidden, size_t first, size_t last, double* z);
void AllIntervals(const QuantisedLayer& layer, const HiddenRows& hidden, size_t first, size_t last, double* lower,
                  double* upper);

}  // namespace boltzmax

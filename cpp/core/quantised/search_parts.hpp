// How a search through a layer is divided among threads.
#pragma once

#include <algorithm>

#include "../runtime/parallel.hpp"
#include "centers.hpp"

namespace boltzmax {

// A part of the tiles, for blocks of rows. A part of a row begins without a threshold, so there are only a few.
struct SearchParts {
  size_t rows, tiles, parts;
  double cost;

  SearchParts(const QuantisedLayer& layer, size_t count, double nanoseconds)
      : rows(count), tiles((layer.blocks + kTileBlocks - 1) / kTileBlocks), parts(1), cost(nanoseconds) {
    const auto threads = static_cast<size_t>(UsableThreads(cost));
    if (threads > 1) parts = std::max<size_t>(1, std::min(tiles / 8, 2 * threads));
  }

  // Calls f(part, first row, rows, first tile, last tile).
  template <class F>
  void ForEach(F f) const {
    const size_t row_blocks = (rows + kBlockRows - 1) / kBlockRows;
    ParallelFor(parts * row_blocks, cost, [&](size_t task) {
      const size_t part = task % parts, row = task / parts * kBlockRows;
      f(part, row, std::min(kBlockRows, rows - row), tiles * part / parts, tiles * (part + 1) / parts);
    });
  }
};

}  // namespace boltzmax

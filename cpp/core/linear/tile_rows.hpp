// The rows of a tile of logits: their kernels, pieces and blocks.
#pragma once

#include <algorithm>
#include <vector>

#include "../../kernels/tile_types.hpp"
#include "../runtime/parallel.hpp"
#include "../runtime/units.hpp"
#include "linear_tiles.hpp"

namespace boltzmax {

// A row is processed in pieces that stay in the first-level cache.
inline constexpr size_t kPieceBytes = 32768;
// Rows whose gradients one thread adds up, kSummedRows at a time, from the first-level cache. The sums of these blocks
// are added in order, no matter which thread computed them.
inline constexpr size_t kBlockRows = 32, kSummedRows = 8;

template <class T>
const TileKernels<T>& TileKernelsOf() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return ActiveKernels().tiles->f32;
  } else {
    return ActiveKernels().tiles->f64;
  }
}

template <class T>
T* RowOf(const LogitTile& tile, size_t r) {
  return reinterpret_cast<T*>(tile.x) + r * tile.n;
}

// Runs replace(r), which replaces row r by gradients, for all rows, and adds these to `column_sums` unless that is null.
template <class T, class Replace>
void ForEachRowAndSum(const LogitTile& tile, double cost, double* column_sums, Replace replace) {
  const size_t blocks = (tile.rows + kBlockRows - 1) / kBlockRows;
  std::vector<double> partial(column_sums == nullptr ? 0 : blocks * tile.n);
  ParallelFor(blocks, cost, [&](size_t block) {
    const size_t end = std::min((block + 1) * kBlockRows, tile.rows);
    for (size_t begin = block * kBlockRows; begin < end; begin += kSummedRows) {
      const size_t stop = std::min(begin + kSummedRows, end);
      for (size_t r = begin; r < stop; ++r) replace(r);
      if (column_sums == nullptr) continue;
      double* sums = partial.data() + block * tile.n;
      TileKernelsOf<T>().sum_columns(RowOf<T>(tile, begin), tile.n, stop - begin, tile.n, sums);
    }
  });
  for (size_t begin = 0; begin < partial.size(); begin += tile.n) {
    for (size_t c = 0; c < tile.n; ++c) column_sums[c] += partial[begin + c];
  }
}

}  // namespace boltzmax

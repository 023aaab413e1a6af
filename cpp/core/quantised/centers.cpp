#include "centers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../runtime/parallel.hpp"
#include "../runtime/quantised_table.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The sums of a section, of whole numbers or floats: z[r * kTileClasses + c].
struct TileSums {
  const QuantisedLayer& layer;
  size_t rows, block, blocks;

  // Adds the sums of a section: as they are, exact if they are whole numbers, or times the scales of a group.
  template <class Number>
  void Add(size_t section, const Number* z, double* at) const {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t b = 0; b < blocks; ++b) {
        const Number* from = z + r * kTileClasses + b * kClassLanes;
        double* to = at + r * kTileClasses + b * kClassLanes;
        const float* scale = layer.scale + ((block + b) * layer.groups + section) * kClassLanes;
        for (size_t i = 0; i < kClassLanes; ++i) {
          const double s = layer.groups > 1 ? static_cast<double>(scale[i]) : 1.0;
          const double sum = s * static_cast<double>(from[i]);
          to[i] = section == 0 ? sum : to[i] + sum;
        }
      }
    }
  }

  // Turns the sums of a row into logits.
  void Finish(double t, double* z) const {
    const double* bias = layer.bias + block * kClassLanes;
    const float* scale = layer.scale + block * kClassLanes;
    for (size_t c = 0; c < blocks * kClassLanes; ++c) {
      const double s = layer.groups > 1 ? t : t * static_cast<double>(scale[c]);  // exact: each has 24 bits
      z[c] = s * z[c] + bias[c];
    }
  }
};

CodeBlocks CodesOf(const QuantisedLayer& layer, size_t section, size_t block, size_t blocks) {
  const size_t first = section * layer.section, features = std::min(layer.section, layer.width - first);
  const size_t bytes = first * kClassLanes * static_cast<size_t>(layer.bits) / 8;
  return {layer.codes + block * layer.BlockBytes() + bytes, layer.BlockBytes(), blocks, features / 4};
}

void SumFloats(const QuantisedLayer& layer, const HiddenRows& hidden, size_t row, size_t rows, size_t section,
               size_t block, size_t blocks, float* z) {
  const QuantisedTable& table = ActiveQuantised();
  const FloatRows x = hidden.Floats(row, rows, section);
  if (layer.bits == 16) {
    const auto* codes = reinterpret_cast<const BFloat16*>(layer.codes + block * layer.BlockBytes());
    table.dots16(codes, blocks, layer.width, x, {z, kTileClasses});
    return;
  }
  (layer.bits == 8 ? table.dots8_of_floats : table.dots4_of_floats)(CodesOf(layer, section, block, blocks), x,
                                                                    {z, kTileClasses});
}

// Calls task(row, rows, first block, blocks, centers) for tiles of all rows and the blocks that have these classes.
template <class Task>
void ForEachTile(const QuantisedLayer& layer, const HiddenRows& hidden, size_t first, size_t last, Task task) {
  const size_t begin = first / kClassLanes, end = (last + kClassLanes - 1) / kClassLanes;
  const size_t tiles = (end - begin + kTileBlocks - 1) / kTileBlocks;
  const size_t row_blocks = (hidden.Count() + kBlockRows - 1) / kBlockRows;
  const double cost = EstimateNanoseconds(layer, hidden.Count(), last - first);
  ParallelBlocks(tiles * row_blocks, 1, cost, [&](size_t from, size_t to) {
    thread_local Scratch scratch;
    auto* at = reinterpret_cast<double*>(scratch.Get(kBlockRows * kTileClasses * sizeof(double)));
    for (size_t i = from; i < to; ++i) {
      const size_t row = i / tiles * kBlockRows, rows = std::min(kBlockRows, hidden.Count() - row);
      const size_t block = begin + i % tiles * kTileBlocks, blocks = std::min(kTileBlocks, end - block);
      Centers(layer, hidden, row, rows, block, blocks, at);
      task(row, rows, block * kClassLanes, std::min(last, (block + blocks) * kClassLanes), at);
    }
  });
}

}  // namespace

double EstimateNanoseconds(const QuantisedLayer& layer, size_t rows, size_t classes) {
  const auto logits = static_cast<double>(rows) * static_cast<double>(classes);
  return logits * (0.01 * static_cast<double>(layer.width) + 1.0);
}

Interval IntervalOf(const QuantisedLayer& layer, const RowBounds& bounds, size_t c, double center) {
  const double terms = bounds.by_error * static_cast<double>(layer.error[c]) +
                       bounds.by_norm * static_cast<double>(layer.norm[c]) + std::abs(layer.bias[c]) * 0x1p-51;
  const double radius = terms * (1.0 + 0x1p-45) + bounds.vanished;
  const double lower = center - radius, upper = center + radius;
  if (!(lower > -kInfinity && upper < kInfinity)) return {-kInfinity, kInfinity};
  return {lower - std::abs(lower) * 0x1p-51, upper + std::abs(upper) * 0x1p-51};
}

void SumNumbers(const QuantisedLayer& layer, const NumberRows& p, size_t section, size_t block, size_t blocks,
                int32_t* z) {
  const QuantisedTable& table = ActiveQuantised();
  (layer.bits == 8 ? table.dots8 : table.dots4)(CodesOf(layer, section, block, blocks), p, {z, kTileClasses});
}

void Centers(const QuantisedLayer& layer, const HiddenRows& hidden, size_t row, size_t rows, size_t block,
             size_t blocks, double* at) {
  thread_local Scratch scratch;
  static_assert(sizeof(float) == sizeof(int32_t));
  char* z = scratch.Get(kBlockRows * kTileClasses * sizeof(int32_t));
  const TileSums tile = {layer, rows, block, blocks};
  for (size_t section = 0; section < layer.Sections(); ++section) {
    if (layer.floats) {
      auto* sums = reinterpret_cast<float*>(z);
      SumFloats(layer, hidden, row, rows, section, block, blocks, sums);
      tile.Add(section, sums, at);
    } else {
      auto* sums = reinterpret_cast<int32_t*>(z);
      SumNumbers(layer, hidden.Numbers(row, rows, section), section, block, blocks, sums);
      tile.Add(section, sums, at);
    }
  }
  for (size_t r = 0; r < rows; ++r) tile.Finish(hidden.Bounds(row + r).t, at + r * kTileClasses);
}

void AllCenters(const QuantisedLayer& layer, const HiddenRows& hidden, size_t first, size_t last, double* z) {
  ForEachTile(layer, hidden, first, last, [&](size_t row, size_t rows, size_t begin, size_t end, const double* at) {
    const size_t from = std::max(begin, first);
    for (size_t r = 0; r < rows; ++r) {
      const double* of_row = at + r * kTileClasses;
      std::copy(of_row + (from - begin), of_row + (end - begin), z + (row + r) * (last - first) + (from - first));
    }
  });
}

void AllIntervals(const QuantisedLayer& layer, const HiddenRows& hidden, size_t first, size_t last, double* lower,
                  double* upper) {
  ForEachTile(layer, hidden, first, last, [&](size_t row, size_t rows, size_t begin, size_t end, const double* at) {
    for (size_t r = 0; r < rows; ++r) {
      const size_t to = (row + r) * (last - first);
      for (size_t c = std::max(begin, first); c < end; ++c) {
        const Interval found = IntervalOf(layer, hidden.Bounds(row + r), c, at[r * kTileClasses + (c - begin)]);
        lower[to + (c - first)] = found.lower;
        upper[to + (c - first)] = found.upper;
      }
    }
  });
}

}  // namespace boltzmax

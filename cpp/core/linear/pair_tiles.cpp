#include "pair_tiles.hpp"

#include <cmath>
#include <limits>

#include "../runtime/row_blocks.hpp"
#include "tile_rows.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The least number of columns that a thread adds up.
constexpr size_t kLeastColumns = 256;

// Two exponentials for each element.
double Cost(const LogitTile& tile) { return 3.0 * EstimateNanoseconds(tile.rows * tile.n, tile.storage); }

template <class T>
void AddColumns(const LogitTile& tile, const ColumnTotals& totals, size_t begin, size_t end) {
  const size_t n = end - begin;
  std::vector<T> largest(n), offset(n);
  for (size_t c = 0; c < n; ++c) largest[c] = static_cast<T>(totals.largest[begin + c]);
  const auto for_rows = [&](auto f) {
    for (size_t r = 0; r < tile.rows; r += kSummedRows) {
      f(RowOf<T>(tile, r) + begin, std::min(kSummedRows, tile.rows - r));
    }
  };
  for_rows(
      [&](const T* rows, size_t count) { TileKernelsOf<T>().max_of_columns(rows, tile.n, count, n, largest.data()); });
  for (size_t c = 0; c < n; ++c) {
    const double before = totals.largest[begin + c], now = static_cast<double>(largest[c]);
    totals.largest[begin + c] = now;
    if (now != before) totals.sum[begin + c] *= std::exp(before - now);
    offset[c] = std::isinf(largest[c]) ? T(0) : largest[c];
  }
  for_rows([&](const T* rows, size_t count) {
    TileKernelsOf<T>().sum_exp_of_columns(rows, tile.n, count, n, offset.data(), totals.sum + begin);
  });
}

// exp(s - lse) = exp(s - offset) exp(offset - lse), where the second factor is near 1, and part of the gain.
template <class T>
struct Softmax {
  T offset, gain;
};
template <class T>
Softmax<T> SoftmaxOf(double lse, double scale) {
  const T offset = static_cast<T>(lse);
  if (!std::isfinite(offset)) return {T(0), static_cast<T>(kNan)};
  return {offset, static_cast<T>(scale * std::exp(static_cast<double>(offset) - lse))};
}

template <class T>
class PairWriter {
 public:
  PairWriter(const LogitTile& tile, double temperature, const RowTotals& totals, const double* scale, size_t n,
             const ColumnSlopes& columns)
      : tile_(tile),
        factor_(static_cast<T>(1.0 / temperature)),
        totals_(totals),
        scale_(scale),
        paired_(n),
        columns_(columns),
        offset_(tile.n, static_cast<T>(kInfinity)),  // so that exponentials are 0
        gain_(tile.n) {
    for (size_t c = 0; c < n; ++c) {
      const Softmax<T> column = SoftmaxOf<T>(columns.lse[c], columns.scale);
      offset_[c] = column.offset;
      gain_[c] = column.gain;
    }
  }

  void Run(size_t r) const {
    T* const s = RowOf<T>(tile_, r);
    if (!tile_.scored && factor_ != T(1)) TileKernelsOf<T>().score({s, nullptr, tile_.n, T(0), factor_});
    const Softmax<T> row = SoftmaxOf<T>(totals_.reference[r] + totals_.lse[r], scale_[r]);
    const auto at = static_cast<size_t>(totals_.label[r]) - tile_.first;  // wraps below the tile
    const double own = at < tile_.n ? static_cast<double>(s[at]) : 0.0;
    TileKernelsOf<T>().pair_slope({s, tile_.n, row.offset, row.gain, offset_.data(), gain_.data()});
    if (at >= tile_.n) return;
    // p - 1, which nearly cancels where p is nearly 1
    double slope = scale_[r] * std::expm1(totals_.own[r] - totals_.lse[r]);
    if (at < paired_) slope += columns_.scale * std::expm1(own - columns_.lse[at]);
    s[at] = static_cast<T>(slope);
  }

 private:
  const LogitTile& tile_;
  T factor_;
  const RowTotals& totals_;
  const double* scale_;
  size_t paired_;
  const ColumnSlopes& columns_;
  std::vector<T> offset_, gain_;
};

}  // namespace

void AddToColumns(const LogitTile& tile, size_t n, const ColumnTotals& totals) {
  WithType(tile.storage, [&](auto zero) {
    ParallelBlocks(n, kLeastColumns, Cost(tile),
                   [&](size_t begin, size_t end) { AddColumns<decltype(zero)>(tile, totals, begin, end); });
  });
}

void PairSlopes(const LogitTile& tile, double temperature, const RowTotals& totals, const double* scale, size_t n,
                const ColumnSlopes& columns) {
  WithType(tile.storage, [&](auto zero) {
    using T = decltype(zero);
    const PairWriter<T> writer(tile, temperature, totals, scale, n, columns);
    ForEachRowAndSum<T>(tile, Cost(tile), nullptr, [&](size_t r) { writer.Run(r); });
  });
}

}  // namespace boltzmax

#include "split.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../../kernels/row_sum.hpp"
#include "../runtime/parallel.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A logsumexp, term by term.
class LogSum {
 public:
  void Add(double x) {
    if (x == -kInfinity) return;
    if (x <= max_) {
      sum_ += std::exp(x - max_);
    } else {
      sum_ = max_ == -kInfinity ? 1.0 : sum_ * std::exp(max_ - x) + 1.0;
      max_ = x;
    }
  }
  void Add(const LogSum& other) {
    if (other.max_ > -kInfinity) Add(other.max_ + std::log(other.sum_));
  }
  double Value() const { return max_ == -kInfinity || max_ == kInfinity ? max_ : max_ + std::log(sum_); }

 private:
  double max_ = -kInfinity, sum_ = 0.0;
};

// Sums of float exponentials are right to about 2^-22, those of doubles to far less.
constexpr double kFloatError = 1e-6, kDoubleError = 1e-9;
struct SumAndMax {
  double lse, max;
};
SumAndMax SumOf(const float* x, size_t n) {
  const StorageKernels& kernels = KernelsFor(DType::kFloat32);
  const RowSum sum = kernels.reduce({x, nullptr, nullptr, n, 1.0, false, false});
  return {LogSumExpOf(sum, IsDegenerate(sum) ? Sum{} : kernels.log_of_sum(sum), 1.0), sum.max};
}

// The logsumexp of a tile's lower bounds, that of its upper bounds, and a bound of them all.
struct TileSums {
  double low, high, largest;
};

// One row, or a thread's part of it.
class RowSplit {
 public:
  void AddAbove(int64_t id, Interval logit) { above_.push_back({id, logit}); }
  void AddRest(double lower, double upper) {
    low_.Add(lower);
    high_.Add(upper);
  }
  void Offer(int64_t id, Interval logit, double bar) {
    if (logit.upper > bar) {
      AddAbove(id, logit);
    } else {
      AddRest(logit.lower, logit.upper);
    }
  }

  void Join(RowSplit& other) {
    above_.insert(above_.end(), other.above_.begin(), other.above_.end());
    low_.Add(other.low_);
    high_.Add(other.high_);
  }

  // Classes that joined before the bar was as high are sorted out.
  RowParts Take(double bar) {
    std::erase_if(above_, [&](const BoundedClass& c) {
      if (c.logit.upper > bar) return false;
      AddRest(c.logit.lower, c.logit.upper);
      return true;
    });
    const auto outwards = [](double x) { return kDoubleError + 0x1p-46 * std::abs(x); };
    const double low = low_.Value(), high = high_.Value();
    return {std::move(above_),
            {IsFinite(low) ? low - outwards(low) : low, IsFinite(high) ? high + outwards(high) : high}};
  }

 private:
  std::vector<BoundedClass> above_;
  LogSum low_, high_;
};

// What all rows need of a tile.
struct TileBounds {
  size_t first, n;
  float error = 0.0f, norm = 0.0f;
  double bias = 0.0;

  TileBounds(const QuantisedLayer& layer, size_t begin, size_t count) : first(begin), n(count) {
    for (size_t c = first; c < first + n; ++c) {
      error = std::max(error, layer.error[c]);
      norm = std::max(norm, layer.norm[c]);
      bias = std::max(bias, std::abs(layer.bias[c]));
    }
  }
};

// The classes of a tile for one row.
class TileOfRow {
 public:
  TileOfRow(const QuantisedLayer& layer, const RowBounds& row, const TileBounds& tile, const double* centers)
      : layer_(layer), row_(row), tile_(tile), centers_(centers) {
    const auto error = static_cast<double>(tile.error), norm = static_cast<double>(tile.norm);
    const double size = 2.0 * (row.by_error + row.by_norm) * norm + tile.bias;  // above that of every center
    radius_ =
        (row.by_error * error + row.by_norm * norm) * (1.0 + 0x1p-18) + size * 0x1p-20 + 4.0 * row.vanished + 1e-29;
    constexpr double kMost = 1e30;  // of numbers whose sums do not overflow in float
    in_float_ = size + radius_ < kMost && row.by_error < kMost && row.by_norm < kMost;
  }

  TileSums Sums() {
    if (!in_float_) return SumsInDouble();
    SetBounds();
    const SumAndMax high = SumOf(upper_, tile_.n);
    return {SumOf(lower_, tile_.n).lse - kFloatError, high.lse + kFloatError, high.max};
  }

  // The same from the upper bounds alone: the lower ones are at most two radii below.
  TileSums FastSums() {
    if (!in_float_) return SumsInDouble();
    SetBounds();
    const SumAndMax high = SumOf(upper_, tile_.n);
    return {high.lse - 2.0 * radius_ - kFloatError, high.lse + kFloatError, high.max};
  }

  // Divides the classes at the bar.
  void Divide(double bar, RowSplit& split) {
    if (!in_float_) {
      for (size_t i = 0; i < tile_.n; ++i) split.Offer(Id(i), IntervalAt(i), bar);
      return;
    }
    SetBounds();
    for (size_t i = 0; i < tile_.n; ++i) {
      if (!(static_cast<double>(upper_[i]) > bar)) continue;
      const Interval logit = IntervalAt(i);
      if (!(logit.upper > bar)) continue;
      split.AddAbove(Id(i), logit);
      lower_[i] = upper_[i] = -std::numeric_limits<float>::infinity();
    }
    split.AddRest(SumOf(lower_, tile_.n).lse - kFloatError, SumOf(upper_, tile_.n).lse + kFloatError);
  }

 private:
  int64_t Id(size_t i) const { return static_cast<int64_t>(tile_.first + i); }
  Interval IntervalAt(size_t i) const { return IntervalOf(layer_, row_, tile_.first + i, centers_[i]); }

  TileSums SumsInDouble() const {
    LogSum low, high;
    double largest = -kInfinity;
    for (size_t i = 0; i < tile_.n; ++i) {
      const Interval logit = IntervalAt(i);
      low.Add(logit.lower);
      high.Add(logit.upper);
      largest = std::max(largest, logit.upper);
    }
    return {low.Value() - kDoubleError, high.Value() + kDoubleError, largest};
  }

  // Every term is enlarged by more than a few roundings in float can lose.
  void SetBounds() {
    constexpr double kMore = 1.0 + 0x1p-20;
    const auto by_error = static_cast<float>(row_.by_error * kMore), by_norm = static_cast<float>(row_.by_norm * kMore);
    const auto least = static_cast<float>(tile_.bias * 0x1p-49 + 2.0 * row_.vanished + 1e-30);
    const float *error = layer_.error + tile_.first, *norm = layer_.norm + tile_.first;
    for (size_t i = 0; i < tile_.n; ++i) {
      const auto center = static_cast<float>(centers_[i]);
      const float radius = by_error * error[i] + by_norm * norm[i] + std::abs(center) * 0x1p-21f + least;
      lower_[i] = center - radius;
      upper_[i] = center + radius;
    }
  }

  const QuantisedLayer& layer_;
  const RowBounds& row_;
  const TileBounds& tile_;
  const double* centers_;
  double radius_;
  bool in_float_;
  alignas(64) float lower_[kTileClasses];
  alignas(64) float upper_[kTileClasses];
};

// Calls f(row, classes) for rows from `row` on, with the classes of a tile.
template <class F>
void ReadTile(const QuantisedLayer& layer, const HiddenRows& hidden, size_t row, size_t rows, size_t tile, F f) {
  thread_local Scratch scratch;
  auto* at = reinterpret_cast<double*>(scratch.Get(kBlockRows * kTileClasses * sizeof(double)));
  const size_t block = tile * kTileBlocks, blocks = std::min(kTileBlocks, layer.blocks - block);
  Centers(layer, hidden, row, rows, block, blocks, at);
  const size_t first = block * kClassLanes;
  const TileBounds bounds(layer, first, std::min(layer.classes - first, blocks * kClassLanes));
  for (size_t r = 0; r < rows; ++r) f(row + r, TileOfRow(layer, hidden.Bounds(row + r), bounds, at + r * kTileClasses));
}

// Goes through the tiles in spans. A first pass over a span sums up each tile; the sum so far gives the bar; a second
// pass reads the few tiles again that have classes above it.
class SpanSplit {
 public:
  SpanSplit(const QuantisedLayer& layer, const HiddenRows& hidden, const SplitProblem& p, size_t tiles)
      : layer_(layer),
        hidden_(hidden),
        p_(p),
        rows_(hidden.Count()),
        tiles_(tiles),
        bar_(p.bar, p.bar + rows_),
        known_(rows_),
        known_value_(rows_, -kInfinity),
        splits_(rows_) {}

  void Run(size_t first, size_t tiles) {
    sums_.resize(tiles * rows_);
    const double cost = EstimateNanoseconds(layer_, rows_, tiles * kTileClasses);
    ForTiles(tiles, cost, [&](size_t row, size_t rows, size_t tile) {
      ReadTile(layer_, hidden_, row, rows, first + tile, [&](size_t r, TileOfRow&& classes) {
        sums_[tile * rows_ + r] = p_.n == 0 ? classes.Sums() : classes.FastSums();
      });
    });
    for (size_t tile = 0; tile < tiles; ++tile) {
      for (size_t r = 0; r < rows_; ++r) known_[r].Add(sums_[tile * rows_ + r].low);
    }
    for (size_t r = 0; r < rows_; ++r) Raise(r, tiles);
    std::vector<RowSplit> parts(tiles * rows_);
    ForTiles(tiles, cost, [&](size_t row, size_t rows, size_t tile) {
      Resolve(row, rows, first, tile, parts.data() + tile * rows_);
    });
    for (size_t tile = 0; tile < tiles; ++tile) {
      for (size_t r = 0; r < rows_; ++r) splits_[r].Join(parts[tile * rows_ + r]);
    }
  }

  std::vector<RowParts> Take() {
    std::vector<RowParts> found;
    found.reserve(rows_);
    for (size_t r = 0; r < rows_; ++r) found.push_back(splits_[r].Take(bar_[r]));
    return found;
  }

 private:
  template <class F>
  void ForTiles(size_t tiles, double cost, F f) const {
    constexpr size_t kLeast = 8;
    ParallelBlocks(tiles, kLeast, cost, [&](size_t begin, size_t end) {
      for (size_t row = 0; row < rows_; row += kBlockRows) {
        for (size_t tile = begin; tile < end; ++tile) f(row, std::min(kBlockRows, rows_ - row), tile);
      }
    });
  }

  void Raise(size_t r, size_t tiles) {
    known_value_[r] = known_[r].Value();
    if (p_.n == 0) return;
    const double *gap = p_.gap + r * p_.n, *end = gap + p_.n;
    const auto fine = static_cast<size_t>(std::upper_bound(gap, end, known_value_[r] + p_.allowed) - gap);
    if (static_cast<double>(p_.n - fine) > p_.share * static_cast<double>(p_.n)) {
      bar_[r] = kInfinity;
    } else if (fine == p_.n) {
      bar_[r] = std::max(bar_[r], BarOfTiles(r, tiles));
    } else if (fine > 0) {
      bar_[r] = std::max(bar_[r], p_.upper[r * p_.n + fine - 1]);
    }
  }

  // The least bar at which the tiles below it, and as many classes in each of the others, keep the budget.
  double BarOfTiles(size_t r, size_t tiles) {
    ranked_.clear();
    double total = 0.0;
    for (size_t tile = 0; tile < tiles; ++tile) {
      const TileSums& s = sums_[tile * rows_ + r];
      const double gap = std::exp(s.high - known_value_[r]) - std::exp(s.low - known_value_[r]);
      ranked_.push_back({s.largest, gap});
      total += gap;
    }
    const double share = static_cast<double>(tiles) / static_cast<double>(tiles_);
    const double budget = std::exp(p_.budget) * share;
    std::sort(ranked_.begin(), ranked_.end(), [](const Ranked& a, const Ranked& b) { return a.largest > b.largest; });
    size_t taken = 0;
    const auto keeps = [&] {
      const auto left = static_cast<double>(tiles - taken);
      return total * static_cast<double>(tiles) <= budget * left;
    };
    while (taken < tiles && !keeps()) total -= ranked_[taken++].gap;
    if (taken == tiles) return -kInfinity;
    return taken == 0 ? kInfinity : ranked_[taken].largest;
  }

  void Resolve(size_t row, size_t rows, size_t first, size_t tile, RowSplit* parts) const {
    const TileSums* sums = sums_.data() + tile * rows_;
    const auto is_above = [&](size_t r) { return sums[r].largest > bar_[r]; };
    size_t count = 0;
    for (size_t r = row; r < row + rows; ++r) {
      if (is_above(r)) {
        ++count;
      } else {
        parts[r].AddRest(sums[r].low, sums[r].high);
      }
    }
    const auto divide = [&](size_t r, TileOfRow&& classes) {
      if (is_above(r)) classes.Divide(bar_[r], parts[r]);
    };
    if (4 * count > rows) return ReadTile(layer_, hidden_, row, rows, first + tile, divide);
    for (size_t r = row; r < row + rows && count > 0; ++r) {
      if (is_above(r)) ReadTile(layer_, hidden_, r, 1, first + tile, divide);
    }
  }

  struct Ranked {
    double largest, gap;
  };

  const QuantisedLayer& layer_;
  const HiddenRows& hidden_;
  const SplitProblem& p_;
  size_t rows_, tiles_;
  std::vector<Ranked> ranked_;
  std::vector<double> bar_;
  std::vector<LogSum> known_;  // of lower bounds of all classes so far
  std::vector<double> known_value_;
  std::vector<RowSplit> splits_;
  std::vector<TileSums> sums_;
};

}  // namespace

std::vector<RowParts> Split(const QuantisedLayer& layer, const HiddenRows& hidden, const SplitProblem& p) {
  const size_t rows = hidden.Count(), tiles = (layer.blocks + kTileBlocks - 1) / kTileBlocks;
  if (rows == 0) return {};
  // What is kept of the tiles of a span takes up to 64 MB or so.
  const size_t span = std::max<size_t>(64, (size_t{1} << 19) / rows);
  SpanSplit split(layer, hidden, p, tiles);
  for (size_t first = 0; first < tiles; first += span) split.Run(first, std::min(span, tiles - first));
  return split.Take();
}

}  // namespace boltzmax

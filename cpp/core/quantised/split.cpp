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
// Tiles whose classes together are below this share of the sum are bounded by their largest class; there are at most
// 2^20 such tiles per 2^28 classes.
constexpr double kNegligible = 28.0;  // nats

double LogSumOf(const float* x, size_t n) {
  const StorageKernels& kernels = KernelsFor(DType::kFloat32);
  const RowSum sum = kernels.reduce({x, nullptr, nullptr, n, 1.0, false, false});
  return LogSumExpOf(sum, IsDegenerate(sum) ? Sum{} : kernels.log_of_sum(sum), 1.0);
}

// One row, or a thread's part of it.
class RowSplit {
 public:
  RowSplit(double bar, const Levels& levels) : levels_(levels), bar_(bar) {}

  double Bar() const { return bar_; }
  // Whether classes whose upper bounds are at most this do not matter.
  bool IsNegligible(double upper) const { return upper <= bar_ && upper < known_value_ - kNegligible; }

  void AddAbove(int64_t id, Interval logit) {
    above_.push_back({id, logit});
    if (above_.size() >= room_) Prune();
  }
  // All lower bounds of a tile; and the bounds of the classes that are not above the bar.
  void AddKnown(double lower) {
    known_.Add(lower);
    known_value_ = known_.Value();
    Raise();
  }
  void AddRest(double lower, double upper) {
    low_.Add(lower);
    high_.Add(upper);
  }

  void Join(RowSplit& other) {
    above_.insert(above_.end(), other.above_.begin(), other.above_.end());
    low_.Add(other.low_);
    high_.Add(other.high_);
    known_.Add(other.known_);
    known_value_ = known_.Value();
    Raise();
  }

  RowParts Take() {
    Prune();
    const auto outwards = [](double x) { return kDoubleError + 0x1p-46 * std::abs(x); };
    const double low = low_.Value(), high = high_.Value();
    return {std::move(above_),
            {IsFinite(low) ? low - outwards(low) : low, IsFinite(high) ? high + outwards(high) : high}};
  }

 private:
  static constexpr size_t kLeastRoom = 4096;

  void Raise() {
    if (levels_.n == 0) return;
    const double* end = levels_.gap + levels_.n;
    const auto fine = std::upper_bound(levels_.gap, end, known_value_ + levels_.allowed) - levels_.gap;
    if (fine > 0) bar_ = std::max(bar_, levels_.upper[fine - 1]);
  }

  // Adds classes that are no longer above the bar to the rest.
  void Prune() {
    std::erase_if(above_, [this](const BoundedClass& c) {
      if (c.logit.upper > bar_) return false;
      AddRest(c.logit.lower, c.logit.upper);
      return true;
    });
    room_ = std::max(kLeastRoom, 2 * above_.size());
  }

  Levels levels_;
  double bar_, known_value_ = -kInfinity;
  size_t room_ = kLeastRoom;
  std::vector<BoundedClass> above_;
  LogSum low_, high_, known_;
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

struct Extent {
  double low, high;
};
Extent ExtentOf(const double* x, size_t n) {
  constexpr size_t kLanes = 8;
  double low[kLanes], high[kLanes];
  std::fill_n(low, kLanes, kInfinity);
  std::fill_n(high, kLanes, -kInfinity);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
      high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
    }
  }
  for (; i < n; ++i) {
    low[0] = x[i] < low[0] ? x[i] : low[0];
    high[0] = x[i] > high[0] ? x[i] : high[0];
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}

class TileOfRow {
 public:
  TileOfRow(const QuantisedLayer& layer, const RowBounds& row, const TileBounds& tile, const double* centers)
      : layer_(layer), row_(row), tile_(tile), centers_(centers), extent_(ExtentOf(centers, tile.n)) {
    radius_ = (row.by_error * static_cast<double>(tile.error) + row.by_norm * static_cast<double>(tile.norm) +
               tile.bias * 0x1p-50) *
                  (1.0 + 0x1p-40) +
              Size() * 0x1p-48 + 1e-30;
  }

  void AddTo(RowSplit& split) const {
    const double upper = extent_.high + radius_ + std::log(static_cast<double>(tile_.n));
    if (split.IsNegligible(upper)) return split.AddRest(-kInfinity, upper);
    constexpr double kMost = 1e30;  // of numbers whose sums do not overflow in float
    if (Size() + radius_ < kMost && row_.by_error < kMost && row_.by_norm < kMost) return AddInFloat(split);
    for (size_t i = 0; i < tile_.n; ++i) {
      const Interval logit = IntervalAt(i);
      split.AddKnown(logit.lower);
      Offer(split, i, logit);
    }
  }

 private:
  double Size() const { return std::max(std::abs(extent_.low), std::abs(extent_.high)); }
  Interval IntervalAt(size_t i) const { return IntervalOf(layer_, row_, tile_.first + i, centers_[i]); }

  bool Offer(RowSplit& split, size_t i, Interval logit) const {
    if (logit.upper > split.Bar()) {
      split.AddAbove(static_cast<int64_t>(tile_.first + i), logit);
      return true;
    }
    split.AddRest(logit.lower, logit.upper);
    return false;
  }

  // Every term is enlarged by more than a few roundings in float can lose.
  void AddInFloat(RowSplit& split) const {
    alignas(64) float lower[kTileClasses], upper[kTileClasses];
    constexpr double kMore = 1.0 + 0x1p-20;
    const auto by_error = static_cast<float>(row_.by_error * kMore), by_norm = static_cast<float>(row_.by_norm * kMore);
    const auto least = static_cast<float>(tile_.bias * 0x1p-49 + 1e-30);
    const float *error = layer_.error + tile_.first, *norm = layer_.norm + tile_.first;
    for (size_t i = 0; i < tile_.n; ++i) {
      const auto center = static_cast<float>(centers_[i]);
      const float radius = by_error * error[i] + by_norm * norm[i] + std::abs(center) * 0x1p-21f + least;
      lower[i] = center - radius;
      upper[i] = center + radius;
    }
    split.AddKnown(LogSumOf(lower, tile_.n) - kFloatError);
    if (extent_.high + radius_ > split.Bar()) {
      for (size_t i = 0; i < tile_.n; ++i) {
        if (!(static_cast<double>(upper[i]) > split.Bar())) continue;
        const Interval logit = IntervalAt(i);
        if (!(logit.upper > split.Bar())) continue;
        split.AddAbove(static_cast<int64_t>(tile_.first + i), logit);
        lower[i] = upper[i] = -std::numeric_limits<float>::infinity();
      }
    }
    split.AddRest(LogSumOf(lower, tile_.n) - kFloatError, LogSumOf(upper, tile_.n) + kFloatError);
  }

  const QuantisedLayer& layer_;
  const RowBounds& row_;
  const TileBounds& tile_;
  const double* centers_;
  Extent extent_;
  double radius_;
};

void ReadTile(const QuantisedLayer& layer, const HiddenRows& hidden, size_t row, size_t rows, size_t tile,
              RowSplit* splits) {
  thread_local Scratch scratch;
  auto* at = reinterpret_cast<double*>(scratch.Get(kBlockRows * kTileClasses * sizeof(double)));
  const size_t block = tile * kTileBlocks, blocks = std::min(kTileBlocks, layer.blocks - block);
  Centers(layer, hidden, row, rows, block, blocks, at);
  const size_t first = block * kClassLanes;
  const TileBounds bounds(layer, first, std::min(layer.classes - first, blocks * kClassLanes));
  for (size_t r = 0; r < rows; ++r) {
    TileOfRow(layer, hidden.Bounds(row + r), bounds, at + r * kTileClasses).AddTo(splits[r]);
  }
}

}  // namespace

std::vector<RowParts> Split(const QuantisedLayer& layer, const HiddenRows& hidden, const SplitProblem& p) {
  const size_t rows = hidden.Count(), row_blocks = (rows + kBlockRows - 1) / kBlockRows;
  const size_t tiles = (layer.blocks + kTileBlocks - 1) / kTileBlocks;
  const double cost = 2.0 * EstimateNanoseconds(layer, rows, layer.classes);
  const auto threads = static_cast<size_t>(UsableThreads(cost));
  const size_t parts = threads == 1 ? 1 : std::max<size_t>(1, std::min(tiles / 8, 2 * threads));
  std::vector<RowSplit> splits;
  for (size_t part = 0; part < parts; ++part) {
    for (size_t r = 0; r < rows; ++r) {
      splits.emplace_back(p.bar[r], p.n == 0 ? Levels{} : Levels{p.upper + r * p.n, p.gap + r * p.n, p.n, p.allowed});
    }
  }
  ParallelFor(parts * row_blocks, cost, [&](size_t task) {
    const size_t part = task % parts, row = task / parts * kBlockRows, some = std::min(kBlockRows, rows - row);
    for (size_t tile = tiles * part / parts; tile < tiles * (part + 1) / parts; ++tile) {
      ReadTile(layer, hidden, row, some, tile, splits.data() + part * rows + row);
    }
  });
  std::vector<RowParts> found;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t part = 1; part < parts; ++part) splits[r].Join(splits[part * rows + r]);
    found.push_back(splits[r].Take());
  }
  return found;
}

}  // namespace boltzmax

#include "search.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "../runtime/quantised_table.hpp"
#include "../runtime/row_blocks.hpp"
#include "float_bounds.hpp"
#include "search_parts.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The classes of one row found so far.
class RowSearch {
 public:
  explicit RowSearch(size_t k) : k_(k) {}

  // At most the k-th largest lower bound.
  double Threshold() const { return threshold_; }

  void Offer(int64_t id, Interval logit) {
    if (!(logit.upper >= threshold_)) return;
    found_.push_back({id, logit});
    if (logit.lower > threshold_ || best_.size() < k_) Raise(logit.lower);
    if (found_.size() >= room_) Prune();
  }

  // Drops what cannot be among the k.
  void Prune() {
    std::erase_if(found_, [this](const BoundedClass& c) { return !(c.logit.upper >= threshold_); });
    room_ = std::max(kLeastRoom, 2 * found_.size());
  }

  std::vector<BoundedClass> Take() { return std::move(found_); }

 private:
  static constexpr size_t kLeastRoom = 4096;

  // `best_` is a heap of the largest lower bounds, with the smallest of them first.
  void Raise(double lower) {
    best_.push_back(lower);
    std::push_heap(best_.begin(), best_.end(), std::greater<>());
    if (best_.size() > k_) {
      std::pop_heap(best_.begin(), best_.end(), std::greater<>());
      best_.pop_back();
    }
    if (best_.size() == k_) threshold_ = best_.front();
  }

  size_t k_, room_ = kLeastRoom;
  double threshold_ = -kInfinity;
  std::vector<double> best_;
  std::vector<BoundedClass> found_;
};

// The part of a search that one thread does: some rows, and tiles from `begin` to `end`.
class PartSearch {
 public:
  PartSearch(const QuantisedLayer& layer, const HiddenRows& hidden, size_t row, size_t rows, RowSearch* searches)
      : layer_(layer), hidden_(hidden), row_(row), rows_(rows), searches_(searches) {
    bool usable = !layer.floats && layer.groups == 1 && layer.Sections() == 1;
    for (size_t r = 0; r < rows; ++r) {
      bounds_.emplace_back(layer, hidden.Bounds(row + r));
      usable &= bounds_.back().usable;
    }
    in_float_ = usable;
  }

  void Read(size_t block, size_t blocks) {
    if (in_float_) {
      ReadInFloat(block, blocks);
    } else {
      ReadInDouble(block, blocks);
    }
  }

 private:
  void ReadInFloat(size_t block, size_t blocks) {
    thread_local Scratch scratch;
    auto* z = reinterpret_cast<int32_t*>(scratch.Get(kBlockRows * kTileClasses * sizeof(int32_t)));
    SumNumbers(layer_, hidden_.Numbers(row_, rows_, 0), 0, block, blocks, z);
    const size_t first = block * kClassLanes;
    const size_t n = blocks * kClassLanes, known = std::min(layer_.classes - first, n);
    uint32_t reaching[kTileClasses];
    for (size_t r = 0; r < rows_; ++r) {
      const FloatBounds& f = bounds_[r];
      const int32_t* of_row = z + r * kTileClasses;
      const double threshold = searches_[r].Threshold();
      const float least = FloatBelow(threshold - std::abs(threshold) * 0x1p-20 - 0x1p-120);
      const size_t count = ActiveQuantised().find_reaching(f.Of(layer_, of_row, first, n), least, reaching);
      const RowBounds& row = hidden_.Bounds(row_ + r);
      for (size_t i = 0; i < count && reaching[i] < known; ++i) {
        const size_t c = first + reaching[i];
        const double center = row.t * static_cast<double>(layer_.scale[c]) * of_row[reaching[i]] + layer_.bias[c];
        searches_[r].Offer(static_cast<int64_t>(c), IntervalOf(layer_, row, c, center));
      }
    }
  }

  void ReadInDouble(size_t block, size_t blocks) {
    thread_local Scratch scratch;
    auto* at = reinterpret_cast<double*>(scratch.Get(kBlockRows * kTileClasses * sizeof(double)));
    Centers(layer_, hidden_, row_, rows_, block, blocks, at);
    const size_t first = block * kClassLanes, end = std::min(layer_.classes, first + blocks * kClassLanes);
    for (size_t r = 0; r < rows_; ++r) {
      const RowBounds& row = hidden_.Bounds(row_ + r);
      for (size_t c = first; c < end; ++c) {
        const double center = at[r * kTileClasses + (c - first)];
        if (IsSurelyBelow(row, c, center, searches_[r].Threshold())) continue;
        searches_[r].Offer(static_cast<int64_t>(c), IntervalOf(layer_, row, c, center));
      }
    }
  }

  // A quick test that rules out most classes: an upper bound that is a little larger than that of IntervalOf.
  bool IsSurelyBelow(const RowBounds& row, size_t c, double center, double threshold) const {
    constexpr double kMore = 1.0 + 0x1p-40, kRounding = 0x1p-45;
    const double terms =
        row.by_error * static_cast<double>(layer_.error[c]) + row.by_norm * static_cast<double>(layer_.norm[c]);
    const double sizes = std::abs(center) + std::abs(layer_.bias[c]);
    return center + terms * kMore + sizes * kRounding + 2.0 * row.vanished < threshold;
  }

  const QuantisedLayer& layer_;
  const HiddenRows& hidden_;
  size_t row_, rows_;
  RowSearch* searches_;
  std::vector<FloatBounds> bounds_;
  bool in_float_;
};

// Joins what the parts of a row have found.
std::vector<BoundedClass> Joined(const std::vector<RowSearch*>& parts, size_t k) {
  RowSearch all(k);
  for (RowSearch* part : parts) {
    for (const BoundedClass& c : part->Take()) all.Offer(c.id, c.logit);
  }
  all.Prune();
  return all.Take();
}

}  // namespace

std::vector<std::vector<BoundedClass>> FindCandidates(const QuantisedLayer& layer, const HiddenRows& hidden, size_t k) {
  const size_t rows = hidden.Count();
  const SearchParts work(layer, rows, EstimateNanoseconds(layer, rows, layer.classes));
  std::vector<RowSearch> searches(work.parts * rows, RowSearch(k));
  work.ForEach([&](size_t part, size_t row, size_t some, size_t begin, size_t end) {
    PartSearch search(layer, hidden, row, some, searches.data() + part * rows + row);
    for (size_t tile = begin; tile < end; ++tile) {
      search.Read(tile * kTileBlocks, std::min(kTileBlocks, layer.blocks - tile * kTileBlocks));
    }
  });
  std::vector<std::vector<BoundedClass>> found(rows);
  for (size_t r = 0; r < rows; ++r) {
    std::vector<RowSearch*> of_row;
    of_row.reserve(work.parts);
    for (size_t part = 0; part < work.parts; ++part) of_row.push_back(&searches[part * rows + r]);
    found[r] = Joined(of_row, k);
  }
  return found;
}

}  // namespace boltzmax

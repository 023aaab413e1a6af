#include "winners.hpp"

#include "../runtime/quantised_table.hpp"
#include "../runtime/row_blocks.hpp"
#include "float_bounds.hpp"
#include "search_parts.hpp"

namespace boltzmax {

namespace {

// What one thread does: tiles for some rows.
class PartDraw {
 public:
  PartDraw(const QuantisedLayer& layer, const HiddenRows& hidden, Logits logits, size_t row, size_t rows,
           WinnerSearch* searches)
      : layer_(layer), hidden_(hidden), logits_(logits), row_(row), rows_(rows), searches_(searches) {
    in_float_ = !layer.floats && layer.groups == 1 && layer.Sections() == 1;
    for (size_t r = 0; r < rows; ++r) {
      bounds_.emplace_back(layer, hidden.Bounds(row + r));
      in_float_ &= bounds_.back().usable;
    }
  }

  void Read(size_t block, size_t blocks) {
    const size_t first = block * kClassLanes, n = std::min(layer_.classes - first, blocks * kClassLanes);
    if (in_float_) {
      ReadInFloat(block, blocks, first, n);
    } else {
      ReadInDouble(block, blocks, first, n);
    }
  }

 private:
  void ReadInFloat(size_t block, size_t blocks, size_t first, size_t n) {
    thread_local Scratch scratch;
    auto* z = reinterpret_cast<int32_t*>(scratch.Get(kBlockRows * kTileClasses * sizeof(int32_t)));
    SumNumbers(layer_, hidden_.Numbers(row_, rows_, 0), 0, block, blocks, z);
    for (size_t r = 0; r < rows_; ++r) {
      const int32_t* of_row = z + r * kTileClasses;
      ActiveQuantised().upper_bounds(bounds_[r].Of(layer_, of_row, first, blocks * kClassLanes), upper_);
      const double t = hidden_.Bounds(row_ + r).t;
      Search(r, first, n, [&](size_t i) {
        return t * static_cast<double>(layer_.scale[first + i]) * of_row[i] + layer_.bias[first + i];
      });
    }
  }

  void ReadInDouble(size_t block, size_t blocks, size_t first, size_t n) {
    thread_local Scratch scratch;
    auto* at = reinterpret_cast<double*>(scratch.Get(kBlockRows * kTileClasses * sizeof(double)));
    Centers(layer_, hidden_, row_, rows_, block, blocks, at);
    for (size_t r = 0; r < rows_; ++r) {
      const double* centers = at + r * kTileClasses;
      for (size_t i = 0; i < n; ++i) upper_[i] = RoundedUp(IntervalAt(r, first + i, centers[i]).upper);
      Search(r, first, n, [=](size_t i) { return centers[i]; });
    }
  }

  template <class CenterAt>
  void Search(size_t r, size_t first, size_t n, CenterAt center) {
    searches_[r].Read(upper_, n, first, keys_, [&](size_t i) { return IntervalAt(r, first + i, center(i)); });
  }

  Interval IntervalAt(size_t r, size_t c, double center) const {
    if (logits_ == Logits::kStored) return {center, center};
    return IntervalOf(layer_, hidden_.Bounds(row_ + r), c, center);
  }

  const QuantisedLayer& layer_;
  const HiddenRows& hidden_;
  Logits logits_;
  size_t row_, rows_;
  WinnerSearch* searches_;
  std::vector<FloatBounds> bounds_;
  bool in_float_;
  alignas(64) float upper_[kTileClasses];
  alignas(64) float keys_[kTileClasses];
};

}  // namespace

std::vector<std::vector<PossibleWinner>> FindWinners(const QuantisedLayer& layer, const HiddenRows& hidden,
                                                     Logits logits, uint64_t key, uint64_t first_row) {
  const size_t rows = hidden.Count();
  const double noise = static_cast<double>(rows) * static_cast<double>(layer.classes);  // a nanosecond each
  const SearchParts work(layer, rows, EstimateNanoseconds(layer, rows, layer.classes) + noise);
  const PhiloxKey rounds = MakePhiloxKey(key);
  std::vector<WinnerSearch> searches;
  searches.reserve(work.parts * rows);
  for (size_t i = 0; i < work.parts * rows; ++i) searches.emplace_back(rounds, first_row + i % rows);
  work.ForEach([&](size_t part, size_t row, size_t some, size_t begin, size_t end) {
    PartDraw draw(layer, hidden, logits, row, some, searches.data() + part * rows + row);
    for (size_t tile = begin; tile < end; ++tile) {
      draw.Read(tile * kTileBlocks, std::min(kTileBlocks, layer.blocks - tile * kTileBlocks));
    }
  });
  std::vector<std::vector<PossibleWinner>> found(rows);
  for (size_t r = 0; r < rows; ++r) {
    double best = -std::numeric_limits<double>::infinity();
    for (size_t part = 0; part < work.parts; ++part) best = std::max(best, searches[part * rows + r].Best());
    for (size_t part = 0; part < work.parts; ++part) {
      WinnerSearch& search = searches[part * rows + r];
      search.RaiseTo(best);
      const auto some = search.Take();
      found[r].insert(found[r].end(), some.begin(), some.end());
    }
  }
  return found;
}

}  // namespace boltzmax

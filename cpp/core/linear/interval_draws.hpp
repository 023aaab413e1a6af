// The classes that may win a draw by Gumbel noise, given intervals of their logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "../variants/draw_rows.hpp"
#include "interval.hpp"

namespace boltzmax {

// A tile of intervals, `rows` x n in C order: classes from `first` on, a multiple of four.
struct IntervalTile {
  const double* lower;
  const double* upper;
  size_t rows, n, first;
};

struct PossibleWinner {
  int64_t row, id;
  double noise;
  double upper;  // bound of the class's key, logit + noise
};

// The classes of a row whose keys may be the largest, found tile by tile. The noise is that of gumbel_topk: it depends
// on the key, the row and the class alone.
class WinnerSearch {
 public:
  // `best` is a lower bound of the largest key.
  WinnerSearch(const PhiloxKey& key, uint64_t row, double best = -std::numeric_limits<double>::infinity())
      : key_(&key), row_(row), best_(best) {}

  double Best() const { return best_; }
  void RaiseTo(double best) { best_ = std::max(best_, best); }

  // Classes from `first` on, a multiple of four: `upper` bounds their logits in float, interval(i) in double. `bounds`
  // is room for n numbers. A pass in single precision bounds the keys; noise in double is computed only where they may
  // be large enough.
  template <class IntervalAt>
  void Read(const float* upper, size_t n, size_t first, float* bounds, IntervalAt interval) {
    const float largest = ActiveDraws().f32.key_bounds(upper, n, 0.0f, 1.0, *key_, row_, first, bounds);
    if (static_cast<double>(largest) < KeyBar(best_)) return;
    const auto likeliest = static_cast<size_t>(std::find(bounds, bounds + n, largest) - bounds);
    if (likeliest < n) RaiseTo(Lower(interval(likeliest).lower, NoiseOf(first + likeliest)));
    for (size_t i = 0; i < n; ++i) {
      if (static_cast<double>(bounds[i]) < KeyBar(best_)) continue;
      const Interval logit = interval(i);
      const double noise = NoiseOf(first + i), most = Upper(logit.upper, noise);
      RaiseTo(Lower(logit.lower, noise));
      if (most >= best_) found_.push_back({static_cast<int64_t>(row_), static_cast<int64_t>(first + i), noise, most});
    }
    if (found_.size() >= room_) Prune();
  }

  std::vector<PossibleWinner> Take() {
    Prune();
    return std::move(found_);
  }

 private:
  static constexpr size_t kLeastRoom = 4096;

  // Keys are logits plus noise; their sum is rounded, outwards here.
  static double Lower(double logit, double noise) {
    return logit + noise - 0x1p-51 * (std::abs(logit) + std::abs(noise));
  }
  static double Upper(double logit, double noise) {
    return logit + noise + 0x1p-51 * (std::abs(logit) + std::abs(noise));
  }

  double NoiseOf(size_t id) const { return GumbelAt(*key_, row_, id); }

  void Prune() {
    std::erase_if(found_, [this](const PossibleWinner& w) { return w.upper < best_; });
    room_ = std::max(kLeastRoom, 2 * found_.size());
  }

  const PhiloxKey* key_;
  uint64_t row_;
  double best_;
  size_t room_ = kLeastRoom;
  std::vector<PossibleWinner> found_;
};

inline float RoundedUp(double x) {
  const auto rounded = static_cast<float>(x);
  return static_cast<double>(rounded) < x ? std::nextafter(rounded, std::numeric_limits<float>::infinity()) : rounded;
}

// Appends the classes of a tile whose key may exceed `best`, the largest lower bound of a row's keys so far, which the
// tile raises; their rows are counted from 0. Row r has the noise of row `first_row` + r.
void FindWinners(const IntervalTile& tile, uint64_t key, uint64_t first_row, double* best,
                 std::vector<PossibleWinner>& found);

}  // namespace boltzmax

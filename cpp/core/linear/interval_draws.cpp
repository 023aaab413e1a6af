#include "interval_draws.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../variants/draw_rows.hpp"

namespace boltzmax {

namespace {

float RoundedUp(double x) {
  const auto rounded = static_cast<float>(x);
  return static_cast<double>(rounded) < x ? std::nextafter(rounded, std::numeric_limits<float>::infinity()) : rounded;
}

// Keys are logits plus noise; their sum is rounded, outwards here.
double Lower(double logit, double noise) { return logit + noise - 0x1p-51 * (std::abs(logit) + std::abs(noise)); }
double Upper(double logit, double noise) { return logit + noise + 0x1p-51 * (std::abs(logit) + std::abs(noise)); }

class RowOfTile {
 public:
  RowOfTile(const IntervalTile& tile, const PhiloxKey& key, uint64_t first_row, size_t r)
      : lower_(tile.lower + r * tile.n),
        upper_(tile.upper + r * tile.n),
        first_(tile.first),
        n_(tile.n),
        r_(r),
        row_(first_row + r),
        key_(key) {}

  // A pass in single precision bounds the keys; noise in double is computed only where they may be large enough.
  void Find(std::vector<float>& bounds, double& best, std::vector<PossibleWinner>& found) const {
    std::vector<float> rounded(n_);
    std::transform(upper_, upper_ + n_, rounded.begin(), RoundedUp);
    ActiveDraws().f32.key_bounds(rounded.data(), n_, 0.0f, 1.0, key_, row_, first_, bounds.data());
    const auto likeliest = static_cast<size_t>(std::max_element(bounds.begin(), bounds.end()) - bounds.begin());
    best = std::max(best, Lower(lower_[likeliest], Noise(likeliest)));
    const size_t before = found.size();
    for (size_t i = 0; i < n_; ++i) {
      if (static_cast<double>(bounds[i]) < KeyBar(best)) continue;
      const double noise = Noise(i), upper = Upper(upper_[i], noise);
      best = std::max(best, Lower(lower_[i], noise));
      if (upper >= best) found.push_back({static_cast<int64_t>(r_), static_cast<int64_t>(first_ + i), noise, upper});
    }
    const auto begin = found.begin() + static_cast<ptrdiff_t>(before);
    found.erase(std::remove_if(begin, found.end(), [&](const PossibleWinner& w) { return w.upper < best; }),
                found.end());
  }

 private:
  double Noise(size_t i) const { return GumbelAt(key_, row_, first_ + i); }

  const double* lower_;
  const double* upper_;
  size_t first_, n_, r_;
  uint64_t row_;
  const PhiloxKey& key_;
};

}  // namespace

void FindWinners(const IntervalTile& tile, uint64_t key, uint64_t first_row, double* best,
                 std::vector<PossibleWinner>& found) {
  if (tile.n == 0) return;
  const PhiloxKey rounds = MakePhiloxKey(key);
  std::vector<std::vector<PossibleWinner>> of_row(tile.rows);
  const double cost = 4.0 * EstimateNanoseconds(tile.rows * tile.n, DType::kFloat64);
  ParallelBlocks(tile.rows, 1, cost, [&](size_t begin, size_t end) {
    std::vector<float> bounds(tile.n);
    for (size_t r = begin; r < end; ++r) RowOfTile(tile, rounds, first_row, r).Find(bounds, best[r], of_row[r]);
  });
  for (const auto& winners : of_row) found.insert(found.end(), winners.begin(), winners.end());
}

}  // namespace boltzmax

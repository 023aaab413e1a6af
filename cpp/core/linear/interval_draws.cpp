#include "interval_draws.hpp"

namespace boltzmax {

void FindWinners(const IntervalTile& tile, uint64_t key, uint64_t first_row, double* best,
                 std::vector<PossibleWinner>& found) {
  if (tile.n == 0) return;
  const PhiloxKey rounds = MakePhiloxKey(key);
  std::vector<std::vector<PossibleWinner>> of_row(tile.rows);
  const double cost = 4.0 * EstimateNanoseconds(tile.rows * tile.n, DType::kFloat64);
  ParallelBlocks(tile.rows, 1, cost, [&](size_t begin, size_t end) {
    std::vector<float> rounded(tile.n), bounds(tile.n);
    for (size_t r = begin; r < end; ++r) {
      const double *lower = tile.lower + r * tile.n, *upper = tile.upper + r * tile.n;
      std::transform(upper, upper + tile.n, rounded.begin(), RoundedUp);
      WinnerSearch search(rounds, first_row + r, best[r]);
      search.Read(rounded.data(), tile.n, tile.first, bounds.data(),
                  [=](size_t i) { return Interval{lower[i], upper[i]}; });
      of_row[r] = search.Take();
      best[r] = search.Best();
    }
  });
  for (size_t r = 0; r < tile.rows; ++r) {
    for (PossibleWinner winner : of_row[r]) {
      winner.row = static_cast<int64_t>(r);
      found.push_back(winner);
    }
  }
}

}  // namespace boltzmax

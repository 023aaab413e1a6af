#include "rescoring.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

// Partial sums, so that additions do not wait for each other.
constexpr size_t kSums = 8;
// Additions after those of the longest partial sum: the tree, the bias, and some to spare.
constexpr size_t kMoreAdditions = 8;

struct Logit {
  double score, error;
};

Logit Score(const float* x, const float* w, size_t n, double bias) {
  double sum[kSums] = {}, size[kSums] = {};
  const auto add = [&](size_t s, size_t i) {
    const double product = static_cast<double>(x[i]) * static_cast<double>(w[i]);
    sum[s] += product;
    size[s] += std::abs(product);
  };
  const size_t whole = n / kSums * kSums;
  for (size_t i = 0; i < whole; i += kSums) {
    for (size_t s = 0; s < kSums; ++s) add(s, i + s);
  }
  for (size_t i = whole; i < n; ++i) add(i - whole, i);
  for (size_t half = kSums / 2; half > 0; half /= 2) {
    for (size_t s = 0; s < half; ++s) {
      sum[s] += sum[s + half];
      size[s] += size[s + half];
    }
  }
  // `size` is rounded, too, and so is this product: hence the last factor.
  const size_t steps = n / kSums + kMoreAdditions;
  const auto additions = static_cast<double>(steps);
  return {sum[0] + bias, additions * 0x1p-53 * (size[0] + std::abs(bias)) * (1.0 + 0x1p-20)};
}

// Rows of weights come from anywhere in memory: several are on their way at once.
constexpr size_t kAhead = 4, kLine = 64, kMostPrefetched = 4096;
void Prefetch(const float* row, size_t n) {
  const auto* bytes = reinterpret_cast<const char*>(row);
  for (size_t b = 0; b < std::min(n * sizeof(float), kMostPrefetched); b += kLine) __builtin_prefetch(bytes + b);
}

void ScoreEntry(const RescoreProblem& p, size_t row, size_t i) {
  const auto c = static_cast<size_t>(p.id[i]);
  const double bias = p.bias == nullptr ? 0.0 : static_cast<double>(p.bias[c]);
  const Logit logit = Score(p.hidden + row * p.features, p.weight + c * p.features, p.features, bias);
  p.score[i] = logit.score;
  p.error[i] = logit.error;
}

// Many rows want the same classes: those of a tile are read from memory once for all rows.
constexpr size_t kTileBytes = size_t{1} << 18;
void RescoreByTiles(const RescoreProblem& p, double cost) {
  const size_t of_tile = std::max<size_t>(1, kTileBytes / (p.features * sizeof(float)));
  const size_t tiles = (p.classes + of_tile - 1) / of_tile;
  ParallelBlocks(tiles, 1, cost, [&](size_t first, size_t last) {
    std::vector<size_t> next(p.rows);
    for (size_t r = 0; r < p.rows; ++r) {
      const auto* from =
          std::lower_bound(p.id + p.begin[r], p.id + p.begin[r + 1], static_cast<int64_t>(first * of_tile));
      next[r] = static_cast<size_t>(from - p.id);
    }
    for (size_t tile = first; tile < last; ++tile) {
      const auto end = static_cast<int64_t>((tile + 1) * of_tile);
      for (size_t r = 0; r < p.rows; ++r) {
        const auto of_row = static_cast<size_t>(p.begin[r + 1]);
        for (; next[r] < of_row && p.id[next[r]] < end; ++next[r]) ScoreEntry(p, r, next[r]);
      }
    }
  });
}

}  // namespace

void Rescore(const RescoreProblem& p) {
  const auto entries = static_cast<size_t>(p.begin[p.rows]);
  const double nanoseconds = 100.0 + 0.5 * static_cast<double>(p.features);  // for each
  const double cost = nanoseconds * static_cast<double>(entries);
  constexpr size_t kFewRows = 4, kLeast = 32;
  if (p.rows > kFewRows && entries > p.classes / 4) return RescoreByTiles(p, cost);
  ParallelBlocks(entries, kLeast, cost, [&](size_t first, size_t last) {
    const auto* after = std::upper_bound(p.begin, p.begin + p.rows + 1, static_cast<int64_t>(first));
    auto row = static_cast<size_t>(after - p.begin) - 1;
    for (size_t i = first; i < last; ++i) {
      while (static_cast<size_t>(p.begin[row + 1]) <= i) ++row;
      if (i + kAhead < last) Prefetch(p.weight + static_cast<size_t>(p.id[i + kAhead]) * p.features, p.features);
      ScoreEntry(p, row, i);
    }
  });
}

}  // namespace boltzmax

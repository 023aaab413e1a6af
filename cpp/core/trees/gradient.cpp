// Losses and their gradients.
#include <algorithm>
#include <cmath>
#include <vector>

#include "layer_rows.hpp"
#include "training.hpp"

namespace boltzmax {

namespace {

// The sum of f(i), by halves: its rounding error grows with the logarithm of the count.
template <class F>
double PairwiseSum(size_t begin, size_t end, const F& f) {
  constexpr size_t kFew = 32;
  double sum = 0.0;
  if (end - begin <= kFew) {
    for (size_t i = begin; i < end; ++i) sum += f(i);
    return sum;
  }
  const size_t middle = begin + (end - begin) / 2;
  return PairwiseSum(begin, middle, f) + PairwiseSum(middle, end, f);
}

}  // namespace

double MeanLoss(const double* loss, const double* weight, size_t rows) {
  if (weight == nullptr) return PairwiseSum(0, rows, [&](size_t r) { return loss[r]; }) / static_cast<double>(rows);
  const auto weighted = [&](size_t r) { return weight[r] == 0.0 && std::isinf(loss[r]) ? 0.0 : weight[r] * loss[r]; };
  return PairwiseSum(0, rows, weighted) / PairwiseSum(0, rows, [&](size_t r) { return weight[r]; });
}

std::vector<int64_t> TouchedUnits(const TreeView& tree, const int64_t* target, size_t rows) {
  std::vector<bool> seen(tree.inner);
  std::vector<size_t> nodes;
  for (size_t r = 0; r < rows; ++r) {
    for (auto node = tree.parent[target[r]]; node != -1 && !seen[tree.Inner(node)]; node = tree.parent[node]) {
      seen[tree.Inner(node)] = true;
      nodes.push_back(tree.Inner(node));
    }
  }
  std::sort(nodes.begin(), nodes.end());
  std::vector<int64_t> units;
  for (const size_t i : nodes) {
    for (int64_t u = tree.unit_begin[i]; u < tree.unit_begin[i + 1]; ++u) units.push_back(u);
  }
  return units;
}

template <class T>
void LossGradient(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, const double* scale,
                  double* loss, const Gradient<T>& gradient) {
  // Each row of the weights' gradient gets contributions from many rows of input: each thread adds up some of the
  // features for all of them, in order.
  constexpr size_t kRows = 256, kFeatures = 64;
  const size_t n = layer.features, slices = (n + kFeatures - 1) / kFeatures;
  struct UnitSlopes {
    std::vector<int64_t> place;  // of each unit in gradient.units
    std::vector<T> gain;
  };
  std::vector<UnitSlopes> slopes(kRows);
  for (size_t first = 0; first < hidden.rows; first += kRows) {
    const size_t rows = std::min(kRows, hidden.rows - first);
    ForEachRow(layer, rows, TypicalPathLength(layer.tree), [&](PathScorer<T>& scorer, size_t i) {
      const size_t r = first + i;
      T* d_hidden = gradient.d_hidden + r * n;
      UnitSlopes& row_slopes = slopes[i];
      std::fill_n(d_hidden, n, T(0));
      row_slopes.gain.clear();
      row_slopes.place.clear();
      scorer.FindPath(target[r]);
      if (scale[r] == 0.0) {  // 0 times a value that is not finite would not be 0
        loss[r] = scorer.Loss(hidden.x + r * n);
        return;
      }
      scorer.ComputeScores(hidden.x + r * n);
      scorer.ComputeLogProbs(true);
      loss[r] = -scorer.LogProb();
      for (size_t j = 0; j < scorer.Count(); ++j) {
        row_slopes.gain.push_back(static_cast<T>(scorer.Gain()[j] * scale[r]));
        const int64_t* end = gradient.units + gradient.count;
        row_slopes.place.push_back(std::lower_bound(gradient.units, end, scorer.UnitIds()[j]) - gradient.units);
      }
      Units<T>().add_rows(&d_hidden, 1, scorer.Rows(), scorer.Count(), {row_slopes.gain.data(), 0, 1}, n);
    });
    ParallelFor(slices, static_cast<double>(rows) * CostOfRow(n, TypicalPathLength(layer.tree)), [&](size_t s) {
      const size_t begin = s * kFeatures, width = std::min(kFeatures, n - begin);
      std::vector<T*> outs;
      for (size_t i = 0; i < rows; ++i) {
        const UnitSlopes& row_slopes = slopes[i];
        outs.clear();
        for (const int64_t place : row_slopes.place) {
          outs.push_back(gradient.d_weight + static_cast<size_t>(place) * n + begin);
        }
        const T* const h = hidden.x + (first + i) * n + begin;
        Units<T>().add_rows(outs.data(), outs.size(), &h, 1, {row_slopes.gain.data(), 1, 0}, width);
      }
    });
    if (gradient.d_bias == nullptr) continue;
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < slopes[i].place.size(); ++j) {
        gradient.d_bias[slopes[i].place[j]] += slopes[i].gain[j];
      }
    }
  }
}

template void LossGradient<float>(const Layer<float>&, const Hidden<float>&, const int64_t*, const double*, double*,
                                  const Gradient<float>&);
template void LossGradient<double>(const Layer<double>&, const Hidden<double>&, const int64_t*, const double*, double*,
                                   const Gradient<double>&);

}  // namespace boltzmax

#include "hierarchical.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "walker.hpp"

namespace boltzmax {

namespace {

// Collects the scores of rows until there are many: the logistic function of a few is a chain of instructions that wait
// for each other, and the processor is idle.
template <class T, class Out>
class LogisticRows {
 public:
  static constexpr size_t kMostUnits = 128;

  void Add(Walker<T>& walker, const T* h, Out* out) {
    if (units_ + walker.Count() > kMostUnits || rows_ == kMostRows) Flush();
    walker.AskSigned(h, scores_ + units_);
    units_ += walker.Count();
    ends_[rows_] = units_;
    outs_[rows_++] = out;
  }
  void Flush() {
    Units<double>().log_sigmoid(scores_, units_, log_p_, unused_);
    for (size_t i = 0, j = 0; i < rows_; ++i) {
      double total = 0.0;
      for (; j < ends_[i]; ++j) total += log_p_[j];
      *outs_[i] = static_cast<Out>(total);
    }
    units_ = rows_ = 0;
  }

 private:
  static constexpr size_t kMostRows = 32;
  double scores_[kMostUnits], log_p_[kMostUnits], unused_[kMostUnits];
  size_t ends_[kMostRows];
  Out* outs_[kMostRows];
  size_t units_ = 0, rows_ = 0;
};

}  // namespace

template <class T, class Out>
void LogProb(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, Out* out) {
  ForEachBlockOfRows(layer, hidden.rows, UsualPath(layer.tree), [&](Walker<T>& walker, size_t begin, size_t end) {
    LogisticRows<T, Out> rows;
    for (size_t r = begin; r < end; ++r) {
      const T* h = hidden.x + r * layer.features;
      walker.Find(target[r]);
      if (walker.IsLogistic() && walker.Count() <= rows.kMostUnits) {
        rows.Add(walker, h, out + r);
      } else {
        out[r] = static_cast<Out>(-walker.Loss(h));
      }
    }
    rows.Flush();
  });
}

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
  // The rows of the weights' gradient belong to many rows of input: each thread adds up some of the features for all of
  // them, in their order.
  constexpr size_t kRows = 256, kFeatures = 64;
  const size_t n = layer.features, slices = (n + kFeatures - 1) / kFeatures;
  struct Pull {
    std::vector<int64_t> place;  // of each unit among gradient.units
    std::vector<T> gain;
  };
  std::vector<Pull> pulls(kRows);
  for (size_t first = 0; first < hidden.rows; first += kRows) {
    const size_t rows = std::min(kRows, hidden.rows - first);
    ForEachRow(layer, rows, UsualPath(layer.tree), [&](Walker<T>& walker, size_t i) {
      const size_t r = first + i;
      T* d_hidden = gradient.d_hidden + r * n;
      Pull& pull = pulls[i];
      std::fill_n(d_hidden, n, T(0));
      pull.gain.clear();
      pull.place.clear();
      walker.Find(target[r]);
      if (scale[r] == 0.0) {  // 0 times what is not finite would not be 0
        loss[r] = walker.Loss(hidden.x + r * n);
        return;
      }
      walker.Ask(hidden.x + r * n);
      walker.Judge(true);
      loss[r] = -walker.LogProb();
      for (size_t j = 0; j < walker.Count(); ++j) {
        pull.gain.push_back(static_cast<T>(walker.Gain()[j] * scale[r]));
        const int64_t* end = gradient.units + gradient.count;
        pull.place.push_back(std::lower_bound(gradient.units, end, walker.UnitIds()[j]) - gradient.units);
      }
      Units<T>().add_rows(&d_hidden, 1, walker.Rows(), walker.Count(), {pull.gain.data(), 0, 1}, n);
    });
    ParallelFor(slices, static_cast<double>(rows) * CostOfRow(n, UsualPath(layer.tree)), [&](size_t s) {
      const size_t begin = s * kFeatures, width = std::min(kFeatures, n - begin);
      std::vector<T*> outs;
      for (size_t i = 0; i < rows; ++i) {
        const Pull& pull = pulls[i];
        outs.clear();
        for (const int64_t place : pull.place) {
          outs.push_back(gradient.d_weight + static_cast<size_t>(place) * n + begin);
        }
        const T* const h = hidden.x + (first + i) * n + begin;
        Units<T>().add_rows(outs.data(), outs.size(), &h, 1, {pull.gain.data(), 1, 0}, width);
      }
    });
    if (gradient.d_bias == nullptr) continue;
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < pulls[i].place.size(); ++j) {
        gradient.d_bias[pulls[i].place[j]] += pulls[i].gain[j];
      }
    }
  }
}

#define BOLTZMAX_INSTANTIATE(T)                                                                            \
  template void LogProb<T, T>(const Layer<T>&, const Hidden<T>&, const int64_t*, T*);                      \
  template void LossGradient<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, const double*, double*, \
                                const Gradient<T>&);
template void LogProb<float, double>(const Layer<float>&, const Hidden<float>&, const int64_t*, double*);
BOLTZMAX_INSTANTIATE(float)
BOLTZMAX_INSTANTIATE(double)
#undef BOLTZMAX_INSTANTIATE

}  // namespace boltzmax

#include "hierarchical.hpp"

#include <algorithm>
#include <vector>

#include "walker.hpp"

namespace boltzmax {

template <class T>
void LogProb(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, double* out) {
  ForEachRow(layer, hidden.rows, UsualPath(layer.tree), [&](Walker<T>& walker, size_t r) {
    walker.Find(target[r]);
    walker.Ask(hidden.x + r * layer.features);
    out[r] = walker.Judge(false);
  });
}

template <class T>
void LogProbOfNodes(const Layer<T>& layer, const Hidden<T>& hidden, size_t nodes, T* out) {
  const TreeView& tree = layer.tree;
  const auto units = static_cast<double>(tree.classes);
  ForEachRow(layer, hidden.rows, units, [&](Walker<T>& walker, size_t r) {
    thread_local std::vector<double> inner;
    inner.resize(tree.inner);
    inner[0] = 0.0;
    T* row = out + r * nodes;
    const auto store = [&](size_t node, double log_prob) {
      if (node < nodes) row[node] = static_cast<T>(log_prob);
      if (node >= tree.classes) inner[node - tree.classes] = log_prob;
    };
    store(tree.classes, 0.0);
    for (size_t i = 0; i < tree.inner; ++i) {
      const auto node = static_cast<int32_t>(tree.classes + i);
      const std::vector<double>& log_probs = walker.Children(hidden.x + r * layer.features, node);
      const int32_t* children = tree.Children(node);
      for (size_t s = 0; s < log_probs.size(); ++s) store(static_cast<size_t>(children[s]), inner[i] + log_probs[s]);
    }
  });
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
    std::vector<double> gain;
  };
  std::vector<Pull> pulls(kRows);
  for (size_t first = 0; first < hidden.rows; first += kRows) {
    const size_t rows = std::min(kRows, hidden.rows - first);
    ForEachRow(layer, rows, UsualPath(layer.tree), [&](Walker<T>& walker, size_t i) {
      const size_t r = first + i;
      T* d_hidden = gradient.d_hidden + r * n;
      Pull& pull = pulls[i];
      std::fill(d_hidden, d_hidden + n, T(0));
      walker.Find(target[r]);
      walker.Ask(hidden.x + r * n);
      loss[r] = -walker.Judge(true);
      pull.gain = walker.Gain();
      for (double& g : pull.gain) g *= scale[r];
      pull.place.clear();
      for (const int64_t unit : walker.UnitIds()) {
        pull.place.push_back(std::lower_bound(gradient.units, gradient.units + gradient.count, unit) - gradient.units);
      }
      Units<T>().add_rows(d_hidden, walker.Rows(), pull.gain.data(), walker.Count(), n);
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
        Units<T>().add_to_rows(hidden.x + (first + i) * n + begin, outs.data(), pull.gain.data(), outs.size(), width);
      }
    });
    if (gradient.d_bias == nullptr) continue;
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < pulls[i].place.size(); ++j) {
        gradient.d_bias[pulls[i].place[j]] += static_cast<T>(pulls[i].gain[j]);
      }
    }
  }
}

template <class T>
void DescendRows(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, const double* scale,
                 const Descent<T>& descent, double* loss, T* d_hidden) {
  const size_t n = layer.features;
  const auto descend = [&](size_t begin, size_t end) {
    // While one row is at work, the units of the next come from memory.
    Walker<T> walkers[2] = {Walker<T>(layer), Walker<T>(layer)};
    std::vector<double> step;
    if (begin < end) walkers[begin % 2].Find(target[begin]);
    for (size_t r = begin; r < end; ++r) {
      Walker<T>& walker = walkers[r % 2];
      if (r + 1 < end) {
        walkers[(r + 1) % 2].Find(target[r + 1]);
        walkers[(r + 1) % 2].Prefetch();
      }
      const T* h = hidden.x + r * n;
      walker.Ask(h);
      loss[r] = -walker.Judge(true);
      std::vector<double>& gain = walker.Gain();
      step.resize(gain.size());
      double square = 0.0;
      if (descent.squares != nullptr) {
        Units<T>().dot_rows(h, &h, 1, n, &square);
        square /= static_cast<double>(n);
      }
      for (size_t j = 0; j < gain.size(); ++j) {
        gain[j] *= scale[r];
        double rate = descent.rate;
        if (descent.squares != nullptr) {
          double& sum = descent.squares[walker.UnitIds()[j]];
          sum += gain[j] * gain[j] * square;
          rate /= std::sqrt(sum) + descent.epsilon;
        }
        step[j] = -rate * gain[j];
      }
      T* dh = d_hidden + r * n;
      std::fill(dh, dh + n, T(0));
      Units<T>().step_rows(h, dh, walker.Rows(), gain.data(), step.data(), walker.Count(), n);
      if (layer.bias == nullptr) continue;
      for (size_t j = 0; j < step.size(); ++j) layer.bias[walker.UnitIds()[j]] += static_cast<T>(step[j]);
    }
  };
  if (!descent.lock_free) return descend(0, hidden.rows);
  ParallelBlocks(hidden.rows, 16, static_cast<double>(hidden.rows) * CostOfRow(n, UsualPath(layer.tree)), descend);
}

#define BOLTZMAX_INSTANTIATE(T)                                                                                     \
  template void LogProb<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, double*);                             \
  template void LogProbOfNodes<T>(const Layer<T>&, const Hidden<T>&, size_t, T*);                                   \
  template void LossGradient<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, const double*, double*,          \
                                const Gradient<T>&);                                                                \
  template void DescendRows<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, const double*, const Descent<T>&, \
                               double*, T*);
BOLTZMAX_INSTANTIATE(float)
BOLTZMAX_INSTANTIATE(double)
#undef BOLTZMAX_INSTANTIATE

}  // namespace boltzmax

#include "hierarchical.hpp"

#include <algorithm>
#include <vector>

#include "row_blocks.hpp"
#include "walker.hpp"

namespace boltzmax {

template <class T>
void LogProb(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, double* out) {
  ForEachRow(layer, hidden.rows, UsualPath(layer.tree), [&](Walker<T>& walker, size_t r) {
    walker.Find(target[r]);
    walker.Ask(hidden.x + r * layer.features);
    walker.Judge(false);
    out[r] = walker.LogProb();
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
      walker.Judge(true);
      loss[r] = -walker.LogProb();
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

namespace {

// Rows of one target.
template <class T>
struct Group {
  std::vector<const T*> hidden;
  std::vector<double> scale;
  std::vector<T*> d_hidden;

  size_t Size() const { return hidden.size(); }
  void Clear() {
    hidden.clear();
    scale.clear();
    d_hidden.clear();
  }
};

// What a thread descends with.
template <class T>
class Descender {
 public:
  Descender(const Layer<T>& layer, const Descent<T>& descent) : layer_(layer), descent_(descent) {}

  // While one group is at work, the units of the next come from memory.
  void Expect(int64_t target) {
    next_ = 1 - next_;
    walkers_[next_].Find(target);
    walkers_[next_].Prefetch();
  }
  void Begin() { now_ = next_; }

  // Moves the units on the way to the target; gives the losses of the rows, and scale * gradient in their d_hidden.
  void Step(const Group<T>& group, double* loss) {
    Walker<T>& walker = walkers_[now_];
    const size_t n = layer_.features, units = walker.Count(), m = group.Size();
    gain_.resize(m * units);
    step_.resize(units * m);
    for (size_t i = 0; i < m; ++i) walker.Ask(group.hidden[i], i, m);
    walker.Judge(true, m);
    for (size_t i = 0; i < m; ++i) {
      loss[i] = -walker.LogProb(i);
      for (size_t j = 0; j < units; ++j) {
        const double gain = walker.Gain()[i * units + j] * group.scale[i];
        gain_[i * units + j] = gain;
        step_[j * m + i] = -descent_.rate * gain;
      }
      std::fill(group.d_hidden[i], group.d_hidden[i] + n, T(0));
    }
    if (descent_.squares != nullptr) Adapt(group);
    T* const* rows = walker.Rows();
    if (m == 1) {
      Units<T>().step_rows(group.hidden[0], group.d_hidden[0], rows, gain_.data(), step_.data(), units, n);
    } else {
      for (size_t i = 0; i < m; ++i) Units<T>().add_rows(group.d_hidden[i], rows, &gain_[i * units], units, n);
      for (size_t j = 0; j < units; ++j) Units<T>().add_rows(rows[j], group.hidden.data(), &step_[j * m], m, n);
    }
    if (layer_.bias == nullptr) return;
    for (size_t j = 0; j < units; ++j) {
      for (size_t i = 0; i < m; ++i) layer_.bias[walker.UnitIds()[j]] += static_cast<T>(step_[j * m + i]);
    }
  }

 private:
  void Adapt(const Group<T>& group) {
    const Walker<T>& walker = walkers_[now_];
    const size_t units = walker.Count(), m = group.Size();
    // A bias is the weight of one more feature, which is always 1.
    const double extra = layer_.bias == nullptr ? 0.0 : 1.0;
    squares_.resize(m);
    for (size_t i = 0; i < m; ++i) {
      Units<T>().dot_rows(group.hidden[i], &group.hidden[i], 1, layer_.features, &squares_[i]);
      squares_[i] = (squares_[i] + extra) / (static_cast<double>(layer_.features) + extra);
    }
    for (size_t j = 0; j < units; ++j) {
      double& sum = descent_.squares[walker.UnitIds()[j]];
      for (size_t i = 0; i < m; ++i) sum += gain_[i * units + j] * gain_[i * units + j] * squares_[i];
      const double root = std::sqrt(sum) + descent_.epsilon;
      for (size_t i = 0; i < m; ++i) step_[j * m + i] /= root > 0.0 ? root : 1.0;
    }
  }

  const Layer<T>& layer_;
  const Descent<T>& descent_;
  Walker<T> walkers_[2] = {Walker<T>(layer_), Walker<T>(layer_)};
  size_t now_ = 0, next_ = 0;
  std::vector<double> gain_, step_, squares_;  // row by row; unit by unit; row by row
};

// step(descender, begin, end) for groups of neighbours of one target: in their order, or by all threads.
template <class T, class Step>
void Descend(const Layer<T>& layer, const Descent<T>& descent, size_t rows, const int64_t* target, Step step) {
  const auto run = [&](size_t begin, size_t end) {
    Descender<T> descender(layer, descent);
    if (begin < end) descender.Expect(target[begin]);
    while (begin < end) {
      size_t after = begin + 1;
      while (after < end && after - begin < descent.together && target[after] == target[begin]) ++after;
      descender.Begin();
      if (after < end) descender.Expect(target[after]);
      step(descender, begin, after);
      begin = after;
    }
  };
  if (!descent.lock_free) return run(0, rows);
  ParallelBlocks(rows, 16, static_cast<double>(rows) * CostOfRow(layer.features, UsualPath(layer.tree)), run);
}

}  // namespace

template <class T>
void DescendRows(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, const double* scale,
                 const Descent<T>& descent, double* loss, T* d_hidden) {
  const size_t n = layer.features;
  Descend(layer, descent, hidden.rows, target, [&](Descender<T>& descender, size_t begin, size_t end) {
    thread_local Group<T> group;
    group.Clear();
    for (size_t r = begin; r < end; ++r) {
      group.hidden.push_back(hidden.x + r * n);
      group.scale.push_back(scale[r]);
      group.d_hidden.push_back(d_hidden + r * n);
    }
    descender.Step(group, loss + begin);
  });
}

template <class T>
void DescendPairs(const Layer<T>& layer, T* table, const int64_t* ids, size_t rows, const int64_t* target,
                  const Descent<T>& descent, double* loss) {
  const size_t n = layer.features;
  const double rate = -descent.rate;
  const auto row = [&](size_t r) { return table + static_cast<size_t>(ids[r]) * n; };
  Descend(layer, descent, rows, target, [&](Descender<T>& descender, size_t begin, size_t end) {
    // The vectors are read a dozen times: from copies that no vector register meets across a cache line.
    thread_local Group<T> group;
    thread_local Scratch memory;
    const size_t m = end - begin;
    T* copies = reinterpret_cast<T*>(memory.Get(2 * m * n * sizeof(T)));
    group.Clear();
    for (size_t i = 0; i < m; ++i) {
      const T* from = row(begin + i);
      group.hidden.push_back(std::copy(from, from + n, copies + i * n) - n);
      group.scale.push_back(1.0);
      group.d_hidden.push_back(copies + (m + i) * n);
    }
    for (size_t r = end; r < std::min(rows, end + m); ++r) Prefetch(row(r), n);
    descender.Step(group, loss + begin);
    for (size_t i = 0; i < m; ++i) {
      T* const learnt = row(begin + i);
      Units<T>().add_to_rows(group.d_hidden[i], &learnt, &rate, 1, n);
    }
  });
}

#define BOLTZMAX_INSTANTIATE(T)                                                                                     \
  template void LogProb<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, double*);                             \
  template void LogProbOfNodes<T>(const Layer<T>&, const Hidden<T>&, size_t, T*);                                   \
  template void LossGradient<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, const double*, double*,          \
                                const Gradient<T>&);                                                                \
  template void DescendRows<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, const double*, const Descent<T>&, \
                               double*, T*);                                                                        \
  template void DescendPairs<T>(const Layer<T>&, T*, const int64_t*, size_t, const int64_t*, const Descent<T>&,     \
                                double*);
BOLTZMAX_INSTANTIATE(float)
BOLTZMAX_INSTANTIATE(double)
#undef BOLTZMAX_INSTANTIATE

}  // namespace boltzmax

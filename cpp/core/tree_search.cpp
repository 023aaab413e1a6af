#include <algorithm>
#include <cmath>
#include <queue>
#include <vector>

#include "hierarchical.hpp"
#include "walker.hpp"

namespace boltzmax {

namespace {

struct Place {
  double log_prob;
  int32_t node;
};

// Takes what the best-first search finds, until nothing better can come.
template <class T>
class Podium {
 public:
  explicit Podium(const TopQuery& query) : query_(query) {}
  // NaN, of NaN in the row, is not admitted.
  bool Admits(double log_prob) const { return log_prob >= query_.min_log_prob; }
  void Add(const Place& place) { found_.push_back(place); }
  // Results are rounded to T, and ties are ties of what the caller sees: all that round to the k-th are candidates.
  bool IsFull(double next) const {
    return found_.size() >= query_.k && static_cast<T>(next) < static_cast<T>(found_[query_.k - 1].log_prob);
  }
  void Store(int64_t* ids, T* log_probs) {
    std::sort(found_.begin(), found_.end(), [](const Place& a, const Place& b) {
      const T x = static_cast<T>(a.log_prob), y = static_cast<T>(b.log_prob);
      return x > y || (x == y && a.node < b.node);
    });
    for (size_t j = 0; j < query_.k; ++j) {
      ids[j] = j < found_.size() ? found_[j].node : -1;
      log_probs[j] = static_cast<T>(j < found_.size() ? found_[j].log_prob : -kInfinity);
    }
  }

 private:
  const TopQuery& query_;
  std::vector<Place> found_;
};

// The children of `node`, with their log-probabilities.
template <class T, class F>
void Expand(Walker<T>& walker, const TreeView& tree, const T* h, const Place& at, F f) {
  const std::vector<double>& log_probs = walker.Children(h, at.node);
  const int32_t* children = tree.Children(at.node);
  for (size_t s = 0; s < log_probs.size(); ++s) {
    f(Place{at.log_prob + log_probs[s], children[s]});
  }
}

template <class T>
void SearchBestFirst(Walker<T>& walker, const TreeView& tree, const T* h, Podium<T>* podium, int64_t* visited) {
  // Of equal nodes the inner ones go first: leaves of the same probability may lie below. Then the lower class.
  const auto worse = [&](const Place& a, const Place& b) {
    if (a.log_prob != b.log_prob) return a.log_prob < b.log_prob;
    if (tree.IsLeaf(a.node) != tree.IsLeaf(b.node)) return tree.IsLeaf(a.node);
    return a.node > b.node;
  };
  std::priority_queue<Place, std::vector<Place>, decltype(worse)> open(worse);
  open.push({0.0, tree.Root()});
  while (!open.empty() && !podium->IsFull(open.top().log_prob)) {
    const Place best = open.top();
    open.pop();
    if (tree.IsLeaf(best.node)) {
      podium->Add(best);
      continue;
    }
    Expand(walker, tree, h, best, [&](const Place& child) {
      ++*visited;
      if (podium->Admits(child.log_prob)) open.push(child);
    });
  }
}

template <class T>
void SearchWithBeam(Walker<T>& walker, const TreeView& tree, const T* h, size_t beam, Podium<T>* podium,
                    int64_t* visited) {
  std::vector<Place> level = {{0.0, tree.Root()}}, next;
  const auto better = [](const Place& a, const Place& b) {
    return a.log_prob > b.log_prob || (a.log_prob == b.log_prob && a.node < b.node);
  };
  while (!level.empty()) {
    next.clear();
    for (const Place& place : level) {
      Expand(walker, tree, h, place, [&](const Place& child) {
        ++*visited;
        if (!podium->Admits(child.log_prob)) return;
        tree.IsLeaf(child.node) ? podium->Add(child) : next.push_back(child);
      });
    }
    if (next.size() > beam) {
      std::nth_element(next.begin(), next.begin() + static_cast<ptrdiff_t>(beam), next.end(), better);
      next.resize(beam);
    }
    level.swap(next);
  }
}

// Numbers in [0, 1) from a seed (Steele, Lea & Flood, SplitMix, OOPSLA 2014).
class Uniform {
 public:
  explicit Uniform(uint64_t seed) : state_(seed) {}
  double Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

}  // namespace

template <class T>
void TopClasses(const Layer<T>& layer, const Hidden<T>& hidden, const TopQuery& query, int64_t* ids, T* log_probs,
                int64_t* visited) {
  const double units = static_cast<double>(query.k) * UsualPath(layer.tree);
  ForEachRow(layer, hidden.rows, units, [&](Walker<T>& walker, size_t r) {
    const T* h = hidden.x + r * layer.features;
    Podium<T> podium(query);
    visited[r] = 0;
    if (query.beam == 0) {
      SearchBestFirst(walker, layer.tree, h, &podium, &visited[r]);
    } else {
      SearchWithBeam(walker, layer.tree, h, query.beam, &podium, &visited[r]);
    }
    podium.Store(ids + r * query.k, log_probs + r * query.k);
  });
}

template <class T>
void SampleClasses(const Layer<T>& layer, const Hidden<T>& hidden, const uint64_t* seed, int64_t* out) {
  ForEachRow(layer, hidden.rows, UsualPath(layer.tree), [&](Walker<T>& walker, size_t r) {
    Uniform uniform(seed[r]);
    int32_t node = layer.tree.Root();
    while (!layer.tree.IsLeaf(node)) {
      const std::vector<double>& log_probs = walker.Children(hidden.x + r * layer.features, node);
      double left = uniform.Next();
      size_t s = 0;
      for (; s + 1 < log_probs.size(); ++s) {
        left -= std::exp(log_probs[s]);
        if (left < 0.0) break;
      }
      // What rounding leaves over goes to the last child that can be.
      while (s > 0 && log_probs[s] == -kInfinity) --s;
      node = layer.tree.Children(node)[s];
    }
    out[r] = node;
  });
}

template <class T>
void SureNodes(const Layer<T>& layer, const Hidden<T>& hidden, double min_log_prob, int64_t* nodes, T* log_probs) {
  ForEachRow(layer, hidden.rows, UsualPath(layer.tree), [&](Walker<T>& walker, size_t r) {
    Place at = {0.0, layer.tree.Root()};
    while (!layer.tree.IsLeaf(at.node)) {
      Place best = {-kInfinity, -1};
      Expand(walker, layer.tree, hidden.x + r * layer.features, at, [&](const Place& child) {
        if (best.node == -1 || child.log_prob > best.log_prob) best = child;
      });
      if (!(best.log_prob >= min_log_prob)) break;
      at = best;
    }
    nodes[r] = at.node;
    log_probs[r] = static_cast<T>(at.log_prob);
  });
}

#define BOLTZMAX_INSTANTIATE(T)                                                                            \
  template void TopClasses<T>(const Layer<T>&, const Hidden<T>&, const TopQuery&, int64_t*, T*, int64_t*); \
  template void SampleClasses<T>(const Layer<T>&, const Hidden<T>&, const uint64_t*, int64_t*);            \
  template void SureNodes<T>(const Layer<T>&, const Hidden<T>&, double, int64_t*, T*);
BOLTZMAX_INSTANTIATE(float)
BOLTZMAX_INSTANTIATE(double)
#undef BOLTZMAX_INSTANTIATE

}  // namespace boltzmax

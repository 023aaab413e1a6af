// The likeliest classes, sampled classes, and the deepest sure node.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "inference.hpp"
#include "layer_rows.hpp"

namespace boltzmax {

namespace {

struct Place {
  double log_prob;
  int32_t node;
};

// The k likeliest classes so far. Results are rounded to T, and ties are ties of the rounded values.
template <class T>
class TopK {
 public:
  void Begin(const TopQuery& query) {
    query_ = &query;
    best_.clear();
  }
  // Whether a class of this probability, or a class below a node of this probability, may be among the results. NaN,
  // which comes from NaN in the row, is not admitted.
  bool Admits(double log_prob) const {
    return log_prob >= query_->min_log_prob &&
           (best_.size() < query_->k || static_cast<T>(log_prob) >= best_.front().log_prob);
  }
  void Add(const Place& place) {
    const Class candidate = {static_cast<T>(place.log_prob), place.node};
    if (best_.size() == query_->k) {
      if (!kBetter(candidate, best_.front())) return;
      std::pop_heap(best_.begin(), best_.end(), kBetter);
      best_.back() = candidate;
    } else {
      best_.push_back(candidate);
    }
    std::push_heap(best_.begin(), best_.end(), kBetter);
  }
  void Store(int64_t* ids, T* log_probs) {
    std::sort_heap(best_.begin(), best_.end(), kBetter);
    for (size_t j = 0; j < query_->k; ++j) {
      ids[j] = j < best_.size() ? best_[j].id : -1;
      log_probs[j] = j < best_.size() ? best_[j].log_prob : -std::numeric_limits<T>::infinity();
    }
  }
  size_t Bytes() const { return best_.capacity() * sizeof(Class); }

 private:
  struct Class {
    T log_prob;
    int32_t id;
  };
  static constexpr auto kBetter = [](const Class& a, const Class& b) {
    return a.log_prob > b.log_prob || (a.log_prob == b.log_prob && a.id < b.id);
  };

  const TopQuery* query_ = nullptr;
  std::vector<Class> best_;  // a heap, the worst first
};

// The children of `node`, with their log-probabilities.
template <class T, class F>
void Expand(PathScorer<T>& scorer, const TreeView& tree, const T* h, const Place& at, F f) {
  const std::vector<double>& log_probs = scorer.Children(h, at.node);
  const int32_t* children = tree.Children(at.node);
  for (size_t s = 0; s < log_probs.size(); ++s) {
    f(Place{at.log_prob + log_probs[s], children[s]});
  }
}

// The same for many nodes; those with two children are scored together, and come first.
template <class T, class F>
void ExpandAll(PathScorer<T>& scorer, const TreeView& tree, const T* h, const std::vector<Place>& places, F f) {
  constexpr size_t kMost = PathScorer<T>::kMostPairs;
  int32_t nodes[kMost];
  double above[kMost], log_probs[2 * kMost];
  size_t count = 0;
  const auto flush = [&] {
    scorer.Pairs(h, nodes, count, log_probs);
    for (size_t j = 0; j < 2 * count; ++j) {
      f(Place{above[j / 2] + log_probs[j], tree.Children(nodes[j / 2])[j % 2]});
    }
    count = 0;
  };
  for (const Place& place : places) {
    if (tree.CountChildren(place.node) != 2) {
      Expand(scorer, tree, h, place, f);
      continue;
    }
    nodes[count] = place.node;
    above[count++] = place.log_prob;
    if (count == kMost) flush();
  }
  if (count > 0) flush();
}

// Opens inner nodes, roughly in order of probability, until none can hide one of the k best classes: since no child is
// likelier than its parent, a node that the top does not admit hides none.
//
// In strict order, each node would first wait for the scores of the last, a chain of instructions that several nodes
// can share, and then for its place in a heap. So up to kAtOnce nodes that are nearly as likely as the best are opened
// together and followed down while that is so; only the others go into a heap. This opens a few more nodes in less
// time; and the first descent finds classes that exclude most of the rest.
template <class T>
class BestFirst {
 public:
  void Search(PathScorer<T>& scorer, const TreeView& tree, const T* h, TopK<T>* top, int64_t* visited) {
    heap_.clear();
    now_.assign(1, {0.0, tree.Root()});
    while (!now_.empty()) {
      next_.clear();
      ExpandAll(scorer, tree, h, now_, [&](const Place& child) {
        ++*visited;
        if (!top->Admits(child.log_prob)) return;
        tree.IsLeaf(child.node) ? top->Add(child) : next_.push_back(child);
      });
      Choose(*top);
    }
  }
  size_t Bytes() const { return heap_.capacity() * sizeof(Place); }

 private:
  static constexpr size_t kAtOnce = PathScorer<T>::kMostPairs;
  static constexpr double kNear = 1.0;

  // Chooses what to open next, from the nodes found last and those in the heap.
  void Choose(const TopK<T>& top) {
    double best = heap_.empty() ? -kInfinity : heap_.front().log_prob;
    for (const Place& place : next_) best = std::max(best, place.log_prob);
    now_.clear();
    for (const Place& place : next_) {
      if (now_.size() < kAtOnce && place.log_prob >= best - kNear) {
        if (top.Admits(place.log_prob)) now_.push_back(place);
      } else {
        heap_.push_back(place);
        std::push_heap(heap_.begin(), heap_.end(), kLessLikely);
      }
    }
    while (now_.size() < kAtOnce && !heap_.empty() && heap_.front().log_prob >= best - kNear &&
           top.Admits(heap_.front().log_prob)) {
      now_.push_back(heap_.front());
      std::pop_heap(heap_.begin(), heap_.end(), kLessLikely);
      heap_.pop_back();
    }
  }
  static constexpr auto kLessLikely = [](const Place& a, const Place& b) { return a.log_prob < b.log_prob; };

  std::vector<Place> now_, next_;
  std::vector<Place> heap_;  // the likeliest first
};

// Beam search: keeps only the best nodes of each level.
template <class T>
class BeamSearch {
 public:
  void Search(PathScorer<T>& scorer, const TreeView& tree, const T* h, size_t beam, TopK<T>* top, int64_t* visited) {
    const auto better = [](const Place& a, const Place& b) {
      return a.log_prob > b.log_prob || (a.log_prob == b.log_prob && a.node < b.node);
    };
    level_.assign(1, {0.0, tree.Root()});
    while (!level_.empty()) {
      next_.clear();
      ExpandAll(scorer, tree, h, level_, [&](const Place& child) {
        ++*visited;
        if (!top->Admits(child.log_prob)) return;
        tree.IsLeaf(child.node) ? top->Add(child) : next_.push_back(child);
      });
      if (next_.size() > beam) {
        std::nth_element(next_.begin(), next_.begin() + static_cast<ptrdiff_t>(beam), next_.end(), better);
        next_.resize(beam);
      }
      level_.swap(next_);
    }
  }
  size_t Bytes() const { return (level_.capacity() + next_.capacity()) * sizeof(Place); }

 private:
  std::vector<Place> level_, next_;
};

// A thread's memory for searches.
template <class T>
struct SearchMemory {
  TopK<T> top;
  BestFirst<T> best_first;
  BeamSearch<T> beam;

  size_t Bytes() const { return top.Bytes() + best_first.Bytes() + beam.Bytes(); }
};

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
  const double units = static_cast<double>(query.k) * TypicalPathLength(layer.tree);
  ForEachRow(layer, hidden.rows, units, [&](PathScorer<T>& scorer, size_t r) {
    const T* h = hidden.x + r * layer.features;
    const Kept<SearchMemory<T>> kept;
    auto& [top, best_first, beam] = *kept;
    top.Begin(query);
    visited[r] = 0;
    if (query.beam == 0) {
      best_first.Search(scorer, layer.tree, h, &top, &visited[r]);
    } else {
      beam.Search(scorer, layer.tree, h, query.beam, &top, &visited[r]);
    }
    top.Store(ids + r * query.k, log_probs + r * query.k);
  });
}

template <class T>
void SampleClasses(const Layer<T>& layer, const Hidden<T>& hidden, const uint64_t* seed, int64_t* out) {
  ForEachRow(layer, hidden.rows, TypicalPathLength(layer.tree), [&](PathScorer<T>& scorer, size_t r) {
    Uniform uniform(seed[r]);
    int32_t node = layer.tree.Root();
    while (!layer.tree.IsLeaf(node)) {
      const std::vector<double>& log_probs = scorer.Children(hidden.x + r * layer.features, node);
      if (std::any_of(log_probs.begin(), log_probs.end(), [](double p) { return std::isnan(p); })) {
        node = -1;
        break;
      }
      double left = uniform.Next();
      size_t s = 0;
      for (; s + 1 < log_probs.size(); ++s) {
        left -= std::exp(log_probs[s]);
        if (left < 0.0) break;
      }
      // The remainder that rounding leaves goes to the last child with a positive probability.
      while (s > 0 && log_probs[s] == -kInfinity) --s;
      node = layer.tree.Children(node)[s];
    }
    out[r] = node;
  });
}

template <class T>
void SureNodes(const Layer<T>& layer, const Hidden<T>& hidden, double min_log_prob, int64_t* nodes, T* log_probs) {
  ForEachRow(layer, hidden.rows, TypicalPathLength(layer.tree), [&](PathScorer<T>& scorer, size_t r) {
    Place at = {0.0, layer.tree.Root()};
    while (!layer.tree.IsLeaf(at.node)) {
      Place best = {-kInfinity, -1};
      Expand(scorer, layer.tree, hidden.x + r * layer.features, at, [&](const Place& child) {
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

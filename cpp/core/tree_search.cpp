#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hierarchical.hpp"
#include "walker.hpp"

namespace boltzmax {

namespace {

struct Place {
  double log_prob;
  int32_t node;
};

// The k likeliest classes so far. Results are rounded to T, and ties are ties of what the caller sees.
template <class T>
class Podium {
 public:
  void Begin(const TopQuery& query) {
    query_ = &query;
    best_.clear();
  }
  // Whether a class of this probability, or one below a node of it, may be among the results. NaN, of NaN in the row, is
  // not admitted.
  bool Admits(double log_prob) const {
    return log_prob >= query_->min_log_prob &&
           (best_.size() < query_->k || static_cast<T>(log_prob) >= best_.front().log_prob);
  }
  void Add(const Place& place) {
    const Class candidate = {static_cast<T>(place.log_prob), place.node};
    if (best_.size() == query_->k) {
      if (!Better(candidate, best_.front())) return;
      std::pop_heap(best_.begin(), best_.end(), Better);
      best_.back() = candidate;
    } else {
      best_.push_back(candidate);
    }
    std::push_heap(best_.begin(), best_.end(), Better);
  }
  void Store(int64_t* ids, T* log_probs) {
    std::sort_heap(best_.begin(), best_.end(), Better);
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
  static bool Better(const Class& a, const Class& b) {
    return a.log_prob > b.log_prob || (a.log_prob == b.log_prob && a.id < b.id);
  }

  const TopQuery* query_ = nullptr;
  std::vector<Class> best_;  // a heap, the worst in front
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

// Opens inner nodes from the likeliest on, until none is left that may hide one of the k best classes. No child is likelier
// than its parent, so these are the fewest nodes that show it, in whatever order equal ones come.
//
// The scores of a node of two children are a chain of instructions that wait for each other, and those of several nodes
// take as long. So the search looks ahead: it asks at once for nodes that will probably be opened next. That changes no bit
// and counts for nothing until they are opened.
template <class T>
class BestFirst {
 public:
  void Search(Walker<T>& walker, const TreeView& tree, size_t features, const T* h, Podium<T>* podium,
              int64_t* visited) {
    walker_ = &walker;
    tree_ = &tree;
    features_ = features;
    h_ = h;
    podium_ = podium;
    visited_ = visited;
    open_.clear();
    pairs_.clear();
    unused_.clear();
    Push({0.0, tree.Root(), kUnknown});
    while (!open_.empty() && podium->Admits(open_.front().log_prob)) OpenNext();
  }
  size_t Bytes() const { return open_.capacity() * sizeof(Node) + pairs_.capacity() * sizeof(Pair); }

 private:
  static constexpr int32_t kUnknown = -1;
  struct Node {
    double log_prob;
    int32_t node;
    int32_t pair;  // which of `pairs_` has what is known of its children
  };
  // Two children: their log-probabilities given the parent, and what is known of their own children.
  struct Pair {
    double log_prob[2];
    int32_t pair[2];
  };

  static bool LessLikely(const Node& a, const Node& b) { return a.log_prob < b.log_prob; }
  void Push(const Node& node) {
    open_.push_back(node);
    std::push_heap(open_.begin(), open_.end(), LessLikely);
  }
  bool IsPair(int32_t node) const { return !tree_->IsLeaf(node) && tree_->CountChildren(node) == 2; }

  void OpenNext() {
    std::pop_heap(open_.begin(), open_.end(), LessLikely);
    const Node best = open_.back();
    open_.pop_back();
    if (!IsPair(best.node)) {
      Expand(*walker_, *tree_, h_, {best.log_prob, best.node}, [&](const Place& child) { Visit(child, kUnknown); });
      return;
    }
    const int32_t at = best.pair == kUnknown ? LookAhead(best) : best.pair;
    const Pair pair = pairs_[static_cast<size_t>(at)];
    unused_.push_back(at);
    const int32_t* children = tree_->Children(best.node);
    for (size_t s = 0; s < 2; ++s) Visit({best.log_prob + pair.log_prob[s], children[s]}, pair.pair[s]);
  }

  void Visit(const Place& place, int32_t pair) {
    ++*visited_;
    if (!podium_->Admits(place.log_prob)) return;
    if (tree_->IsLeaf(place.node)) {
      podium_->Add(place);
    } else {
      Push({place.log_prob, place.node, pair});
    }
  }

  // Asks for the children of a node; and, in the same breath, for those of others: of the open nodes that are nearly as
  // likely, and of the ones below, unless rows are so long that they take as long one after the other.
  int32_t LookAhead(const Node& first) {
    constexpr size_t kMost = Walker<T>::kMostPairs, kReach = 16;
    constexpr double kNear = 1.0;
    constexpr size_t kElements = 512;
    const size_t deep = std::clamp<size_t>(kElements / features_, 1, kMost);
    int32_t nodes[kMost], places[kMost];
    size_t count = 0;
    const auto join = [&](int32_t node) {
      nodes[count] = node;
      return places[count++] = NewPair();
    };
    join(first.node);
    for (size_t i = 0; i < std::min(kReach, open_.size()) && count < kMost; ++i) {
      Node& other = open_[i];
      if (other.pair == kUnknown && other.log_prob > first.log_prob - kNear && IsPair(other.node)) {
        other.pair = join(other.node);
      }
    }
    for (size_t j = 0; j < count; ++j) {
      const int32_t* children = tree_->Children(nodes[j]);
      for (size_t s = 0; s < 2 && count < deep; ++s) {
        if (!IsPair(children[s])) continue;
        const int32_t place = join(children[s]);
        pairs_[static_cast<size_t>(places[j])].pair[s] = place;
      }
    }
    double log_probs[2 * kMost];
    walker_->Pairs(h_, nodes, count, log_probs);
    for (size_t j = 0; j < count; ++j) {
      Pair& pair = pairs_[static_cast<size_t>(places[j])];
      std::copy_n(log_probs + 2 * j, 2, pair.log_prob);
    }
    return places[0];
  }

  int32_t NewPair() {
    if (unused_.empty()) {
      unused_.push_back(static_cast<int32_t>(pairs_.size()));
      pairs_.emplace_back();
    }
    const int32_t at = unused_.back();
    unused_.pop_back();
    pairs_[static_cast<size_t>(at)].pair[0] = pairs_[static_cast<size_t>(at)].pair[1] = kUnknown;
    return at;
  }

  Walker<T>* walker_ = nullptr;
  const TreeView* tree_ = nullptr;
  size_t features_ = 0;
  const T* h_ = nullptr;
  Podium<T>* podium_ = nullptr;
  int64_t* visited_ = nullptr;
  std::vector<Node> open_;  // a heap, the likeliest in front
  std::vector<Pair> pairs_;
  std::vector<int32_t> unused_;  // of `pairs_`
};

// The search that keeps only the best nodes of each level.
template <class T>
class BeamSearch {
 public:
  void Search(Walker<T>& walker, const TreeView& tree, const T* h, size_t beam, Podium<T>* podium, int64_t* visited) {
    const auto better = [](const Place& a, const Place& b) {
      return a.log_prob > b.log_prob || (a.log_prob == b.log_prob && a.node < b.node);
    };
    level_.assign(1, {0.0, tree.Root()});
    while (!level_.empty()) {
      next_.clear();
      for (const Place& place : level_) {
        Expand(walker, tree, h, place, [&](const Place& child) {
          ++*visited;
          if (!podium->Admits(child.log_prob)) return;
          tree.IsLeaf(child.node) ? podium->Add(child) : next_.push_back(child);
        });
      }
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

// What a thread searches with.
template <class T>
struct SearchMemory {
  Podium<T> podium;
  BestFirst<T> best_first;
  BeamSearch<T> beam;

  size_t Bytes() const { return podium.Bytes() + best_first.Bytes() + beam.Bytes(); }
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
  const double units = static_cast<double>(query.k) * UsualPath(layer.tree);
  ForEachRow(layer, hidden.rows, units, [&](Walker<T>& walker, size_t r) {
    const T* h = hidden.x + r * layer.features;
    const Kept<SearchMemory<T>> kept;
    auto& [podium, best_first, beam] = *kept;
    podium.Begin(query);
    visited[r] = 0;
    if (query.beam == 0) {
      best_first.Search(walker, layer.tree, layer.features, h, &podium, &visited[r]);
    } else {
      beam.Search(walker, layer.tree, h, query.beam, &podium, &visited[r]);
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

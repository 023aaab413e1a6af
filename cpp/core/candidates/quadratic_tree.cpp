#include "quadratic_tree.hpp"

#include <algorithm>
#include <cmath>

#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

constexpr size_t kChildren = QuadraticShape::kChildren, kLeastLeaf = 16;

const OrderedKernels<float>& KernelsOf(const CandidateTable& table, float) { return table.f32; }
const OrderedKernels<double>& KernelsOf(const CandidateTable& table, double) { return table.f64; }

template <class T>
const OrderedKernels<T>& Kernels() {
  return KernelsOf(ActiveCandidates(), T());
}

size_t Quotient(size_t a, size_t b) { return (a + b - 1) / b; }

template <class T>
void SumLeaf(const QuadraticTree<T>& tree, size_t leaf) {
  const QuadraticShape& s = tree.shape;
  Kernels<T>().outer_sum(tree.weight + leaf * s.leaf * s.features, s.ClassesOf(0, leaf), s.features,
                         tree.sums + leaf * s.packed);
}

template <class T>
void SumChildren(const QuadraticTree<T>& tree, size_t level, size_t node) {
  const QuadraticShape& s = tree.shape;
  T* sum = tree.sums + (s.first[level] + node) * s.packed;
  const size_t end = std::min((node + 1) * kChildren, s.nodes[level - 1]);
  for (size_t c = node * kChildren; c < end; ++c) {
    const T* child = tree.sums + (s.first[level - 1] + c) * s.packed;
    if (c == node * kChildren) {
      std::copy_n(child, s.packed, sum);
    } else {
      for (size_t i = 0; i < s.packed; ++i) sum[i] += child[i];
    }
  }
}

// A class that is looked for: the node where its search has arrived, and the probability of arriving there.
struct Search {
  size_t node, place;
  double p;
};

// The child of each search is chosen by its random number.
class RandomChoice {
 public:
  RandomChoice(const PhiloxKey& key, uint64_t row, uint32_t attempt) : key_(key), row_(row), attempt_(attempt) {}

  // The first part whose share of the total, with those before it, exceeds a uniform number.
  size_t operator()(const Search& search, size_t level, const std::vector<double>& parts, double total) const {
    const uint32_t number = attempt_ << 4 | static_cast<uint32_t>(level / 2);
    const PhiloxBlock block = Philox(key_, row_, static_cast<Purpose>(CandidatePurpose(number)), search.place);
    const uint64_t bits = level % 2 == 0 ? block.Lower() : block.Upper();
    double target = static_cast<double>(bits >> 11) * 0x1p-53 * total;
    size_t c = 0;
    for (; c + 1 < parts.size() && target >= parts[c]; ++c) target -= parts[c];
    return c;
  }

 private:
  const PhiloxKey& key_;
  const uint64_t row_;
  const uint32_t attempt_;
};

// The classes are known.
class KnownChoice {
 public:
  KnownChoice(const QuadraticShape& shape, const int64_t* ids) : shape_(shape), ids_(ids) {}

  size_t operator()(const Search& search, size_t level, const std::vector<double>&, double) const {
    const size_t id = static_cast<size_t>(ids_[search.place]);
    return level == 0 ? id % shape_.leaf : id / shape_.Span(level - 1) % kChildren;
  }

 private:
  const QuadraticShape& shape_;
  const int64_t* ids_;
};

// Searches for classes of one row of candidates. Those that pass the same node share its sums.
template <class T>
class Searcher {
 public:
  Searcher(const QuadraticQuery<T>& q, size_t row)
      : q_(q), s_(q.tree.shape), hidden_(q.hidden + row * q.group * s_.features), square_(s_.packed) {
    SquareHidden();
    values_.resize(std::max(s_.leaf, kChildren));
    outer_.resize(q.group > 1 ? s_.packed : 0);
  }

  // The classes and log-probabilities of searches with these places; `choose` has them as the level above, 0 at leaves.
  template <class Choice, class Result>
  void Run(const std::vector<size_t>& places, const Choice& choose, Result result) {
    searches_.clear();
    for (const size_t place : places) searches_.push_back({0, place, 1.0});
    for (size_t level = s_.Levels(); level-- > 0;) {
      ForEachNode([&](size_t begin, size_t end) {
        const size_t node = searches_[begin].node, first = node * kChildren;
        const double total = SumsOfNodes(level, first, std::min(first + kChildren, s_.nodes[level]));
        Split(begin, end, first, [&](const Search& search) { return choose(search, level + 1, parts_, total); }, total);
      });
    }
    ForEachNode([&](size_t begin, size_t end) {
      const size_t leaf = searches_[begin].node;
      const double total = KernelsOfLeaf(leaf);
      for (size_t i = begin; i < end; ++i) {
        const Search& search = searches_[i];
        const size_t c = choose(search, 0, parts_, total);
        result(search.place, leaf * s_.leaf + c, std::log(search.p * (parts_[c] / total)));
      }
    });
  }

 private:
  // The products of the elements of h, twice those that are above the diagonal, too; or their means over rows.
  void SquareHidden() {
    const double scale = 1.0 / static_cast<double>(q_.group);
    size_t at = 0;
    for (size_t i = 0; i < s_.features; ++i) {
      for (size_t j = 0; j <= i; ++j) {
        double sum = 0.0;
        for (size_t r = 0; r < q_.group; ++r) {
          const T* h = hidden_ + r * s_.features;
          sum += static_cast<double>(h[i]) * static_cast<double>(h[j]);
        }
        square_[at++] = static_cast<T>((i == j ? 1.0 : 2.0) * (scale * sum));
      }
    }
  }

  // A mean of squares is not negative, but by rounding; NaN stays NaN.
  static double NotNegative(T value) { return std::max(static_cast<double>(value), 0.0); }

  // Sets parts_ to the kernels' sums of neighbouring nodes, and returns their sum.
  double SumsOfNodes(size_t level, size_t begin, size_t end) {
    Kernels<T>().dots(square_.data(), q_.tree.sums + (s_.first[level] + begin) * s_.packed, end - begin, s_.packed,
                      values_.data());
    return Parts(end - begin, [&](size_t j) {
      return NotNegative(values_[j]) * q_.alpha + static_cast<double>(s_.ClassesOf(level, begin + j));
    });
  }

  double KernelsOfLeaf(size_t leaf) {
    const size_t count = s_.ClassesOf(0, leaf);
    const T* rows = q_.tree.weight + leaf * s_.leaf * s_.features;
    if (q_.group == 1) {
      Kernels<T>().dots(hidden_, rows, count, s_.features, values_.data());
      return Parts(count, [&](size_t j) {
        const double dot = static_cast<double>(values_[j]);
        return q_.alpha * (dot * dot) + 1.0;
      });
    }
    return Parts(count, [&](size_t j) {
      Kernels<T>().outer_sum(rows + j * s_.features, 1, s_.features, outer_.data());
      T value;
      Kernels<T>().dots(square_.data(), outer_.data(), 1, s_.packed, &value);
      return NotNegative(value) * q_.alpha + 1.0;
    });
  }

  template <class F>
  double Parts(size_t count, F f) {
    parts_.resize(count);
    double total = 0.0;
    for (size_t j = 0; j < count; ++j) total += parts_[j] = f(j);
    return total;
  }

  // Runs f(begin, end) for the searches that have arrived at the same node.
  template <class F>
  void ForEachNode(F f) {
    for (size_t begin = 0, end; begin < searches_.size(); begin = end) {
      end = begin + 1;
      while (end < searches_.size() && searches_[end].node == searches_[begin].node) ++end;
      f(begin, end);
    }
  }

  // Moves searches to the children that they choose, and orders them by child.
  template <class Choose>
  void Split(size_t begin, size_t end, size_t first, Choose choose, double total) {
    for (size_t i = begin; i < end; ++i) {
      Search& search = searches_[i];
      const size_t c = choose(search);
      search.node = first + c;
      search.p *= parts_[c] / total;
    }
    const auto at = searches_.begin();
    std::sort(at + static_cast<ptrdiff_t>(begin), at + static_cast<ptrdiff_t>(end),
              [](const Search& a, const Search& b) { return a.node != b.node ? a.node < b.node : a.place < b.place; });
  }

  const QuadraticQuery<T>& q_;
  const QuadraticShape& s_;
  const T* hidden_;
  std::vector<T> square_, values_, outer_;
  std::vector<double> parts_;
  std::vector<Search> searches_;
};

template <class T, class F>
void ForEachRowOf(const QuadraticQuery<T>& q, F f) {
  const QuadraticShape& s = q.tree.shape;
  const double products = static_cast<double>(s.packed) * static_cast<double>(s.Levels() + 1) * kChildren;
  const double cost = static_cast<double>(q.rows * q.n) * products * 0.2;
  ParallelBlocks(q.rows, 1, cost, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) f(row);
  });
}

}  // namespace

QuadraticShape::QuadraticShape(size_t classes_, size_t features_)
    : classes(classes_),
      features(features_),
      leaf(std::max(features_, kLeastLeaf)),
      packed(features_ * (features_ + 1) / 2),
      total(0) {
  size_t count = Quotient(classes, leaf);
  for (;; count = Quotient(count, kChildren)) {
    nodes.push_back(count);
    first.push_back(total);
    total += count;
    if (count <= kChildren) return;
  }
}

size_t QuadraticShape::Span(size_t level) const {
  size_t span = leaf;
  for (size_t l = 0; l < level; ++l) span *= kChildren;
  return span;
}

size_t QuadraticShape::ClassesOf(size_t level, size_t node) const {
  const size_t span = Span(level);
  return std::min(span, classes - node * span);
}

template <class T>
void UpdateQuadratic(const QuadraticTree<T>& tree, const int64_t* leaves, size_t count) {
  const QuadraticShape& s = tree.shape;
  std::vector<size_t> changed(leaves == nullptr ? s.nodes[0] : count);
  for (size_t i = 0; i < changed.size(); ++i) changed[i] = leaves == nullptr ? i : static_cast<size_t>(leaves[i]);
  const double cost = 0.1 * static_cast<double>(s.packed);
  ParallelBlocks(changed.size(), 1, cost * static_cast<double>(changed.size() * s.leaf), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) SumLeaf(tree, changed[i]);
  });
  for (size_t level = 1; level < s.Levels(); ++level) {
    for (size_t& node : changed) node /= kChildren;
    changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
    ParallelBlocks(changed.size(), 1, cost * static_cast<double>(changed.size() * kChildren),
                   [&](size_t begin, size_t end) {
                     for (size_t i = begin; i < end; ++i) SumChildren(tree, level, changed[i]);
                   });
  }
}

template <class T>
void DrawQuadratic(const QuadraticQuery<T>& q, uint64_t key_bits, uint64_t first_row, const ExcludedClasses& excluded) {
  const PhiloxKey key = MakePhiloxKey(key_bits);
  ForEachRowOf(q, [&](size_t row) {
    Searcher<T> searcher(q, row);
    std::vector<size_t> open(q.n), again;
    for (size_t i = 0; i < q.n; ++i) open[i] = i;
    for (uint32_t attempt = 0; !open.empty(); ++attempt) {
      again.clear();
      searcher.Run(open, RandomChoice(key, first_row + row, attempt), [&](size_t place, size_t id, double log_p) {
        q.ids[row * q.n + place] = static_cast<int64_t>(id);
        q.log_p[row * q.n + place] = log_p;
        if (excluded.Has(row, static_cast<int64_t>(id))) again.push_back(place);
      });
      open.swap(again);
    }
  });
}

template <class T>
void QuadraticLogP(const QuadraticQuery<T>& q) {
  ForEachRowOf(q, [&](size_t row) {
    Searcher<T> searcher(q, row);
    const int64_t* ids = q.ids + row * q.n;
    std::vector<size_t> order(q.n);
    for (size_t i = 0; i < q.n; ++i) order[i] = i;
    searcher.Run(order, KnownChoice(q.tree.shape, ids),
                 [&](size_t place, size_t, double log_p) { q.log_p[row * q.n + place] = log_p; });
  });
}

template void UpdateQuadratic(const QuadraticTree<float>&, const int64_t*, size_t);
template void UpdateQuadratic(const QuadraticTree<double>&, const int64_t*, size_t);
template void DrawQuadratic(const QuadraticQuery<float>&, uint64_t, uint64_t, const ExcludedClasses&);
template void DrawQuadratic(const QuadraticQuery<double>&, uint64_t, uint64_t, const ExcludedClasses&);
template void QuadraticLogP(const QuadraticQuery<float>&);
template void QuadraticLogP(const QuadraticQuery<double>&);

}  // namespace boltzmax

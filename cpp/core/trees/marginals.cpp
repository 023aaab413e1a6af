// The log-probability of every node, or of every class.
#include <algorithm>
#include <vector>

#include "../runtime/parallel.hpp"
#include "inference.hpp"
#include "layer_rows.hpp"

namespace boltzmax {

namespace {

// From the root down, for a few rows at once: the scores of some hundred units are a matrix product, of which a tile
// stays in registers. Scores and log-probabilities have the bits that a `PathScorer` computes.
template <class T>
class Marginals {
 public:
  static constexpr size_t kRows = 8;

  explicit Marginals(const Layer<T>& layer) : layer_(layer), tree_(layer.tree) {}

  // The log-probabilities of the first `nodes` nodes, for at most kRows rows.
  void Fill(const T* hidden, size_t rows, size_t nodes, T* out) {
    hidden_.clear();
    for (size_t r = 0; r < rows; ++r) hidden_.push_back(hidden + r * layer_.features);
    inner_.resize(rows * tree_.inner);
    for (size_t r = 0; r < rows; ++r) Store(r, tree_.Root(), 0.0, nodes, out);
    for (size_t begin = 0, end; begin < tree_.inner; begin = end) {
      end = begin + 1;
      while (end < tree_.inner && tree_.unit_begin[end + 1] - tree_.unit_begin[begin] <= kUnits) ++end;
      ComputeScores(tree_.unit_begin[begin], tree_.unit_begin[end]);
      for (size_t r = 0; r < rows; ++r) {
        for (size_t i = begin; i < end; ++i) Share(r, i, nodes, out);
      }
    }
  }

 private:
  static constexpr int64_t kUnits = 256;

  // Computes the scores of units [first, end), and their logistic log-probabilities.
  void ComputeScores(int64_t first, int64_t end) {
    first_ = first;
    units_ = static_cast<size_t>(end - first);
    weight_.clear();
    for (int64_t unit = first; unit < end; ++unit) weight_.push_back(layer_.Row(unit));
    const size_t all = hidden_.size() * units_;
    dots_.resize(all);
    z_.resize(all);
    minus_.resize(all);
    left_.resize(all);
    right_.resize(all);
    unused_.resize(all);
    Units<T>().dot_rows(hidden_.data(), hidden_.size(), weight_.data(), units_, layer_.features, dots_.data());
    for (size_t k = 0; k < all; ++k) {
      z_[k] = static_cast<double>(dots_[k]);
      if (layer_.bias != nullptr) z_[k] += static_cast<double>(layer_.bias[first + static_cast<int64_t>(k % units_)]);
      minus_[k] = -z_[k];
    }
    Units<double>().log_sigmoid(z_.data(), all, left_.data(), unused_.data());
    Units<double>().log_sigmoid(minus_.data(), all, right_.data(), unused_.data());
  }

  // Distributes the probability of inner node i among its children.
  void Share(size_t r, size_t i, size_t nodes, T* out) {
    const double above = inner_[r * tree_.inner + i];
    const int32_t* children = tree_.child + tree_.child_begin[i];
    const auto count = static_cast<size_t>(tree_.unit_begin[i + 1] - tree_.unit_begin[i]);
    const size_t at = r * units_ + static_cast<size_t>(tree_.unit_begin[i] - first_);
    if (count == 0) {
      Store(r, children[0], above, nodes, out);
    } else if (count == 1) {
      Store(r, children[0], above + left_[at], nodes, out);
      Store(r, children[1], above + right_[at], nodes, out);
    } else {
      softmax_.assign(z_.begin() + static_cast<ptrdiff_t>(at), z_.begin() + static_cast<ptrdiff_t>(at + count));
      LogSoftmax(softmax_);
      for (size_t s = 0; s < count; ++s) Store(r, children[s], above + softmax_[s], nodes, out);
    }
  }

  void Store(size_t r, int32_t node, double log_prob, size_t nodes, T* out) {
    if (static_cast<size_t>(node) < nodes) out[r * nodes + static_cast<size_t>(node)] = static_cast<T>(log_prob);
    if (!tree_.IsLeaf(node)) inner_[r * tree_.inner + tree_.Inner(node)] = log_prob;
  }

  const Layer<T>& layer_;
  const TreeView& tree_;
  std::vector<const T*> hidden_;
  std::vector<double> inner_;  // row by row
  int64_t first_ = 0;
  size_t units_ = 0;
  std::vector<const T*> weight_;
  std::vector<T> dots_;
  std::vector<double> z_, minus_, left_, right_, unused_, softmax_;  // row by row
};

}  // namespace

template <class T>
void LogProbOfNodes(const Layer<T>& layer, const Hidden<T>& hidden, size_t nodes, T* out) {
  const double cost = static_cast<double>(hidden.rows) *
                      CostOfRow(layer.features, static_cast<double>(layer.tree.unit_begin[layer.tree.inner]));
  ParallelBlocks(hidden.rows, 1, cost, [&](size_t begin, size_t end) {
    Marginals<T> marginals(layer);
    for (size_t r = begin; r < end; r += Marginals<T>::kRows) {
      const size_t rows = std::min(Marginals<T>::kRows, end - r);
      marginals.Fill(hidden.x + r * layer.features, rows, nodes, out + r * nodes);
    }
  });
}

template void LogProbOfNodes<float>(const Layer<float>&, const Hidden<float>&, size_t, float*);
template void LogProbOfNodes<double>(const Layer<double>&, const Hidden<double>&, size_t, double*);

}  // namespace boltzmax

// Scores, log-probabilities and gains of a row, at a node and along a path.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "../runtime/row_blocks.hpp"
#include "../runtime/units.hpp"
#include "layer.hpp"
#include "path.hpp"

namespace boltzmax {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// log softmax(z), in place.
template <class S>
void LogSoftmax(std::vector<S>& z) {
  const double one = 1.0;
  char* data = reinterpret_cast<char*>(z.data());
  const StorageKernels& kernels = std::is_same_v<S, float> ? ActiveKernels().f32 : ActiveKernels().f64;
  thread_local Scratch kept_terms;
  void* scratch = kept_terms.Get(2 * kKept * sizeof(double));
  kernels.Of(Op::kLogSoftmax).rows({data, data, nullptr, &one, 0, 0, 0, 0, 1, z.size(), scratch, false, false, false});
}

// The scores and log-probabilities of the choices at a node and along a path. One per thread: its memory is reused. S
// is the type of the scores: float for a step of a float layer, whose gains end as floats, else double.
template <class T, class S = double>
class PathScorer {
 public:
  // Sets the layer; must be called first.
  void Begin(const Layer<T>& layer) {
    layer_ = &layer;
    found_ = -1;
  }

  // The log-probabilities of a node's children, given the node.
  const std::vector<S>& Children(const T* h, int32_t node) {
    const size_t count = layer_->tree.CountChildren(node);
    const int64_t first = layer_->tree.FirstUnit(node);
    children_.resize(count);
    if (count == 1) {
      children_[0] = S(0);
    } else if (count == 2) {
      Pairs(h, &node, 1, children_.data());
    } else {
      children_rows_.clear();
      children_units_.clear();
      for (int64_t unit = first; unit < first + static_cast<int64_t>(count); ++unit) {
        children_rows_.push_back(layer_->Row(unit));
        children_units_.push_back(unit);
      }
      Scores(&h, 1, children_rows_.data(), count, children_units_.data(), children_.data());
      LogSoftmax(children_);
    }
    return children_;
  }

  // The same for up to kMostPairs nodes of two children each, node after node: they take hardly longer than one, which
  // is a chain of dependent instructions.
  static constexpr size_t kMostPairs = 8;
  void Pairs(const T* h, const int32_t* nodes, size_t count, S* log_p) {
    const T* rows[kMostPairs];
    int64_t units[kMostPairs];
    S scores[kMostPairs], signed_scores[2 * kMostPairs], q[2 * kMostPairs];
    for (size_t j = 0; j < count; ++j) {
      units[j] = layer_->tree.FirstUnit(nodes[j]);
      rows[j] = layer_->Row(units[j]);
    }
    Scores(&h, 1, rows, count, units, scores);
    for (size_t j = 0; j < count; ++j) {
      signed_scores[2 * j] = scores[j];
      signed_scores[2 * j + 1] = -scores[j];
    }
    Units<S>().log_sigmoid(signed_scores, 2 * count, log_p, q);
  }

  // ---- the path to a leaf: FindPath, ComputeScores of its units, ComputeLogProbs of the choices ----

  void FindPath(int64_t target) {
    if (target == found_) return;
    FindPaths(layer_->tree, &target, 1, &path_);
    SetPath(target, path_);
  }
  // The same for a path that is known.
  void SetPath(int64_t target, const Path& path) {
    found_ = target;
    const TreeView& tree = layer_->tree;
    count_ = 0;
    softmaxes_.clear();
    for (size_t d = path.Size(); d-- > 0;) {
      const size_t i = tree.Inner(d + 1 < path.Size() ? path[d + 1] : tree.Root());
      const int64_t first = tree.unit_begin[i], end = tree.unit_begin[i + 1];
      const int32_t slot = tree.slot[path[d]];
      const bool is_softmax = end - first > 1;
      if (is_softmax) softmaxes_.push_back({count_, static_cast<size_t>(end - first), static_cast<size_t>(slot)});
      for (int64_t unit = first; unit < end; ++unit, ++count_) {
        if (count_ == units_.size()) MakeRoom();
        units_[count_] = unit;
        rows_[count_] = layer_->Row(unit);
        sign_[count_] = is_softmax ? S(0) : (slot == 0 ? S(1) : S(-1));
      }
    }
  }
  void Prefetch() const {
    constexpr size_t kMost = 64;
    for (size_t j = 0; j < std::min(count_, kMost); ++j) boltzmax::Prefetch(rows_[j], layer_->features);
  }
  // The units' scores for one row, or for `count` rows with this target.
  void ComputeScores(const T* h) { ComputeScores(&h, 1); }
  void ComputeScores(const T* const* h, size_t rows) {
    if (count_ * rows > z_.size()) z_.resize(count_ * rows);
    Scores(h, rows, rows_.data(), count_, units_.data(), z_.data());
  }
  // Turns the scores of `rows` rows into log-probabilities and, if wanted, gains.
  void ComputeLogProbs(bool want_gain, size_t rows = 1) {
    const size_t n = count_, all = n * rows;
    if (all > gain_.size()) {
      log_p_.resize(all);
      signed_.resize(all);
      gain_.resize(all);  // last: its size stands for all
    }
    for (size_t i = 0; i < all; i += n) {
      for (size_t j = 0; j < n; ++j) signed_[i + j] = sign_[j] * z_[i + j];
    }
    Units<S>().log_sigmoid(signed_.data(), all, log_p_.data(), gain_.data());
    for (size_t i = 0; i < all; i += n) {
      for (size_t j = 0; j < n; ++j) gain_[i + j] *= -sign_[j];
      for (const Softmax& s : softmaxes_) ComputeSoftmax(s, i, want_gain);
    }
  }
  // log p(target) of row i.
  double LogProb(size_t i = 0) const {
    double total = 0.0;
    for (size_t j = 0; j < count_; ++j) total += static_cast<double>(log_p_[i * count_ + j]);
    return total;
  }

  // -log p(target) for a row.
  double Loss(const T* h) {
    ComputeScores(h);
    ComputeLogProbs(false);
    return -LogProb();
  }

  // The scores of a path without a softmax: log sigma of each is the log-probability of the child on the path.
  bool IsLogistic() const { return softmaxes_.empty(); }
  void ComputeSignedScores(const T* h, S* scores) {
    ComputeScores(h);
    for (size_t j = 0; j < count_; ++j) scores[j] = sign_[j] * z_[j];
  }

  // The number of units on the path, their numbers and their rows of weights; and d(-log p) / dz_j, row after row.
  size_t Count() const { return count_; }
  const int64_t* UnitIds() const { return units_.data(); }
  T* const* Rows() const { return rows_.data(); }
  const S* Gain() const { return gain_.data(); }

  // The approximate size of its memory: enough for a path of this many units, or a node of this many children.
  size_t Bytes() const {
    return (units_.capacity() + z_.capacity() + gain_.capacity() + children_.capacity()) * 4 * sizeof(int64_t);
  }

 private:
  void MakeRoom() {
    const size_t room = 2 * count_ + 32;
    rows_.resize(room);
    sign_.resize(room);
    units_.resize(room);  // last: its size stands for all
  }

  // z[c * m + j] = x_c . rows_j + bias of units_j
  void Scores(const T* const* x, size_t count, const T* const* rows, size_t m, const int64_t* units, S* z) {
    if constexpr (std::is_same_v<S, T>) {
      Units<T>().dot_rows(x, count, rows, m, layer_->features, z);
    } else {
      if (count * m > dots_.size()) dots_.resize(count * m);
      Units<T>().dot_rows(x, count, rows, m, layer_->features, dots_.data());
      std::copy_n(dots_.begin(), count * m, z);
    }
    if (layer_->bias == nullptr) return;
    for (size_t c = 0; c < count; ++c) {
      for (size_t j = 0; j < m; ++j) z[c * m + j] += static_cast<S>(layer_->bias[units[j]]);
    }
  }

  // A node with more than two children: its units, and the child on the path.
  struct Softmax {
    size_t begin, units, slot;
  };
  // Its log-probability replaces that of its first unit; the others' are 0. The row's numbers begin at `row`.
  void ComputeSoftmax(const Softmax& s, size_t row, bool want_gain) {
    const S* z = z_.data() + row + s.begin;
    S *log_p = log_p_.data() + row + s.begin, *gain = gain_.data() + row + s.begin;
    softmax_.assign(z, z + s.units);
    LogSoftmax(softmax_);
    std::fill_n(log_p, s.units, S(0));
    log_p[0] = softmax_[s.slot];
    if (!want_gain) return;
    for (size_t j = 0; j < s.units; ++j) gain[j] = std::exp(softmax_[j]);
    gain[s.slot] = std::expm1(softmax_[s.slot]);
  }

  const Layer<T>* layer_ = nullptr;
  int64_t found_ = -1;
  Path path_;
  std::vector<Softmax> softmaxes_;
  size_t count_ = 0;
  // Of at least this size, and not all in use: their used part changes with every path.
  std::vector<int64_t> units_;
  std::vector<T*> rows_;
  std::vector<S> sign_;  // of a logistic unit's score in the probability of the child on the path; else 0
  std::vector<S> z_, signed_, log_p_, gain_, softmax_, children_;
  std::vector<T> dots_;
  std::vector<const T*> children_rows_;
  std::vector<int64_t> children_units_;
};

}  // namespace boltzmax

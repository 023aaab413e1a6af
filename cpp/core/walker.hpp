// The way to a leaf, and the choices at a node.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "dispatch.hpp"
#include "hierarchical.hpp"
#include "parallel.hpp"

namespace boltzmax {

template <class T>
const UnitKernels<T>& Units() {
  if constexpr (sizeof(T) == sizeof(float)) {
    return ActiveKernels().units_f32;
  } else {
    return ActiveKernels().units_f64;
  }
}

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// About how long a row takes that visits so many units.
inline double CostOfRow(size_t features, double units) { return units * (20.0 + 0.1 * static_cast<double>(features)); }

// log softmax(z), in place.
inline void LogSoftmax(std::vector<double>& z) {
  const double one = 1.0;
  char* data = reinterpret_cast<char*>(z.data());
  ActiveKernels().f64.log_softmax_rows(
      {data, data, nullptr, &one, 0, 0, 0, 0, 1, z.size(), nullptr, false, false, false});
}

// Asks for the first kilobyte of a row.
template <class T>
void Prefetch(const T* row, size_t n) {
  constexpr size_t kLine = 64, kMost = 1024;
  const char* bytes = reinterpret_cast<const char*>(row);
  for (size_t b = 0; b < std::min(n * sizeof(T), kMost); b += kLine) __builtin_prefetch(bytes + b);
}

// The choices at a node, and on the way to a leaf. One per thread: its memory is used again and again.
template <class T>
class Walker {
 public:
  explicit Walker(const Layer<T>& layer) : layer_(layer) {}

  // Log-probabilities of a node's children, given the node.
  const std::vector<double>& Children(const T* h, int32_t node) {
    const size_t count = layer_.tree.CountChildren(node);
    const int64_t first = layer_.tree.FirstUnit(node);
    children_.resize(count);
    if (count == 1) {
      children_[0] = 0.0;
    } else if (count == 2) {
      double z[2] = {Score(h, first), 0.0}, q[2];
      z[1] = -z[0];
      ActiveKernels().log_sigmoid(z, 2, children_.data(), q);
    } else {
      children_rows_.resize(count);
      for (size_t j = 0; j < count; ++j) children_rows_[j] = layer_.Row(first + static_cast<int64_t>(j));
      Units<T>().dot_rows(h, children_rows_.data(), count, layer_.features, children_.data());
      for (size_t j = 0; j < count; ++j) children_[j] += Bias(first + static_cast<int64_t>(j));
      LogSoftmax(children_);
    }
    return children_;
  }

  // ---- the way to a leaf: Find it, Ask the units for their scores, and Judge these ----

  void Find(int64_t target) {
    if (target == found_) return;
    found_ = target;
    const TreeView& tree = layer_.tree;
    size_t depth = 0, units = 0;
    for (auto node = static_cast<int32_t>(target); node != tree.Root(); node = tree.parent[node]) {
      if (depth == way_.size()) way_.resize(2 * depth + 64);
      way_[depth++] = node;
      const size_t i = tree.Inner(tree.parent[node]);
      units += static_cast<size_t>(tree.unit_begin[i + 1] - tree.unit_begin[i]);
    }
    units_.resize(units);
    rows_.resize(units);
    sign_.resize(units);
    softmaxes_.clear();
    size_t next = 0;
    for (size_t d = depth; d-- > 0;) {
      const int32_t node = way_[d], above = d + 1 < depth ? way_[d + 1] : tree.Root();
      const size_t i = tree.Inner(above);
      const int64_t first = tree.unit_begin[i], end = tree.unit_begin[i + 1];
      const int32_t slot = tree.slot[node];
      const bool is_softmax = end - first > 1;
      if (is_softmax) softmaxes_.push_back({next, static_cast<size_t>(end - first), static_cast<size_t>(slot)});
      for (int64_t unit = first; unit < end; ++unit, ++next) {
        units_[next] = unit;
        rows_[next] = layer_.Row(unit);
        sign_[next] = is_softmax ? 0.0 : (slot == 0 ? 1.0 : -1.0);
      }
    }
  }
  void Prefetch() const {
    constexpr size_t kMost = 64;
    for (size_t j = 0; j < std::min(rows_.size(), kMost); ++j) boltzmax::Prefetch(rows_[j], layer_.features);
  }
  // The units' scores for row i of so many that go this way.
  void Ask(const T* h, size_t i = 0, size_t rows = 1) {
    const size_t n = units_.size();
    z_.resize(n * rows);
    double* z = z_.data() + i * n;
    Units<T>().dot_rows(h, rows_.data(), n, layer_.features, z);
    if (layer_.bias != nullptr) {
      for (size_t j = 0; j < n; ++j) z[j] += Bias(units_[j]);
    }
  }
  // Makes log-probabilities and gains of the scores of so many rows.
  void Judge(bool want_gain, size_t rows = 1) {
    const size_t n = units_.size(), all = n * rows;
    log_p_.resize(all);
    gain_.resize(all);
    signed_.resize(all);
    for (size_t i = 0; i < all; i += n) {
      for (size_t j = 0; j < n; ++j) signed_[i + j] = sign_[j] * z_[i + j];
    }
    ActiveKernels().log_sigmoid(signed_.data(), all, log_p_.data(), gain_.data());
    for (size_t i = 0; i < all; i += n) {
      for (size_t j = 0; j < n; ++j) gain_[i + j] *= -sign_[j];
      for (const Softmax& s : softmaxes_) JudgeSoftmax(s, i, want_gain);
    }
  }
  // log p(target) of row i; and d(-log p) / dz_j of all rows, one after the other.
  double LogProb(size_t i = 0) const {
    double total = 0.0;
    for (size_t j = 0; j < units_.size(); ++j) total += log_p_[i * units_.size() + j];
    return total;
  }

  size_t Count() const { return units_.size(); }
  const std::vector<int64_t>& UnitIds() const { return units_; }
  T* const* Rows() const { return rows_.data(); }
  std::vector<double>& Gain() { return gain_; }

 private:
  double Bias(int64_t unit) const { return layer_.bias == nullptr ? 0.0 : static_cast<double>(layer_.bias[unit]); }
  double Score(const T* h, int64_t unit) const {
    const T* row = layer_.Row(unit);
    double z;
    Units<T>().dot_rows(h, &row, 1, layer_.features, &z);
    return z + Bias(unit);
  }

  // A node of more than two children: these of the units, and which child is on the way.
  struct Softmax {
    size_t begin, units, slot;
  };
  // Its log-probability takes the place of its first unit's, and 0 that of the others'. The row's numbers begin at `row`.
  void JudgeSoftmax(const Softmax& s, size_t row, bool want_gain) {
    const double* z = z_.data() + row + s.begin;
    double *log_p = log_p_.data() + row + s.begin, *gain = gain_.data() + row + s.begin;
    softmax_.assign(z, z + s.units);
    LogSoftmax(softmax_);
    std::fill(log_p, log_p + s.units, 0.0);
    log_p[0] = softmax_[s.slot];
    if (!want_gain) return;
    for (size_t j = 0; j < s.units; ++j) gain[j] = std::exp(softmax_[j]);
    gain[s.slot] = std::expm1(softmax_[s.slot]);
  }

  const Layer<T>& layer_;
  int64_t found_ = -1;
  std::vector<int32_t> way_;
  std::vector<Softmax> softmaxes_;
  std::vector<int64_t> units_;
  std::vector<T*> rows_, children_rows_;
  std::vector<double> sign_;  // of a logistic unit's score in the probability of the child on the way; else 0
  std::vector<double> z_, signed_, log_p_, gain_, softmax_, children_;
};

// f(walker, r) for every row.
template <class T, class F>
void ForEachRow(const Layer<T>& layer, size_t rows, double units, F f) {
  const double cost = static_cast<double>(rows) * CostOfRow(layer.features, units);
  ParallelBlocks(rows, 1, cost, [&](size_t begin, size_t end) {
    Walker<T> walker(layer);
    for (size_t r = begin; r < end; ++r) f(walker, r);
  });
}

inline double UsualPath(const TreeView& tree) { return 2.0 * std::log2(static_cast<double>(tree.classes) + 1.0); }

}  // namespace boltzmax

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
      rows_.resize(count);
      for (size_t j = 0; j < count; ++j) rows_[j] = layer_.Row(first + static_cast<int64_t>(j));
      Units<T>().dot_rows(h, rows_.data(), count, layer_.features, children_.data());
      for (size_t j = 0; j < count; ++j) children_[j] += Bias(first + static_cast<int64_t>(j));
      LogSoftmax(children_);
    }
    return children_;
  }

  // ---- the way to a leaf: Find it, Ask the units for their scores, and Judge these ----

  struct Choice {
    size_t begin, units;  // which of `units`
    size_t slot;
  };

  void Find(int64_t target) {
    choices_.clear();
    units_.clear();
    rows_.clear();
    const TreeView& tree = layer_.tree;
    const int32_t* parent = tree.parent;
    way_.clear();
    for (auto node = static_cast<int32_t>(target); node != tree.Root(); node = parent[node]) way_.push_back(node);
    for (size_t i = way_.size(); i-- > 0;) {
      const int32_t node = way_[i], above = parent[node];
      const int64_t first = tree.FirstUnit(above);
      const auto units = static_cast<size_t>(tree.unit_begin[tree.Inner(above) + 1] - first);
      if (units == 0) continue;
      choices_.push_back({units_.size(), units, static_cast<size_t>(tree.slot[node])});
      for (size_t j = 0; j < units; ++j) {
        units_.push_back(first + static_cast<int64_t>(j));
        rows_.push_back(layer_.Row(units_.back()));
      }
    }
  }
  void Prefetch() const {
    constexpr size_t kLine = 64, kMost = 64;
    for (size_t j = 0; j < std::min(rows_.size(), kMost); ++j) {
      const char* row = reinterpret_cast<const char*>(rows_[j]);
      for (size_t b = 0; b < std::min<size_t>(layer_.features * sizeof(T), 1024); b += kLine)
        __builtin_prefetch(row + b);
    }
  }
  void Ask(const T* h) {
    z_.resize(units_.size());
    Units<T>().dot_rows(h, rows_.data(), rows_.size(), layer_.features, z_.data());
    if (layer_.bias != nullptr) {
      for (size_t j = 0; j < units_.size(); ++j) z_[j] += Bias(units_[j]);
    }
  }
  // log p(target); gain[j] = d(-log p) / dz_j if that is wanted.
  double Judge(bool want_gain) {
    signed_.clear();
    for (const Choice& c : choices_) {
      if (c.units == 1) signed_.push_back(c.slot == 0 ? z_[c.begin] : -z_[c.begin]);
    }
    log_p_.resize(signed_.size());
    q_.resize(signed_.size());
    ActiveKernels().log_sigmoid(signed_.data(), signed_.size(), log_p_.data(), q_.data());
    gain_.resize(want_gain ? units_.size() : 0);
    double total = 0.0;
    size_t logistic = 0;
    for (const Choice& c : choices_) {
      if (c.units == 1) {
        if (want_gain) gain_[c.begin] = c.slot == 0 ? -q_[logistic] : q_[logistic];
        total += log_p_[logistic++];
        continue;
      }
      softmax_.assign(z_.begin() + static_cast<ptrdiff_t>(c.begin),
                      z_.begin() + static_cast<ptrdiff_t>(c.begin + c.units));
      LogSoftmax(softmax_);
      total += softmax_[c.slot];
      if (!want_gain) continue;
      for (size_t j = 0; j < c.units; ++j) gain_[c.begin + j] = std::exp(softmax_[j]);
      gain_[c.begin + c.slot] = std::expm1(softmax_[c.slot]);
    }
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

  const Layer<T>& layer_;
  std::vector<int32_t> way_;
  std::vector<Choice> choices_;
  std::vector<int64_t> units_;
  std::vector<T*> rows_;
  std::vector<double> z_, signed_, log_p_, q_, gain_, softmax_, children_;
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

// How the rows of a layer on a tree are divided among threads.
#pragma once

#include <cmath>
#include <memory>

#include "../runtime/parallel.hpp"
#include "path_scorer.hpp"

namespace boltzmax {

// A rough estimate of the time for a row that visits `units` units.
inline double CostOfRow(size_t features, double units) { return units * (20.0 + 0.1 * static_cast<double>(features)); }

// A rough estimate of the number of units on the path to a leaf.
inline double TypicalPathLength(const TreeView& tree) {
  return 2.0 * std::log2(static_cast<double>(tree.classes) + 1.0);
}

// A thread's memory, kept for its next call unless it has become large.
template <class W>
class Kept {
 public:
  Kept() : mine_(OfThread()) {}
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept() {
    if (mine_->Bytes() > kMostBytes) of_thread_.reset();
  }
  W& operator*() const { return *mine_; }

 private:
  static constexpr size_t kMostBytes = size_t{1} << 18;
  // A pointer: otherwise the compiler would look up the thread's memory again and again, which takes a call.
  static thread_local std::unique_ptr<W> of_thread_;
  static W* OfThread() {
    if (of_thread_ == nullptr) of_thread_ = std::make_unique<W>();
    return of_thread_.get();
  }
  W* const mine_;
};
template <class W>
thread_local std::unique_ptr<W> Kept<W>::of_thread_;

// Runs f(scorer, begin, end) for blocks of rows.
template <class T, class F>
void ForEachBlockOfRows(const Layer<T>& layer, size_t rows, double units, F f) {
  const double cost = static_cast<double>(rows) * CostOfRow(layer.features, units);
  ParallelBlocks(rows, 1, cost, [&](size_t begin, size_t end) {
    const Kept<PathScorer<T>> kept;
    PathScorer<T>& scorer = *kept;
    scorer.Begin(layer);
    f(scorer, begin, end);
  });
}

// Runs f(scorer, r) for every row.
template <class T, class F>
void ForEachRow(const Layer<T>& layer, size_t rows, double units, F f) {
  ForEachBlockOfRows(layer, rows, units, [&](PathScorer<T>& scorer, size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) f(scorer, r);
  });
}

}  // namespace boltzmax

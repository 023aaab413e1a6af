// A softmax over the leaves of a tree: the product of the choices on the way to a leaf (see core/trees/layer.hpp).
#pragma once

#include "ranking.cuh"
#include "task.hpp"
#include "wide_sum.cuh"

namespace boltzmax::cuda {

inline constexpr int kLayerWarps = 4, kLayerThreads = 32 * kLayerWarps;

// Nodes 0 .. classes-1 are the leaves; a node with two children has one unit, one with more has one unit each.
struct Node {
  int64_t first_unit, first_child;
  int units, children;

  BOLTZMAX_DEVICE Node(const TreeOnDevice& tree, int32_t node) {
    const int64_t i = node - tree.classes;
    first_unit = tree.unit_begin[i];
    first_child = tree.child_begin[i];
    units = static_cast<int>(tree.unit_begin[i + 1] - first_unit);
    children = static_cast<int>(tree.child_begin[i + 1] - first_child);
  }
};

// Scores of nodes for one hidden row. All threads of a block call together.
template <class S>
struct NodeScorer {
  using T = Compute<S>;
  const LayerTask& task;
  const S* hidden;
  WideSum<double>* shared_sum;
  double* shared_max;

  // The scores of a node's units, one warp per unit.
  BOLTZMAX_DEVICE void ComputeScores(const Node& node, T* scores) const {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    for (int j = warp; j < node.units; j += kLayerWarps) {
      const int64_t unit = node.first_unit + j;
      const S* weight = static_cast<const S*>(task.weight) + unit * task.features;
      T sum = T(0);
      for (int64_t f = lane; f < task.features; f += 32) sum = MulAdd(Widen(hidden[f]), Widen(weight[f]), sum);
      sum = FoldWarp(sum, [](T& a, T b) { a += b; });
      if (lane == 0) scores[j] = task.bias == nullptr ? sum : sum + Widen(static_cast<const S*>(task.bias)[unit]);
    }
    __syncthreads();
  }
  // The logarithm of the sum of the exponentials of a node's scores; the node has several.
  BOLTZMAX_DEVICE double LogSumExp(const Node& node, const T* scores) const {
    const int thread = static_cast<int>(threadIdx.x);
    double max = -Infinity<double>();
    for (int j = thread; j < node.units; j += kLayerThreads) max = Max(max, static_cast<double>(scores[j]));
    max = Fold<kLayerWarps>(max, shared_max, [](double& a, double b) { a = Max(a, b); });
    auto sum = WideSum<double>::Zero();
    for (int j = thread; j < node.units; j += kLayerThreads) sum.Add(exp(static_cast<double>(scores[j]) - max));
    sum = Fold<kLayerWarps>(sum, shared_sum, Join());
    return max + log(sum.Total());
  }
};

// log sigma(z), without overflow
BOLTZMAX_DEVICE double LogSigmoid(double z) { return (z < 0 ? z : 0.0) - log1p(exp(z < 0 ? z : -z)); }

// The log-probability of a node's child, given its scores and their logsumexp.
template <class T>
BOLTZMAX_DEVICE double LogProbOfChild(const Node& node, int slot, const T* scores, double lse) {
  if (node.units == 0) return 0.0;  // an only child
  if (node.units == 1) return LogSigmoid(slot == 0 ? static_cast<double>(scores[0]) : -static_cast<double>(scores[0]));
  return static_cast<double>(scores[slot]) - lse;
}

// ---- losses, and their gradients ----

// Sets n numbers to one value, by all threads of a block.
template <class T>
BOLTZMAX_DEVICE void Fill(T* numbers, int64_t n, T value) {
  for (int64_t i = threadIdx.x; i < n; i += kLayerThreads) numbers[i] = value;
}

// -d(log p of the child) / d(score j): p_j - [j is the child's]; a logistic unit's score is that of its first child.
BOLTZMAX_DEVICE double SlopeOfScore(const Node& node, int slot, int j, double z, double lse) {
  if (node.units > 1) return exp(z - lse) - (slot == j ? 1.0 : 0.0);
  // Near 1, the difference is minus the probability of the other child.
  return slot == 0 ? -exp(LogSigmoid(-z)) : exp(LogSigmoid(z));
}

// Turns a node's scores into slopes, and adds them to the gradient by its bias.
template <class T>
BOLTZMAX_DEVICE void ComputeSlopes(const LayerTask& task, const Node& node, int slot, double lse, T scale, T* scores) {
  for (int j = static_cast<int>(threadIdx.x); j < node.units; j += kLayerThreads) {
    scores[j] = scale * static_cast<T>(SlopeOfScore(node, slot, j, static_cast<double>(scores[j]), lse));
    if (task.d_bias != nullptr) atomicAdd(static_cast<T*>(task.d_bias) + node.first_unit + j, scores[j]);
  }
}

// Adds the contribution of a node's slopes to the gradients by the hidden row and by the node's weights. Many rows add
// to the latter, in no particular order.
template <class S, class T = Compute<S>>
BOLTZMAX_DEVICE void AddGradients(const LayerTask& task, const Node& node, const T* slopes, const S* hidden,
                                  T* d_hidden) {
  for (int64_t f = threadIdx.x; f < task.features; f += kLayerThreads) {
    T pull = d_hidden[f];
    const T h = Widen(hidden[f]);
    for (int j = 0; j < node.units; ++j) {
      const int64_t at = (node.first_unit + j) * task.features + f;
      pull = MulAdd(slopes[j], Widen(static_cast<const S*>(task.weight)[at]), pull);
      atomicAdd(static_cast<T*>(task.d_weight) + at, slopes[j] * h);
    }
    d_hidden[f] = pull;
  }
}

// One block per row: the loss along the path to its target, from the leaf up; with gradients, these as well. `scores`
// has room for the units of the longest path.
template <class S, bool kWithGradients>
__global__ void __launch_bounds__(kLayerThreads)
    PathsOfRows(const __grid_constant__ LayerTask task, int64_t first_row, Compute<S>* all_scores) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<double>, shared_sum, kLayerWarps);
  BOLTZMAX_SHARED(double, shared_max, kLayerWarps);
  const int64_t r = first_row + static_cast<int64_t>(blockIdx.x), target = task.target[r];
  T* const loss = static_cast<T*>(task.losses) + r;
  T* const d_hidden = kWithGradients ? static_cast<T*>(task.d_hidden) + r * task.features : nullptr;
  const bool has_class = target >= 0 && target < task.tree.classes;
  const T without_class = target < 0 ? T(0) : NotANumber<T>();  // ignored, or invalid
  if (kWithGradients) Fill(d_hidden, task.features, has_class ? T(0) : without_class);
  if (!has_class) {
    if (threadIdx.x == 0) *loss = without_class;
    return;
  }
  const NodeScorer<S> scorer = {task, static_cast<const S*>(task.hidden) + r * task.features, shared_sum, shared_max};
  T* const scores = all_scores + static_cast<int64_t>(blockIdx.x) * task.longest;
  const T scale = task.scale == nullptr ? T(1) : static_cast<T>(*task.scale);
  double log_prob = 0.0;
  auto child = static_cast<int32_t>(target);
  for (int32_t parent = task.tree.parent[child]; parent >= 0; child = parent, parent = task.tree.parent[child]) {
    const Node node(task.tree, parent);
    const int slot = task.tree.slot[child];
    scorer.ComputeScores(node, scores);
    const double lse = node.units > 1 ? scorer.LogSumExp(node, scores) : 0.0;
    log_prob += LogProbOfChild(node, slot, scores, lse);
    __syncthreads();  // the scores have been read
    if constexpr (kWithGradients) {
      ComputeSlopes(task, node, slot, lse, scale, scores);
      __syncthreads();
      AddGradients(task, node, scores, scorer.hidden, d_hidden);
      __syncthreads();  // before the next node's scores
    }
  }
  if (threadIdx.x == 0) *loss = static_cast<T>(task.gives_log_probs ? log_prob : 0.0 - log_prob);
}

// ---- the likeliest classes ----

// Nodes to be opened and classes, ranked by log-probability.
using Place = Candidate<double>;

// The k best classes so far, in the output; once there are k, a heap with the worst at its root. Thread 0 writes; all
// read after a barrier.
template <class T>
struct TopK {
  int64_t k;
  CandidateArrays<T> best;
  int64_t* count;  // shared

  // Results are rounded to T, and ties are ties of the rounded values.
  static BOLTZMAX_DEVICE Candidate<T> Rounded(const Place& place) { return {static_cast<T>(place.key), place.id}; }
  BOLTZMAX_DEVICE bool Takes(const Place& place) const { return *count < k || Rounded(place).GoesBefore(best.Get(0)); }
  BOLTZMAX_DEVICE bool IsBeyond(double log_prob) const {
    return *count == k && static_cast<T>(log_prob) < best.keys[0];
  }
  BOLTZMAX_DEVICE void Insert(const Place& place) const {
    if (*count < k) {
      best.Set((*count)++, Rounded(place));
      if (*count < k) return;
      for (int64_t i = k / 2; i-- > 0;) MoveDown(i);
    } else if (Takes(place)) {
      best.Set(0, Rounded(place));
      MoveDown(0);
    }
  }
  BOLTZMAX_DEVICE void MoveDown(int64_t i) const {
    const auto is_worse = [&](int64_t a, int64_t b) { return best.Get(b).GoesBefore(best.Get(a)); };
    SiftDown(i, k, is_worse, [&](int64_t a, int64_t b) { best.Swap(a, b); });
  }
  // Sorts the classes, and marks the places of missing ones; by all threads.
  BOLTZMAX_DEVICE void Finish() const {
    __syncthreads();  // all have compared with the worst
    Sort<kLayerThreads>(best, *count);
    for (int64_t j = *count + static_cast<int64_t>(threadIdx.x); j < k; j += kLayerThreads) {
      best.Set(j, {-Infinity<T>(), -1});
    }
  }
};

// The open nodes of one row: every thread has a heap, whose elements are one block's width apart, so that all heaps
// have the same size but for one.
struct OpenNodes {
  Place* places;
  int *count, *settled;  // shared: all nodes, and those that are in heaps
  Place* shared;         // for folding

  // Element i of this thread's heap.
  static BOLTZMAX_DEVICE int64_t At(int64_t i) { return i * kLayerThreads + static_cast<int64_t>(threadIdx.x); }
  BOLTZMAX_DEVICE bool GoesBefore(int64_t i, int64_t j) const { return places[At(i)].GoesBefore(places[At(j)]); }
  BOLTZMAX_DEVICE void Swap(int64_t i, int64_t j) const {
    const Place other = places[At(i)];
    places[At(i)] = places[At(j)];
    places[At(j)] = other;
  }
  // The number of a heap's elements if there are n in all.
  static BOLTZMAX_DEVICE int64_t SizeOfHeap(int n) {
    return (int64_t{n} + kLayerThreads - 1 - static_cast<int64_t>(threadIdx.x)) / kLayerThreads;
  }

  // Removes the likeliest and returns it; its id is INT64_MAX if is_beyond(its log-probability): then none is wanted.
  template <class F>
  BOLTZMAX_DEVICE Place TakeBest(F is_beyond) const {
    const auto thread = static_cast<int>(threadIdx.x);
    const Place mine = thread < *count ? places[thread] : Place{-Infinity<double>(), INT64_MAX};
    const Place best = FoldBest<kLayerWarps>(mine, shared);
    if (is_beyond(best.key)) return {best.key, INT64_MAX};
    __syncthreads();  // all have read the number of open nodes
    if (mine.id == best.id) {
      places[thread] = places[--*count];
      *settled = *count;
      SiftDown(
          0, SizeOfHeap(*count), [&](int64_t i, int64_t j) { return GoesBefore(i, j); },
          [&](int64_t i, int64_t j) { Swap(i, j); });
    }
    __syncthreads();
    return best;
  }
  // Any threads add nodes; after a barrier, all settle them.
  BOLTZMAX_DEVICE void Add(const Place& place) const { places[atomicAdd(count, 1)] = place; }
  BOLTZMAX_DEVICE void Settle() const {
    for (int64_t i = SizeOfHeap(*settled); i < SizeOfHeap(*count); ++i) {
      SiftUp(i, [&](int64_t a, int64_t b) { return GoesBefore(a, b); }, [&](int64_t a, int64_t b) { Swap(a, b); });
    }
  }
};

// The children of an opened node: log_prob_of(j) and ids.
template <class F>
struct Children {
  const Node& node;
  const int32_t* ids;
  int64_t classes;
  double min_log_prob;
  F log_prob_of;

  // Handles the children from `first` on, one per thread: inner nodes become open, and thread 0 inserts leaves into the
  // top. `leaves` has room for one per thread.
  template <class T>
  BOLTZMAX_DEVICE void Visit(int first, const OpenNodes& open, const TopK<T>& top, Place* leaves, int* found) const {
    const int j = first + static_cast<int>(threadIdx.x);
    if (j < node.children) {
      const Place here = {log_prob_of(j), ids[j]};
      if (here.key >= min_log_prob) {
        if (here.id >= classes) {
          open.Add(here);
        } else if (top.Takes(here)) {
          leaves[atomicAdd(found, 1)] = here;
        }
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int i = 0; i < *found; ++i) top.Insert(leaves[i]);
      *found = 0;
    }
    __syncthreads();
  }
};

// One block per row. Opens nodes in order of probability, until none can hide a better class. For each block,
// `all_open` has room for all inner nodes, and `all_scores` for the units of the largest.
template <class S>
__global__ void __launch_bounds__(kLayerThreads)
    TopClassesOfRows(const __grid_constant__ LayerTask task, const __grid_constant__ TopTask query, int64_t blocks,
                     Place* all_open, Compute<S>* all_scores) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<double>, shared_sum, kLayerWarps);
  BOLTZMAX_SHARED(double, shared_max, kLayerWarps);
  BOLTZMAX_SHARED(Place, shared_best, kLayerWarps);
  BOLTZMAX_SHARED(Place, leaves, kLayerThreads);
  BOLTZMAX_SHARED(int, counts, 3);
  BOLTZMAX_SHARED(int64_t, classes_found, 1);
  int *const opened = &counts[0], *const settled = &counts[1], *const leaves_found = &counts[2];
  const OpenNodes open = {all_open + static_cast<int64_t>(blockIdx.x) * task.tree.inner, opened, settled, shared_best};
  T* const scores = all_scores + static_cast<int64_t>(blockIdx.x) * query.widest;
  for (int64_t r = static_cast<int64_t>(blockIdx.x); r < task.rows; r += blocks) {
    const NodeScorer<S> scorer = {task, static_cast<const S*>(task.hidden) + r * task.features, shared_sum, shared_max};
    const TopK<T> top = {
        query.k, {static_cast<T*>(query.log_probs) + r * query.k, query.ids + r * query.k}, classes_found};
    if (threadIdx.x == 0) {
      open.places[0] = {0.0, task.tree.classes};
      *opened = *settled = 1;
      *leaves_found = 0;
      *classes_found = 0;
    }
    __syncthreads();
    while (*opened > 0) {
      const Place best = open.TakeBest([&](double log_prob) { return top.IsBeyond(log_prob); });
      if (best.id == INT64_MAX) break;
      const Node node(task.tree, static_cast<int32_t>(best.id));
      scorer.ComputeScores(node, scores);
      const double lse = node.units > 1 ? scorer.LogSumExp(node, scores) : 0.0;
      const auto log_prob_of = [&](int j) { return best.key + LogProbOfChild(node, j, scores, lse); };
      const Children<decltype(log_prob_of)> children = {node, task.tree.child + node.first_child, task.tree.classes,
                                                        query.min_log_prob, log_prob_of};
      for (int first = 0; first < node.children; first += kLayerThreads) {
        children.Visit(first, open, top, leaves, leaves_found);
      }
      open.Settle();
      __syncthreads();
    }
    top.Finish();
    __syncthreads();
  }
}

}  // namespace boltzmax::cuda

// A softmax over the leaves of a tree: the product of the choices on the way to a leaf (see core/trees/hierarchical.hpp).
#pragma once

#include "task.hpp"
#include "wide_sum.cuh"

namespace boltzmax::cuda {

inline constexpr int kLayerWarps = 4, kLayerThreads = 32 * kLayerWarps;

// Nodes 0 .. classes-1 are the leaves; one with two children has one unit, one with more has one for each.
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

// One row of hidden numbers, and the layer's answers to it. All threads of a block ask together.
template <class S>
struct Asker {
  using T = Compute<S>;
  const LayerTask& task;
  const S* hidden;
  WideSum<double>* shared_sum;
  double* shared_max;

  // The scores of a node's units: a warp for each.
  BOLTZMAX_DEVICE void Score(const Node& node, T* scores) const {
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
  // The logarithm of the sum of the exponentials of a node's scores, of which there are several.
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

// A block for each row: the loss on the way to its target; with gradients, these as well. `scores` has room for the units
// of the longest way. Weights are pulled by many rows, whose shares arrive in no order.
template <class S>
__global__ void __launch_bounds__(kLayerThreads)
    WaysOfRows(const __grid_constant__ LayerTask task, int64_t first_row, Compute<S>* all_scores) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<double>, shared_sum, kLayerWarps);
  BOLTZMAX_SHARED(double, shared_max, kLayerWarps);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t r = first_row + static_cast<int64_t>(blockIdx.x), target = task.target[r];
  const Asker<S> asker = {task, static_cast<const S*>(task.hidden) + r * task.features, shared_sum, shared_max};
  T* const losses = static_cast<T*>(task.losses);
  T* const d_hidden = task.d_hidden == nullptr ? nullptr : static_cast<T*>(task.d_hidden) + r * task.features;
  if (target < 0 || target >= task.tree.classes) {  // left out, or no class
    const T nothing = target < 0 ? T(0) : NotANumber<T>();
    if (thread == 0) losses[r] = nothing;
    if (d_hidden == nullptr) return;
    for (int64_t f = thread; f < task.features; f += kLayerThreads) d_hidden[f] = nothing;
    return;
  }
  T* const scores = all_scores + static_cast<int64_t>(blockIdx.x) * task.longest;
  const T scale = task.scale == nullptr ? T(1) : static_cast<T>(*task.scale);
  if (d_hidden != nullptr) {
    for (int64_t f = thread; f < task.features; f += kLayerThreads) d_hidden[f] = T(0);
  }
  double log_prob = 0.0;
  for (auto child = static_cast<int32_t>(target);;) {
    const int32_t parent = task.tree.parent[child];
    if (parent < 0) break;
    const Node node(task.tree, parent);
    const int slot = task.tree.slot[child];
    asker.Score(node, scores);
    const double lse = node.units > 1 ? asker.LogSumExp(node, scores) : 0.0;
    log_prob += LogProbOfChild(node, slot, scores, lse);
    if (d_hidden != nullptr) {
      __syncthreads();  // the scores have been read
      // By a score: p - [on the way], a logistic unit's the same for its first child.
      for (int j = thread; j < node.units; j += kLayerThreads) {
        const double z = static_cast<double>(scores[j]);
        const double p = node.units == 1 ? exp(LogSigmoid(z)) : exp(z - lse);
        const bool is_on_way = node.units == 1 ? slot == 0 : slot == j;
        // Near 1 the difference is that of the complement.
        const double gain = node.units == 1 && slot == 0 ? -exp(LogSigmoid(-z)) : p - (is_on_way ? 1.0 : 0.0);
        scores[j] = scale * static_cast<T>(gain);
        if (task.d_bias != nullptr) atomicAdd(static_cast<T*>(task.d_bias) + node.first_unit + j, scores[j]);
      }
      __syncthreads();
      for (int64_t f = thread; f < task.features; f += kLayerThreads) {
        T pull = d_hidden[f];
        const T h = Widen(asker.hidden[f]);
        for (int j = 0; j < node.units; ++j) {
          const int64_t at = (node.first_unit + j) * task.features + f;
          pull = MulAdd(scores[j], Widen(static_cast<const S*>(task.weight)[at]), pull);
          atomicAdd(static_cast<T*>(task.d_weight) + at, scores[j] * h);
        }
        d_hidden[f] = pull;
      }
      __syncthreads();  // before the next node's scores
    } else {
      __syncthreads();
    }
    child = parent;
  }
  if (thread == 0) losses[r] = static_cast<T>(task.gives_log_probs ? log_prob : 0.0 - log_prob);
}

// ---- the likeliest classes ----

// A node on its way to be opened, or a class to be among the best: the likelier first, of equal ones the lower number.
struct Place {
  double log_prob;
  int64_t id;

  BOLTZMAX_DEVICE bool GoesBefore(const Place& other) const {
    return log_prob > other.log_prob || (log_prob == other.log_prob && id < other.id);
  }
};
BOLTZMAX_DEVICE Place FromLane(const Place& place, int distance) {
  return {FromLane(place.log_prob, distance), FromLane(place.id, distance)};
}

BOLTZMAX_DEVICE Place FoldBest(const Place& mine, Place* shared) {
  return Fold<kLayerWarps>(mine, shared, [](Place& a, const Place& b) {
    if (b.GoesBefore(a)) a = b;
  });
}

// The k best classes so far, in their order, where the results go. Thread 0 writes; all read after a barrier.
template <class T>
struct Podium {
  int64_t k;
  int64_t* ids;
  T* log_probs;

  // Results are rounded to T, and ties are ties of what the caller sees.
  BOLTZMAX_DEVICE bool Takes(const Place& place, int64_t count) const {
    if (count < k) return true;
    const T mine = static_cast<T>(place.log_prob), last = log_probs[k - 1];
    return mine > last || (mine == last && place.id < ids[k - 1]);
  }
  BOLTZMAX_DEVICE bool IsBeyond(double log_prob, int64_t count) const {
    return count == k && static_cast<T>(log_prob) < log_probs[k - 1];
  }
  BOLTZMAX_DEVICE void Insert(const Place& place, int64_t count) const {
    const T mine = static_cast<T>(place.log_prob);
    int64_t j = count < k ? count : k - 1;
    for (; j > 0 && (log_probs[j - 1] < mine || (log_probs[j - 1] == mine && ids[j - 1] > place.id)); --j) {
      log_probs[j] = log_probs[j - 1];
      ids[j] = ids[j - 1];
    }
    log_probs[j] = mine;
    ids[j] = place.id;
  }
};

// A block for one row after another. Nodes are opened from the likeliest on, until none can hide a better class. `open`
// and `scores` have room for all inner nodes, and the units of the largest, of each block.
template <class S>
__global__ void __launch_bounds__(kLayerThreads)
    TopClassesOfRows(const __grid_constant__ LayerTask task, const __grid_constant__ TopTask top, int64_t blocks,
                     Place* all_open, Compute<S>* all_scores) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(WideSum<double>, shared_sum, kLayerWarps);
  BOLTZMAX_SHARED(double, shared_max, kLayerWarps);
  BOLTZMAX_SHARED(Place, shared_best, kLayerWarps);
  BOLTZMAX_SHARED(int, opened, 1);
  const int thread = static_cast<int>(threadIdx.x);
  Place* const open = all_open + static_cast<int64_t>(blockIdx.x) * task.tree.inner;
  T* const scores = all_scores + static_cast<int64_t>(blockIdx.x) * top.widest;
  for (int64_t r = static_cast<int64_t>(blockIdx.x); r < task.rows; r += blocks) {
    const Asker<S> asker = {task, static_cast<const S*>(task.hidden) + r * task.features, shared_sum, shared_max};
    const Podium<T> podium = {top.k, top.ids + r * top.k, static_cast<T*>(top.log_probs) + r * top.k};
    int64_t found = 0;
    if (thread == 0) {
      open[0] = {0.0, task.tree.classes};
      *opened = 1;
    }
    __syncthreads();
    while (*opened > 0) {
      // The likeliest, with where it is.
      Place mine = {-Infinity<double>(), INT64_MAX};
      int place = -1;
      for (int i = thread; i < *opened; i += kLayerThreads) {
        if (open[i].GoesBefore(mine)) {
          mine = open[i];
          place = i;
        }
      }
      const Place best = FoldBest(mine, shared_best);
      if (podium.IsBeyond(best.log_prob, found)) break;
      __syncthreads();  // all have counted those that are open
      if (place >= 0 && mine.id == best.id) open[place] = open[--*opened];
      __syncthreads();
      const Node node(task.tree, static_cast<int32_t>(best.id));
      asker.Score(node, scores);
      const double lse = node.units > 1 ? asker.LogSumExp(node, scores) : 0.0;
      const int32_t* children = task.tree.child + node.first_child;
      const auto log_prob_of = [&](int j) { return best.log_prob + LogProbOfChild(node, j, scores, lse); };
      for (int j = thread; j < node.children; j += kLayerThreads) {
        const double log_prob = log_prob_of(j);
        if (children[j] >= task.tree.classes && log_prob >= top.min_log_prob) {
          open[atomicAdd(opened, 1)] = {log_prob, children[j]};
        }
      }
      // Its leaves: the best of those that are left, as long as it is taken.
      for (Place last = {Infinity<double>(), -1};;) {
        Place leaf = {-Infinity<double>(), INT64_MAX};
        for (int j = thread; j < node.children; j += kLayerThreads) {
          const Place here = {log_prob_of(j), children[j]};
          const bool is_new = here.id < task.tree.classes && here.log_prob >= top.min_log_prob;
          if (is_new && last.GoesBefore(here) && here.GoesBefore(leaf)) leaf = here;
        }
        last = FoldBest(leaf, shared_best);
        if (last.id == INT64_MAX || podium.IsBeyond(last.log_prob, found)) break;
        if (!podium.Takes(last, found)) continue;  // one that rounds to the same may have a lower number
        __syncthreads();                           // all have looked at the last on the podium
        if (thread == 0) podium.Insert(last, found);
        found += found < top.k ? 1 : 0;
        __syncthreads();
      }
      __syncthreads();
    }
    for (int64_t j = found + thread; j < top.k; j += kLayerThreads) {
      podium.ids[j] = -1;
      podium.log_probs[j] = -Infinity<T>();
    }
    __syncthreads();
  }
}

}  // namespace boltzmax::cuda

// Steps of gradient descent, in place.
#include <algorithm>
#include <cmath>
#include <vector>

#include "../runtime/row_blocks.hpp"
#include "layer_rows.hpp"
#include "training.hpp"

namespace boltzmax {

namespace {

template <class T>
using StepScorer = PathScorer<T, T>;

// The rows of one target, and where their updates are added: `pull` times the gradient of each.
template <class T>
struct Group {
  static constexpr size_t kMost = kMostTogether;
  size_t size;
  double pull;
  const T* hidden[kMost];
  double scale[kMost];
  T* learner[kMost];
  double* loss[kMost];

  explicit Group(double p) : size(0), pull(p) {}
  void Add(const T* h, double s, T* l, double* where) {
    hidden[size] = h;
    scale[size] = s;
    learner[size] = l;
    loss[size++] = where;
  }
};

// Takes a step with the units of a path and the learners.
template <class T>
class Descender {
 public:
  void Begin(const Layer<T>& layer, const Descent<T>& descent) {
    layer_ = &layer;
    descent_ = &descent;
  }

  // Moves the units on the path to the target and the learners; stores the losses of the rows.
  void Step(StepScorer<T>& scorer, const Group<T>& group) {
    const size_t n = layer_->features, units = scorer.Count(), m = group.size;
    if (m == 0) return;
    scorer.ComputeScores(group.hidden, m);
    scorer.ComputeLogProbs(true, m);
    if (m * units > gain_.size()) {
      step_.resize(m * units);
      pull_.resize(m * units);
      gain_.resize(m * units);  // last: its size stands for all
    }
    for (size_t i = 0; i < m; ++i) {
      *group.loss[i] = -scorer.LogProb(i);
      for (size_t k = i * units; k < (i + 1) * units; ++k) {
        const double gain = static_cast<double>(scorer.Gain()[k]) * group.scale[i];
        gain_[k] = gain;
        pull_[k] = static_cast<T>(group.pull * gain);
        step_[k] = static_cast<T>(-descent_->rate * gain);
      }
    }
    if (descent_->squares != nullptr) Adapt(scorer, group);
    // The learners first: they need the units before the update. `hidden` itself is not updated.
    Units<T>().add_rows(group.learner, m, scorer.Rows(), units, {pull_.data(), units, 1}, n);
    Units<T>().add_rows(scorer.Rows(), units, group.hidden, m, {step_.data(), 1, units}, n);
    if (layer_->bias == nullptr) return;
    for (size_t j = 0; j < units; ++j) {
      for (size_t i = 0; i < m; ++i) layer_->bias[scorer.UnitIds()[j]] += step_[i * units + j];
    }
  }

 private:
  void Adapt(const StepScorer<T>& scorer, const Group<T>& group) {
    const size_t units = scorer.Count(), m = group.size;
    // A bias is the weight of one more feature, which is always 1.
    const double extra = layer_->bias == nullptr ? 0.0 : 1.0;
    squares_.resize(m);
    for (size_t i = 0; i < m; ++i) {
      T square;
      Units<T>().dot_rows(&group.hidden[i], 1, &group.hidden[i], 1, layer_->features, &square);
      squares_[i] = (static_cast<double>(square) + extra) / (static_cast<double>(layer_->features) + extra);
    }
    for (size_t j = 0; j < units; ++j) {
      double& sum = descent_->squares[scorer.UnitIds()[j]];
      for (size_t i = 0; i < m; ++i) sum += gain_[i * units + j] * gain_[i * units + j] * squares_[i];
      const double root = std::sqrt(sum) + descent_->epsilon, rate = descent_->rate / (root > 0.0 ? root : 1.0);
      for (size_t i = 0; i < m; ++i) step_[i * units + j] = static_cast<T>(-rate * gain_[i * units + j]);
    }
  }

  const Layer<T>* layer_ = nullptr;
  const Descent<T>* descent_ = nullptr;
  std::vector<double> gain_;    // per row and unit, row by row
  std::vector<T> step_, pull_;  // multiples for the updates of the units, and of the learners
  std::vector<double> squares_;
};

// The next few groups of rows with the same target, and the paths to these targets.
template <class T>
class PathBatch {
 public:
  void Begin(const Layer<T>& layer) {
    layer_ = &layer;
    size_ = 0;
    for (StepScorer<T>& scorer : scorers_) scorer.Begin(layer);
  }

  // Takes groups of at most `together` rows from `begin` on; returns where the next batch begins.
  size_t Take(const int64_t* target, size_t begin, size_t end, size_t together) {
    const size_t most = std::min(together, Group<T>::kMost);
    size_t paths = 0;
    for (size_ = 0; size_ < kGroups && begin < end; ++size_) {
      size_t after = begin + 1;
      while (after < end && after - begin < most && target[after] == target[begin]) ++after;
      if (paths == 0 || targets_[paths - 1] != target[begin]) targets_[paths++] = target[begin];
      groups_[size_] = {begin, after, paths - 1};
      begin = after;
    }
    FindPaths(layer_->tree, targets_, paths, paths_);
    return begin;
  }

  // Prefetches what group k will need.
  void Prepare(size_t k) {
    const size_t path = groups_[k].path;
    if (k > 0 && path == groups_[k - 1].path) return;
    scorers_[path].SetPath(targets_[path], paths_[path]);
    scorers_[path].Prefetch();
  }

  size_t Size() const { return size_; }
  size_t Begin(size_t k) const { return groups_[k].begin; }
  size_t End(size_t k) const { return groups_[k].end; }
  StepScorer<T>& At(size_t k) { return scorers_[groups_[k].path]; }
  size_t Bytes() const {
    size_t bytes = 0;
    for (const StepScorer<T>& scorer : scorers_) bytes += scorer.Bytes();
    return bytes;
  }

 private:
  static constexpr size_t kGroups = 8;
  struct Place {
    size_t begin, end, path;
  };
  const Layer<T>* layer_ = nullptr;
  StepScorer<T> scorers_[kGroups];
  int64_t targets_[kGroups];
  Path paths_[kGroups];
  Place groups_[kGroups];
  size_t size_ = 0;
};

// A thread's memory for descent.
template <class T>
struct DescentMemory {
  Descender<T> descender;
  PathBatch<T> batches[2];

  size_t Bytes() const { return batches[0].Bytes() + batches[1].Bytes(); }
};

// Calls step(descender, scorer, begin, end) for groups of neighbouring rows with the same target: in order, or by all
// threads. While one group is processed, the units of the next are prefetched.
template <class T, class Step>
void Descend(const Layer<T>& layer, const Descent<T>& descent, size_t rows, const int64_t* target, Step step) {
  const auto run = [&](size_t begin, size_t end) {
    const Kept<DescentMemory<T>> kept;
    auto& [descender, batches] = *kept;
    descender.Begin(layer, descent);
    for (PathBatch<T>& batch : batches) batch.Begin(layer);
    size_t next = batches[0].Take(target, begin, end, descent.together);
    if (batches[0].Size() != 0) batches[0].Prepare(0);
    for (size_t now = 0; batches[now].Size() != 0; now = 1 - now) {
      PathBatch<T>&batch = batches[now], &later = batches[1 - now];
      for (size_t k = 0; k < batch.Size(); ++k) {
        if (k + 1 < batch.Size()) {
          batch.Prepare(k + 1);
        } else {
          next = later.Take(target, next, end, descent.together);
          if (later.Size() != 0) later.Prepare(0);
        }
        step(descender, batch.At(k), batch.Begin(k), batch.End(k));
      }
    }
  };
  if (!descent.lock_free) return run(0, rows);
  ParallelBlocks(rows, 16, static_cast<double>(rows) * CostOfRow(layer.features, TypicalPathLength(layer.tree)), run);
}

}  // namespace

template <class T>
void DescendRows(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, const double* scale,
                 const Descent<T>& descent, double* loss, T* d_hidden) {
  const size_t n = layer.features;
  Descend(layer, descent, hidden.rows, target,
          [&](Descender<T>& descender, StepScorer<T>& scorer, size_t begin, size_t end) {
            Group<T> group(1.0);
            for (size_t r = begin; r < end; ++r) {
              const T* h = hidden.x + r * n;
              T* d_h = d_hidden + r * n;
              std::fill_n(d_h, n, T(0));
              const double factor = scale == nullptr ? 1.0 : scale[r];
              if (factor == 0.0) {
                loss[r] = scorer.Loss(h);
              } else {
                group.Add(h, factor, d_h, loss + r);
              }
            }
            descender.Step(scorer, group);
          });
}

template <class T>
void DescendPairs(const Layer<T>& layer, T* table, const int64_t* ids, size_t rows, const int64_t* target,
                  const Descent<T>& descent, double* loss) {
  const size_t n = layer.features;
  const auto row = [&](size_t r) { return table + static_cast<size_t>(ids[r]) * n; };
  Descend(layer, descent, rows, target, [&](Descender<T>& descender, StepScorer<T>& scorer, size_t begin, size_t end) {
    // The units are updated with the vectors before their own update. Copies are aligned, so that no vector load
    // crosses a cache line.
    Group<T> group(-descent.rate);
    thread_local Scratch memory;
    T* copies = reinterpret_cast<T*>(memory.Get((end - begin) * n * sizeof(T)));
    for (size_t r = begin; r < end; ++r, copies += n) {
      std::copy_n(row(r), n, copies);
      group.Add(copies, 1.0, row(r), loss + r);
    }
    for (size_t r = end; r < std::min(rows, end + group.size); ++r) Prefetch(row(r), n);
    descender.Step(scorer, group);
  });
}

#define BOLTZMAX_INSTANTIATE(T)                                                                                     \
  template void DescendRows<T>(const Layer<T>&, const Hidden<T>&, const int64_t*, const double*, const Descent<T>&, \
                               double*, T*);                                                                        \
  template void DescendPairs<T>(const Layer<T>&, T*, const int64_t*, size_t, const int64_t*, const Descent<T>&,     \
                                double*);
BOLTZMAX_INSTANTIATE(float)
BOLTZMAX_INSTANTIATE(double)
#undef BOLTZMAX_INSTANTIATE

}  // namespace boltzmax

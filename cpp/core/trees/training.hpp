// Training of a layer on a tree: losses, their gradients, and steps of gradient descent in place.
#pragma once

#include <vector>

#include "layer.hpp"

namespace boltzmax {

// The mean of losses, weighted if there are weights: an infinite loss of weight 0 does not count. NaN for no rows.
double MeanLoss(const double* loss, const double* weight, size_t rows);

// The units on the paths to some of the targets, ascending.
std::vector<int64_t> TouchedUnits(const TreeView& tree, const int64_t* target, size_t rows);

// -log p(target) in `loss`; and the gradient of sum_i scale_i loss_i by the hidden rows, and by the rows of the units
// whose numbers are in `units`. d_bias may be null.
template <class T>
struct Gradient {
  T* d_hidden;
  const int64_t* units;
  size_t count;
  T* d_weight;
  T* d_bias;
};
template <class T>
void LossGradient(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, const double* scale,
                  double* loss, const Gradient<T>& gradient);

// One step of gradient descent per row, in order, each with the weights that the previous step left. Up to `together`
// neighbouring rows with the same target take their steps at once, so that their scores do not wait for each other (Ji,
// Satish, Li & Dubey, arXiv:1604.04661). With `squares`, one per unit, row-wise Adagrad: the mean square of each unit's
// gradient is added there, and the rate is divided by its root. Lock-free: rows in no order, by all threads (Niu et
// al., Hogwild!, NIPS 2011). `scale` multiplies the gradient of each row; null for 1.
inline constexpr size_t kMostTogether = 16;
template <class T>
struct Descent {
  double rate;
  double* squares;
  double epsilon;
  bool lock_free;
  size_t together;
};
template <class T>
void DescendRows(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, const double* scale,
                 const Descent<T>& descent, double* loss, T* d_hidden);

// The same where the hidden rows are trained, too: row i is row ids[i] of a table, and takes its step at the plain
// rate.
template <class T>
void DescendPairs(const Layer<T>& layer, T* table, const int64_t* ids, size_t rows, const int64_t* target,
                  const Descent<T>& descent, double* loss);

}  // namespace boltzmax

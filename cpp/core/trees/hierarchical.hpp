// A softmax over the leaves of a tree: the product of the choices on the way to a leaf (Morin & Bengio, AISTATS 2005;
// Mnih & Hinton, NIPS 2008). A node of two children chooses with a logistic unit, the first child with sigma(z); one of
// more with a softmax over a unit for each.
//
// Every score is a dot product with a bit pattern of its own, and log-probabilities are added from the root down in
// double precision; so results depend neither on the batch nor on threads, and all questions get the same answer. Only steps
// of a float layer judge their scores in float: their gains end as floats anyway.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tree.hpp"

namespace boltzmax {

// A tree, and what its units have learnt. T is float or double.
template <class T>
struct Layer {
  TreeView tree;
  T* weight;  // a row of `features` for every unit
  T* bias;    // null for none
  size_t features;

  T* Row(int64_t unit) const { return weight + static_cast<size_t>(unit) * features; }
};

// Rows of features, one after the other.
template <class T>
struct Hidden {
  const T* x;
  size_t rows;
};

// log p(target), for each row: rounded to T, or in double as it is computed.
template <class T, class Out>
void LogProb(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, Out* out);

// The mean of losses, weighted if there are weights: an infinite loss of weight 0 does not count. NaN of no rows.
double MeanLoss(const double* loss, const double* weight, size_t rows);

// The log-probabilities of the first `nodes` nodes: of the classes, or of them and the inner nodes.
template <class T>
void LogProbOfNodes(const Layer<T>& layer, const Hidden<T>& hidden, size_t nodes, T* out);

// The units on the way to some of the targets, ascending.
std::vector<int64_t> TouchedUnits(const TreeView& tree, const int64_t* target, size_t rows);

// -log p(target) in `loss`; and the gradient of sum_i scale_i loss_i: by the hidden rows, and by the rows of the units of
// which `units` has the numbers. d_bias may be null.
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

// One step of gradient descent for every row, in their order, each with the weights that the last has left. Neighbours of
// the same target, up to `together` of them, take theirs at once: their scores then do not wait for each other (Ji,
// Satish, Li & Dubey, arXiv:1604.04661). With `squares`, one for each unit, row-wise Adagrad: there the mean square of each
// unit's gradient is added up, and the rate is divided by its root. Lock-free: rows in no order, by all threads (Niu et
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

// The same where the hidden rows are themselves learnt: row i is number ids[i] of a table, and takes its step too, at the
// plain rate.
template <class T>
void DescendPairs(const Layer<T>& layer, T* table, const int64_t* ids, size_t rows, const int64_t* target,
                  const Descent<T>& descent, double* loss);

// The k likeliest classes of each row, ties in favour of the lower number, of at least min_log_prob; -1 where there are
// no more. `beam` > 0 follows only the best nodes of each level. `visited` counts the nodes whose probability was asked.
struct TopQuery {
  size_t k, beam;
  double min_log_prob;
};
template <class T>
void TopClasses(const Layer<T>& layer, const Hidden<T>& hidden, const TopQuery& query, int64_t* ids, T* log_probs,
                int64_t* visited);

// A class for every row, drawn with a generator that begins with the row's seed.
template <class T>
void SampleClasses(const Layer<T>& layer, const Hidden<T>& hidden, const uint64_t* seed, int64_t* out);

// The deepest node on the way of likeliest children that has at least min_log_prob.
template <class T>
void SureNodes(const Layer<T>& layer, const Hidden<T>& hidden, double min_log_prob, int64_t* nodes, T* log_probs);

}  // namespace boltzmax

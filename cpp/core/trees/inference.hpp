// Inference with a layer on a tree.
#pragma once

#include "layer.hpp"

namespace boltzmax {

// log p(target) for each row: rounded to T, or in double as computed.
template <class T, class Out>
void LogProb(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, Out* out);

// The log-probabilities of the first `nodes` nodes: of the classes, or of all nodes.
template <class T>
void LogProbOfNodes(const Layer<T>& layer, const Hidden<T>& hidden, size_t nodes, T* out);

// The k likeliest classes of each row with at least min_log_prob, ties in favour of the lower number; -1 if there are
// no more. `beam` > 0 follows only the best nodes of each level. `visited` counts the nodes whose probability was
// computed.
struct TopQuery {
  size_t k, beam;
  double min_log_prob;
};
template <class T>
void TopClasses(const Layer<T>& layer, const Hidden<T>& hidden, const TopQuery& query, int64_t* ids, T* log_probs,
                int64_t* visited);

// A class for every row, drawn with a generator that is seeded with the row's seed; -1 where a choice has NaN.
template <class T>
void SampleClasses(const Layer<T>& layer, const Hidden<T>& hidden, const uint64_t* seed, int64_t* out);

// The deepest node with at least min_log_prob on the path of likeliest children.
template <class T>
void SureNodes(const Layer<T>& layer, const Hidden<T>& hidden, double min_log_prob, int64_t* nodes, T* log_probs);

}  // namespace boltzmax

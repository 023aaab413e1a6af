// A softmax over the leaves of a tree: the product of the choices on the way to a leaf (Morin & Bengio, AISTATS 2005;
// Mnih & Hinton, NIPS 2008). A node with two children chooses with a logistic unit, the first child with sigma(z); one
// with more children with a softmax over one unit each.
//
// The bits of a score depend only on its row and its unit, and log-probabilities are added from the root down in double
// precision. So results do not depend on batch or threads, and all functions agree. Only steps of a float layer compute
// with scores in float: their gains end as floats anyway.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tree.hpp"

namespace boltzmax {

// A tree and the learned weights of its units. T is float or double.
template <class T>
struct Layer {
  TreeView tree;
  T* weight;  // a row of `features` per unit
  T* bias;    // or null
  size_t features;

  T* Row(int64_t unit) const { return weight + static_cast<size_t>(unit) * features; }
};

// Rows of features, contiguous.
template <class T>
struct Hidden {
  const T* x;
  size_t rows;
};

}  // namespace boltzmax

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

}  // namespace boltzmax

// Draws of classes i with probabilities proportional to alpha <h, w_i>^2 + 1 (Blanc & Rendle, ICML 2018).
//
// For classes in a set S, the sum of these kernels is alpha h^T M h + |S| with M = sum_S w w^T. A tree has that matrix
// for each node, so that a draw goes from the root to a class by sums of its children. The leaves are neighbouring
// classes, whose kernels are computed one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "draws.hpp"

namespace boltzmax {

// The shape of a tree: levels of nodes, the leaves first. The node k of a level has the children 4k to 4k + 3 of the
// level below. The root's matrix is not stored: at most four nodes are on the last level.
class QuadraticShape {
 public:
  static constexpr size_t kChildren = 4;

  QuadraticShape(size_t classes, size_t features);

  size_t classes, features;
  size_t leaf;                // classes of a leaf
  size_t packed;              // elements of a node's matrix, a lower triangle
  std::vector<size_t> nodes;  // of each level
  std::vector<size_t> first;  // of each level, among all nodes
  size_t total;

  size_t Levels() const { return nodes.size(); }
  // Classes below a node of a level, but for those at the end.
  size_t Span(size_t level) const;
  size_t ClassesOf(size_t level, size_t node) const;
};

template <class T>
struct QuadraticTree {
  QuadraticShape shape;
  const T* weight;  // classes x features
  T* sums;          // total x packed
};

// Computes the matrices of some leaves (in ascending order; null for all) and of the nodes above them. A node is the sum
// of its children, added in order: so it does not depend on earlier updates.
template <class T>
void UpdateQuadratic(const QuadraticTree<T>&, const int64_t* leaves, size_t count);

// One row of candidates for each group of rows of `hidden`. Of several rows in a group, the kernel is the mean.
template <class T>
struct QuadraticQuery {
  QuadraticTree<T> tree;
  const T* hidden;  // (rows * group) x features
  size_t rows, group;
  double alpha;
  size_t n;       // candidates in a row
  int64_t* ids;   // rows x n: drawn, or given
  double* log_p;  // their probabilities, as the tree has them; NaN where a sum is not finite
};

template <class T>
void DrawQuadratic(const QuadraticQuery<T>&, uint64_t key, uint64_t first_row, const ExcludedClasses&);
template <class T>
void QuadraticLogP(const QuadraticQuery<T>&);

}  // namespace boltzmax

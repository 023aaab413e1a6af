// Trees of classes. Nodes 0 .. classes-1 are the leaves, one per class; the inner nodes follow, breadth first from the
// root, so that the nodes that all paths share are together in memory. No objects, only a few arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace boltzmax {

// The part of a tree that a layer uses.
struct TreeView {
  const int32_t* parent;       // of every node; -1 for the root
  const int32_t* slot;         // of every node: its position among its siblings
  const int64_t* child_begin;  // of every inner node, and the end
  const int32_t* child;
  const int64_t* unit_begin;  // of every inner node, and the end
  size_t classes, inner;

  bool IsLeaf(int32_t node) const { return static_cast<size_t>(node) < classes; }
  size_t Inner(int32_t node) const { return static_cast<size_t>(node) - classes; }
  int32_t Root() const { return static_cast<int32_t>(classes); }
  const int32_t* Children(int32_t node) const { return child + child_begin[Inner(node)]; }
  size_t CountChildren(int32_t node) const {
    return static_cast<size_t>(child_begin[Inner(node) + 1] - child_begin[Inner(node)]);
  }
  int64_t FirstUnit(int32_t node) const { return unit_begin[Inner(node)]; }
};

// The number of units, rows of weights, of a node with this many children: none for one child, a logistic unit for two,
// else a unit per child for a softmax.
inline int64_t CountUnits(size_t children) {
  return children <= 1 ? 0 : (children == 2 ? 1 : static_cast<int64_t>(children));
}

struct TreeArrays {
  std::vector<int32_t> parent, slot, child, depth;
  std::vector<int64_t> child_begin, unit_begin;
  std::vector<int32_t> origin;  // the number of each node among the parents

  TreeView View() const {
    const size_t inner = child_begin.size() - 1;
    return {parent.data(),         slot.data(), child_begin.data(), child.data(), unit_begin.data(),
            parent.size() - inner, inner};
  }
};

// Builds the tree in which node i is a child of parents[i], or the root if that is -1. Nodes without children are the
// classes, in order. Throws std::invalid_argument, which says what is wrong.
TreeArrays MakeTree(const int64_t* parents, size_t n);

// Parents of 2-, 3-, ... ary trees over classes 0 .. n-1; the inner nodes follow, the root is the last. Huffman: the
// least expected depth under the counts, ties in favour of shallow trees. O(n log n).
std::vector<int64_t> HuffmanParents(const double* counts, size_t n, size_t arity);
// Balanced: all leaves at two neighbouring depths, in order from left to right.
std::vector<int64_t> BalancedParents(size_t n, size_t arity);

}  // namespace boltzmax

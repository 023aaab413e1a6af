// The path from the root of a tree to a leaf.
#pragma once

#include <vector>

#include "tree.hpp"

namespace boltzmax {

// The nodes from a leaf up to the root, without the root.
class Path {
 public:
  void Begin(int64_t leaf) {
    size_ = 0;
    Push(static_cast<int32_t>(leaf));
  }
  void Push(int32_t node) {
    if (size_ == nodes_.size()) nodes_.resize(2 * size_ + 32);
    nodes_[size_++] = node;
  }
  size_t Size() const { return size_; }
  int32_t Last() const { return nodes_[size_ - 1]; }
  int32_t operator[](size_t i) const { return nodes_[i]; }

 private:
  std::vector<int32_t> nodes_;
  size_t size_ = 0;
};

// The paths of several leaves. Each is a chain of reads from distant memory; climbing them together overlaps the waits.
// Prefetches what `PathScorer::SetPath` will read.
inline void FindPaths(const TreeView& tree, const int64_t* targets, size_t count, Path* paths) {
  for (size_t k = 0; k < count; ++k) paths[k].Begin(targets[k]);
  for (bool going = true; going;) {
    going = false;
    for (size_t k = 0; k < count; ++k) {
      const int32_t above = tree.parent[paths[k].Last()];
      if (above == tree.Root()) continue;
      paths[k].Push(above);
      going = true;
      __builtin_prefetch(tree.slot + above);
      __builtin_prefetch(tree.unit_begin + tree.Inner(above));
    }
  }
}

}  // namespace boltzmax

#include "tree.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace boltzmax {

namespace {

[[noreturn]] void Refuse(const std::string& why) { throw std::invalid_argument("parents: " + why); }

std::string Name(size_t node) { return "node " + std::to_string(node); }

// Checks each node by itself, and returns the root.
size_t FindRoot(const int64_t* parents, size_t n) {
  constexpr size_t kLimit = std::numeric_limits<int32_t>::max();
  if (n < 2) Refuse("a tree has two nodes at least, got " + std::to_string(n));
  if (n > kLimit) Refuse("at most 2**31 - 1 nodes, got " + std::to_string(n));
  size_t root = n;
  for (size_t i = 0; i < n; ++i) {
    const int64_t p = parents[i];
    if (p < -1 || p >= static_cast<int64_t>(n)) {
      Refuse(Name(i) + " has the parent " + std::to_string(p) + ", which is not -1 (the root) or from 0 to " +
             std::to_string(n - 1));
    }
    if (p != -1) continue;
    if (root != n) Refuse("two roots, " + Name(root) + " and " + Name(i));
    root = i;
  }
  if (root == n) Refuse("no root: no node has the parent -1");
  return root;
}

}  // namespace

TreeArrays MakeTree(const int64_t* parents, size_t n) {
  const size_t root = FindRoot(parents, n);
  // Children in the order of their old numbers, by counting.
  std::vector<int32_t> begin(n + 1, 0);
  for (size_t i = 0; i < n; ++i) {
    if (i != root) ++begin[static_cast<size_t>(parents[i]) + 1];
  }
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<int32_t> children(n - 1);
  {
    std::vector<int32_t> next(begin.begin(), begin.end() - 1);
    for (size_t i = 0; i < n; ++i) {
      if (i != root) children[static_cast<size_t>(next[static_cast<size_t>(parents[i])]++)] = static_cast<int32_t>(i);
    }
  }
  const auto count = [&](size_t old) { return static_cast<size_t>(begin[old + 1] - begin[old]); };

  TreeArrays tree;
  std::vector<int32_t> renamed(n, -1);  // old number -> new
  size_t classes = 0;
  tree.origin.resize(n);
  for (size_t i = 0; i < n; ++i) {
    if (count(i) > 0) continue;
    tree.origin[classes] = static_cast<int32_t>(i);
    renamed[i] = static_cast<int32_t>(classes++);
  }
  const size_t inner = n - classes;
  tree.parent.resize(n);
  tree.slot.resize(n);
  tree.depth.resize(n);
  tree.child.reserve(n - 1);
  tree.child_begin.reserve(inner + 1);
  tree.unit_begin.reserve(inner + 1);
  tree.child_begin.push_back(0);
  tree.unit_begin.push_back(0);

  size_t named = classes;
  const auto name = [&](size_t old) {
    tree.origin[named] = static_cast<int32_t>(old);
    renamed[old] = static_cast<int32_t>(named++);
  };
  name(root);
  tree.parent[classes] = -1;
  for (size_t node = classes; node < named; ++node) {
    const auto old = static_cast<size_t>(tree.origin[node]);
    // Leaves first: so children ascend in their new numbers, and a tree built from its own parents is the same.
    for (const bool inner_now : {false, true}) {
      for (int32_t c = begin[old]; c < begin[old + 1]; ++c) {
        const auto child = static_cast<size_t>(children[static_cast<size_t>(c)]);
        if (inner_now != (count(child) > 0)) continue;
        if (inner_now) name(child);
        const auto now = static_cast<size_t>(renamed[child]);
        tree.parent[now] = static_cast<int32_t>(node);
        tree.slot[now] = static_cast<int32_t>(static_cast<int64_t>(tree.child.size()) - tree.child_begin.back());
        tree.depth[now] = tree.depth[node] + 1;
        tree.child.push_back(static_cast<int32_t>(now));
      }
    }
    tree.child_begin.push_back(static_cast<int64_t>(tree.child.size()));
    tree.unit_begin.push_back(tree.unit_begin.back() + CountUnits(count(old)));
  }
  if (tree.child.size() != n - 1) {
    const auto lost = std::find(renamed.begin(), renamed.end(), -1) - renamed.begin();
    Refuse("a cycle: the root cannot be reached from " + Name(static_cast<size_t>(lost)));
  }
  return tree;
}

std::vector<int64_t> HuffmanParents(const double* counts, size_t n, size_t arity) {
  if (n == 1) return {1, -1};
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return counts[a] < counts[b] || (counts[a] == counts[b] && a < b); });
  // Two queues, each in ascending order: the leaves and the merged nodes (van Leeuwen, ICALP 1976).
  const size_t merges = (n - 1 + arity - 2) / (arity - 1);
  std::vector<int64_t> parents(n + merges, -1);
  std::vector<double> weight(merges, 0.0);
  size_t leaf = 0, merged = 0;
  for (size_t m = 0; m < merges; ++m) {
    // The first merge takes as many as make all others full.
    const size_t take = m == 0 ? n - (merges - 1) * (arity - 1) : arity;
    for (size_t k = 0; k < take; ++k) {
      const bool take_leaf = leaf < n && (merged == m || counts[order[leaf]] <= weight[merged]);
      const size_t node = take_leaf ? static_cast<size_t>(order[leaf]) : n + merged;
      weight[m] += take_leaf ? counts[order[leaf]] : weight[merged];
      parents[node] = static_cast<int64_t>(n + m);
      ++(take_leaf ? leaf : merged);
    }
  }
  return parents;
}

std::vector<int64_t> BalancedParents(size_t n, size_t arity) {
  if (n == 1) return {1, -1};
  struct Range {
    size_t begin, end;
    size_t node;  // counted from the root, breadth first
  };
  std::vector<Range> ranges = {{0, n, 0}};
  std::vector<int64_t> above = {-1}, of_leaf(n);
  for (size_t r = 0; r < ranges.size(); ++r) {
    const Range range = ranges[r];
    const size_t size = range.end - range.begin, parts = std::min(arity, size);
    for (size_t k = 0; k < parts; ++k) {
      const size_t begin = range.begin + size * k / parts, end = range.begin + size * (k + 1) / parts;
      if (end - begin == 1) {
        of_leaf[begin] = static_cast<int64_t>(range.node);
      } else {
        ranges.push_back({begin, end, above.size()});
        above.push_back(static_cast<int64_t>(range.node));
      }
    }
  }
  std::vector<int64_t> parents(n + above.size(), -1);
  for (size_t c = 0; c < n; ++c) parents[c] = static_cast<int64_t>(n) + of_leaf[c];
  for (size_t i = 1; i < above.size(); ++i) parents[n + i] = static_cast<int64_t>(n) + above[i];
  return parents;
}

}  // namespace boltzmax

// Ranking: candidates in order, binary heaps, and sorting by a block. Everything here is a strict total order, so that
// results do not depend on the order in which threads work.
#pragma once

#include "threads.cuh"

namespace boltzmax::cuda {

// A class or a node: the larger key comes first; of equal ones, the lower id. Keys are not NaN.
template <class T>
struct Candidate {
  T key;
  int64_t id;

  BOLTZMAX_DEVICE bool GoesBefore(const Candidate& other) const {
    BOLTZMAX_COUNT_COMPARISON();
    return key > other.key || (key == other.key && id < other.id);
  }
};
template <class T>
BOLTZMAX_DEVICE Candidate<T> FromLane(const Candidate<T>& candidate, int distance) {
  return {FromLane(candidate.key, distance), FromLane(candidate.id, distance)};
}

// The best of all threads' candidates.
template <int kWarps, class T>
BOLTZMAX_DEVICE Candidate<T> FoldBest(const Candidate<T>& mine, Candidate<T>* shared) {
  return Fold<kWarps>(mine, shared, [](Candidate<T>& a, const Candidate<T>& b) {
    if (b.GoesBefore(a)) a = b;
  });
}

// Candidates in two arrays, such as those of the results.
template <class T>
struct CandidateArrays {
  T* keys;
  int64_t* ids;

  BOLTZMAX_DEVICE Candidate<T> Get(int64_t i) const { return {keys[i], ids[i]}; }
  BOLTZMAX_DEVICE void Set(int64_t i, const Candidate<T>& candidate) const {
    keys[i] = candidate.key;
    ids[i] = candidate.id;
  }
  BOLTZMAX_DEVICE void Swap(int64_t i, int64_t j) const {
    const Candidate<T> other = Get(i);
    Set(i, Get(j));
    Set(j, other);
  }
};

// Binary heaps of elements 0 .. n-1, which `before(i, j)` compares and `swap(i, j)` exchanges; 0 is the top. One thread
// moves element i down, or up, to where it belongs.
template <class Before, class Swap>
BOLTZMAX_DEVICE void SiftDown(int64_t i, int64_t n, Before before, Swap swap) {
  for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && before(child + 1, child)) ++child;
    if (!before(child, i)) return;
    swap(child, i);
    i = child;
  }
}
template <class Before, class Swap>
BOLTZMAX_DEVICE void SiftUp(int64_t i, Before before, Swap swap) {
  for (int64_t parent = (i - 1) / 2; i > 0 && before(i, parent); parent = (i - 1) / 2) {
    swap(i, parent);
    i = parent;
  }
}

// Sorts n candidates, the best first, by all threads of a block: Batcher's bitonic network, in the form in which every
// comparison puts the better candidate at the lower index. So the elements that would fill n up to a power of two, all
// of them last, never move and need not exist. About n log2(n)^2 / 4 comparisons.
template <int kThreads, class T>
BOLTZMAX_DEVICE void Sort(const CandidateArrays<T>& candidates, int64_t n) {
  for (int64_t run = 1; run < n; run *= 2) {  // sorted runs are merged in pairs
    BOLTZMAX_NO_UNROLL
    for (int64_t half = run; half > 0; half /= 2) {
      // The first step of a merge compares an element of one run with its mirror image in the other.
      const int64_t mirror = half == run ? 2 * run - 1 : half;
      BOLTZMAX_NO_UNROLL
      for (int64_t pair = threadIdx.x;; pair += kThreads) {
        const int64_t low = 2 * pair - (pair & (half - 1)), high = low ^ mirror;
        if (low >= n) break;
        if (high < n && candidates.Get(high).GoesBefore(candidates.Get(low))) candidates.Swap(low, high);
      }
      __syncthreads();
    }
  }
}

}  // namespace boltzmax::cuda

// Operations that the threads of a warp, a block or a cluster of blocks perform together.
#pragma once

#include "numbers.cuh"
#if defined(__CUDACC__)
#include <cooperative_groups.h>
#endif

// Memory that a block shares: `count` elements of a type, or as much as its launch requests. The emulated device counts
// the comparisons of candidates, so that tests can bound the work.
#if defined(__CUDACC__)
#define BOLTZMAX_SHARED(Type, name, count) __shared__ Type name[count]
#define BOLTZMAX_SHARED_OF_LAUNCH(Type, name) extern __shared__ Type name[]
#define BOLTZMAX_COUNT_COMPARISON()
#else
#define BOLTZMAX_SHARED(Type, name, count) \
  static char name##_key;                  \
  Type* const name = emulated::SharedOf<Type>(&name##_key, count)
#define BOLTZMAX_SHARED_OF_LAUNCH(Type, name) Type* const name = emulated::SharedOfLaunch<Type>()
#define BOLTZMAX_COUNT_COMPARISON() ++emulated::comparisons
#endif

namespace boltzmax::cuda {

// ---- warps and blocks ----

template <class T>
BOLTZMAX_DEVICE T FromLane(T x, int distance) {
  return __shfl_xor_sync(0xffffffffu, x, distance);
}

// Folds the values of a warp's lanes; all lanes get the result. `add(a, b)` joins b to a; it must be symmetric to the
// bit.
template <class X, class Add>
BOLTZMAX_DEVICE X FoldWarp(X mine, Add add, int lanes = 32) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) add(mine, FromLane(mine, distance));
  return mine;
}

// The same for the threads of several warps, a power of two; `shared` has room for one value per warp.
template <class X, class Add>
BOLTZMAX_DEVICE X FoldWarps(X mine, X* shared, int warps, Add add) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  mine = FoldWarp(mine, add);
  __syncthreads();  // the last result may still be read
  if (lane == 0) shared[warp] = mine;
  __syncthreads();
  return FoldWarp(shared[lane & (warps - 1)], add, warps);
}
template <int kWarps, class X, class Add>
BOLTZMAX_DEVICE X Fold(X mine, X* shared, Add add) {
  return FoldWarps(mine, shared, kWarps, add);
}

// Folds sums.
struct Join {
  template <class X>
  BOLTZMAX_DEVICE void operator()(X& a, const X& b) const {
    a.Join(b);
  }
};
template <class X>
BOLTZMAX_DEVICE X JoinWarp(X mine) {
  return FoldWarp(mine, Join());
}

// ---- clusters: blocks that run at the same time and access each other's shared memory ----

#if defined(__CUDACC__) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
BOLTZMAX_DEVICE int ClusterSize() { return static_cast<int>(cooperative_groups::this_cluster().num_blocks()); }
BOLTZMAX_DEVICE int ClusterRank() { return static_cast<int>(cooperative_groups::this_cluster().block_rank()); }
BOLTZMAX_DEVICE void WaitForCluster() { cooperative_groups::this_cluster().sync(); }
template <class T>
BOLTZMAX_DEVICE T* SharedOfBlock(T* shared, int rank) {
  return cooperative_groups::this_cluster().map_shared_rank(shared, static_cast<unsigned>(rank));
}
#elif defined(__CUDACC__)  // older devices have none, and no launch requests them
BOLTZMAX_DEVICE int ClusterSize() { return 1; }
BOLTZMAX_DEVICE int ClusterRank() { return 0; }
BOLTZMAX_DEVICE void WaitForCluster() { __syncthreads(); }
template <class T>
BOLTZMAX_DEVICE T* SharedOfBlock(T* shared, int) {
  return shared;
}
#else
inline int ClusterSize() { return emulated::ClusterSize(); }
inline int ClusterRank() { return emulated::ClusterRank(); }
inline void WaitForCluster() { emulated::WaitForCluster(); }
template <class T>
T* SharedOfBlock(T* shared, int rank) {
  return emulated::SharedOfBlock(shared, rank);
}
#endif

// Folds the values of a cluster's blocks, a power of two, in shared[0]; all threads get the result.
template <class X, class Add>
BOLTZMAX_DEVICE X FoldCluster(X mine, X* shared, Add add) {
  __syncthreads();  // the block's fold may still be read
  if (threadIdx.x == 0) shared[0] = mine;
  WaitForCluster();
  const int blocks = ClusterSize(), lane = static_cast<int>(threadIdx.x) % 32;
  mine = FoldWarp(*SharedOfBlock(shared, lane % blocks), add, blocks);
  WaitForCluster();  // no block overwrites shared memory, or exits, before all have read
  return mine;
}

}  // namespace boltzmax::cuda

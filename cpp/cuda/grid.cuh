// How kernels are launched.
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>

#include "launch.hpp"
#include "storage.cuh"

namespace boltzmax::cuda {

inline constexpr size_t kUsualShared = 48 << 10;
inline constexpr int kUsualCluster = 8;

inline void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the next call is not to find it
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw Error(std::string(what) + ": " + cudaGetErrorString(status));
}

inline int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How many blocks of how many threads, with how many bytes of shared memory, in clusters of how many.
struct Grid {
  int64_t blocks;
  dim3 threads;
  size_t shared = 0;
  int cluster = 1;
};

template <class... Parameters, class... Arguments>
void Launch(void (*kernel)(Parameters...), const Grid& grid, Stream stream, Arguments... arguments) {
  if (grid.blocks > INT32_MAX) throw Error("more rows than one launch can have");
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(grid.blocks));
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared;
  config.stream = stream;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(grid.cluster);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  config.attrs = &attribute;
  config.numAttrs = grid.cluster > 1 ? 1 : 0;
  // Both have to be asked for.
  const auto* function = reinterpret_cast<const void*>(kernel);
  if (grid.shared > kUsualShared) {
    Check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared)),
          "asking for shared memory");
  }
  if (grid.cluster > kUsualCluster) {
    Check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "asking for a cluster");
  }
  Check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launching a kernel");
}

// Of the current device.
inline int Attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  Check(cudaGetDevice(&device), "asking for the device");
  Check(cudaDeviceGetAttribute(&value, attribute, device), "asking what the device can do");
  return value;
}

// Memory that is given back in the order of the stream.
class Workspace {
 public:
  Workspace(size_t bytes, Stream stream) : memory(Allocate(bytes, stream)), stream_(stream) {}
  ~Workspace() { Free(memory, stream_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* const memory;

 private:
  Stream stream_;
};

}  // namespace boltzmax::cuda

#pragma once

#include "launch.hpp"

namespace boltzmax::cuda {

// Memory that is freed in the order of the stream.
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

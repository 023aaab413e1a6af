// How rows are divided: blocks for threads, batches for packing, segments of long rows; and a thread's scratch memory.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace boltzmax {

// The least number of elements in a task, and the most in a batch of packed rows.
inline constexpr size_t kTaskElements = 32768;
inline constexpr size_t kPackElements = 8192;

// Whether to write results past the cache: more than 16 MB would be evicted before anyone reads them. Short rows gain
// nothing by it: for 10^5 rows of 48 to 256 floats, ordinary stores took 0.75 to 0.95 of the time.
inline bool WritesPastCache(size_t rows, size_t n, size_t item_size) {
  return n > kMostPaneled && rows * n * item_size > size_t{16} << 20;
}

// Input larger than this is taken to be beyond the second-level cache.
inline constexpr size_t kFarBytes = size_t{1} << 20;

inline size_t SegmentLength(DType storage) { return storage == DType::kFloat64 ? kSegment<double> : kSegment<float>; }

// A rough estimate of softmax's time, for input from beyond the second-level cache if there is much of it. It decides
// on threads and on holding the GIL.
inline double EstimateNanoseconds(size_t elements, DType storage) {
  return static_cast<double>(elements) * (storage == DType::kFloat64 ? 0.8 : 0.35);
}

// The same for rows, with a fixed cost for each.
inline double EstimateNanoseconds(size_t rows, size_t n, DType storage) {
  return EstimateNanoseconds(rows * n, storage) + 2.5 * static_cast<double>(rows);
}

// Runs task(begin, end) for blocks of rows of n elements.
template <class Task>
void ForEachRowBlock(size_t rows, size_t n, double cost, Task task) {
  ParallelBlocks(rows, std::max<size_t>(1, kTaskElements / std::max<size_t>(n, 1)), cost, task);
}

// Memory of the calling thread, kept for its next call. Requests are at most as large as a segment.
class Scratch {
 public:
  char* Get(size_t bytes) {
    if (bytes > size_) {
      size_ = 0;
      data_.reset();
      data_.reset(new (kAlignment) char[bytes]);
      size_ = bytes;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(char* p) const { ::operator delete[](p, kAlignment); }
  };
  std::unique_ptr<char, Free> data_;
  size_t size_ = 0;
};

}  // namespace boltzmax

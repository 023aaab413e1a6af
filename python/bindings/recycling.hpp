// Memory for large results.
//
// A fresh 32 MB array costs more in page faults, each of which zeroes a page, than in softmax. So the memory of our
// large results is kept when the array dies, up to a limit, and given to the next result; new memory requests huge
// pages. The arrays own their memory like any array: this is NumPy's allocator hook (NEP 49), set only while we create
// them.
#pragma once

#include "numpy_api.hpp"

namespace boltzmax {

// Results from this size on are recycled.
inline constexpr npy_intp kRecycledBytes = npy_intp{1} << 20;

// Called at import. BOLTZMAX_CACHE_MB sets how much may be kept (default 256; 0 for nothing). False with an exception
// set on failure.
bool InitRecycling();

// While one of these exists, NumPy allocates new arrays from here.
class RecyclingScope {
 public:
  explicit RecyclingScope(bool active);
  ~RecyclingScope();
  RecyclingScope(const RecyclingScope&) = delete;
  RecyclingScope& operator=(const RecyclingScope&) = delete;

 private:
  PyObject* before_ = nullptr;
};

}  // namespace boltzmax

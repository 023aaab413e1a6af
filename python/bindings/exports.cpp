// Functions for tools that inspect the process, such as threadpoolctl (boltzmax/_lib/threadpools.py).

#include "../../cpp/core/runtime/parallel.hpp"

#if defined(_WIN32)
#define BOLTZMAX_EXPORT extern "C" __declspec(dllexport)
#else
#define BOLTZMAX_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// 1 if the number cannot be determined.
BOLTZMAX_EXPORT int boltzmax_get_num_threads() {
  try {
    return boltzmax::NumThreads();
  } catch (...) {
    return 1;
  }
}
BOLTZMAX_EXPORT void boltzmax_set_num_threads(int n) { boltzmax::SetNumThreads(n); }

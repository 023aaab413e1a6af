// What the extension shows to whoever looks into the process, as threadpoolctl does (boltzmax/_lib/threadpools.py).

#include "../../cpp/core/runtime/parallel.hpp"

#if defined(_WIN32)
#define BOLTZMAX_EXPORT extern "C" __declspec(dllexport)
#else
#define BOLTZMAX_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Where the number cannot be found out, there is one.
BOLTZMAX_EXPORT int boltzmax_get_num_threads() {
  try {
    return boltzmax::NumThreads();
  } catch (...) {
    return 1;
  }
}
BOLTZMAX_EXPORT void boltzmax_set_num_threads(int n) { boltzmax::SetNumThreads(n); }

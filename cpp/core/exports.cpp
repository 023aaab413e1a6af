// What the extension shows to whoever looks into the process, as threadpoolctl does (boltzmax/_threadpools.py).

#include "parallel.hpp"

#if defined(_WIN32)
#define BOLTZMAX_EXPORT extern "C" __declspec(dllexport)
#else
#define BOLTZMAX_EXPORT extern "C" __attribute__((visibility("default")))
#endif

BOLTZMAX_EXPORT int boltzmax_get_num_threads() { return boltzmax::NumThreads(); }
BOLTZMAX_EXPORT void boltzmax_set_num_threads(int n) { boltzmax::SetNumThreads(n); }

// The one interface to threads: ParallelFor. Kernels know nothing of it.
//
// The pool is our own because it must survive fork (libgomp hangs in the child) and cost little when there is little to
// do. Workers spin briefly after a call, so that a series of calls wakes nobody, and then sleep. A call from inside a
// task, or while another thread uses the pool, runs serially.
#pragma once

#include <cstddef>
#include <functional>

namespace boltzmax {

// At least 1. Initially BOLTZMAX_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs that the affinity mask and the
// cgroup's CPU quota allow.
int NumThreads();
inline constexpr int kMostThreads = 65536;
const char* IgnoredNumThreads();  // the value of BOLTZMAX_NUM_THREADS if it is invalid, else null
void SetNumThreads(int n);        // clamped to [1, kMostThreads]

// Runs task(i) for every i in [0, tasks) on the caller and the pool. `cost` estimates the whole work in nanoseconds:
// work too small to repay waking a worker runs on the caller alone.
void ParallelFor(size_t tasks, double cost, const std::function<void(size_t)>& task);

// Runs task(begin, end) for blocks of [0, count) of at least `least` each. Blocks are large enough that neighbours stay
// together, and small enough for eight per thread, so that others can take over from a slow thread.
void ParallelBlocks(size_t count, size_t least, double cost, const std::function<void(size_t, size_t)>& task);

// The number of threads that ParallelFor would use now; 1 inside a task.
int UsableThreads(double cost);

}  // namespace boltzmax

// One seam for threads: ParallelFor. Kernels know nothing of it.
//
// The pool is our own because it must survive fork (libgomp hangs in the child) and cost little when there is little to
// do. Workers spin for a moment after a call, so that a series of calls wakes nobody, and then sleep. A call from inside
// a task, or while another thread is using the pool, runs serially.
#pragma once

#include <cstddef>
#include <functional>

namespace boltzmax {

// At least 1. Initially BOLTZMAX_NUM_THREADS, else OMP_NUM_THREADS, else what the affinity mask and the cgroup's CPU
// quota leave.
int NumThreads();
inline constexpr int kMostThreads = 65536;
const char* IgnoredNumThreads();  // what BOLTZMAX_NUM_THREADS says if that is no such number, else null
void SetNumThreads(int n);        // the nearest from 1 to kMostThreads

// task(i) for every i in [0, tasks), on the caller and the pool. `cost` is the whole work in nanoseconds, estimated:
// what is too little to repay waking a worker runs on the caller alone.
void ParallelFor(size_t tasks, double cost, const std::function<void(size_t)>& task);

// task(begin, end) for blocks of [0, count) of at least `least` each: as large as leaves every thread eight, so that
// neighbours stay together and a thread that is late still finds its share taken.
void ParallelBlocks(size_t count, size_t least, double cost, const std::function<void(size_t, size_t)>& task);

// How many threads ParallelFor would use now; 1 inside a task.
int UsableThreads(double cost);

}  // namespace boltzmax

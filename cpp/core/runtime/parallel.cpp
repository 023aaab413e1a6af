#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "cgroup.hpp"

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace boltzmax {

namespace {

// ---- number of threads ----

// 0 if unset or invalid. OMP_NUM_THREADS may be a list: its first number counts.
int FromEnvironment(const char* name) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): the environment is not ours to guard
  if (text == nullptr) return 0;
  char* end;
  const long n = std::strtol(text, &end, 10);
  const bool whole = end != text && (*end == '\0' || *end == ',');
  return whole && n > 0 && n <= kMostThreads ? static_cast<int>(n) : 0;
}

constexpr const char* kNumThreads = "BOLTZMAX_NUM_THREADS";

int AffinityCount() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int DefaultThreads() {
  if (const int n = FromEnvironment(kNumThreads)) return n;
  if (const int n = FromEnvironment("OMP_NUM_THREADS")) return n;
  const int quota = CpuQuota();
  return quota > 0 ? std::min(quota, AffinityCount()) : AffinityCount();
}

// ---- the pool ----

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(60);
// Waking a sleeping worker takes some fifty microseconds, one that still spins next to nothing.
constexpr double kWorthWaking = 300e3;
constexpr double kWorthSharing = 30e3;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

thread_local bool inside_task = false;

class Pool {
 public:
  // Whether a call worth `cost` should be shared, given the workers that are awake.
  bool Worthwhile(double cost) const {
    return cost >= (spinning_.load(std::memory_order_relaxed) > 0 ? kWorthSharing : kWorthWaking);
  }

  // False if the pool is busy.
  bool Run(size_t tasks, int threads, const std::function<void(size_t)>& task) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    const int helpers = Grow(static_cast<int>(std::min<size_t>(static_cast<size_t>(threads), tasks)) - 1);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task;
      tasks_ = tasks;
      next_.store(0, std::memory_order_relaxed);
      failure_ = nullptr;
      running_.store(helpers, std::memory_order_relaxed);
      wanted_.store(helpers,
                    std::memory_order_release);  // from here on helpers may start, and see all of the above
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    Work();
    // Helpers that have not started by now have nothing left to do: withdraw their places.
    const int late = wanted_.exchange(0, std::memory_order_acq_rel);
    if (late > 0) running_.fetch_sub(late, std::memory_order_acq_rel);
    while (running_.load(std::memory_order_acquire) > 0) Pause();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    return true;
  }

 private:
  // Returns the number of helpers, which is smaller than requested if the system refuses another thread.
  int Grow(int helpers) {
    helpers_.reserve(static_cast<size_t>(helpers));
    while (static_cast<int>(helpers_.size()) < helpers) {
      try {
        std::thread helper([this] { Helper(); });
#if defined(__linux__)
        pthread_setname_np(helper.native_handle(), "boltzmax");  // shown by top and debuggers
#endif
        helpers_.push_back(helper.native_handle());
        helper.detach();
      } catch (const std::system_error&) {
        break;
      }
      avoided_cpu_ = -1;
    }
    KeepOffCallersCpu();
    return std::min(helpers, static_cast<int>(helpers_.size()));
  }

  // A woken thread tends to be placed on its waker's processor, where it would wait for the caller, who spins. So
  // helpers may run on any processor but that one.
  void KeepOffCallersCpu() {
#if defined(__linux__)
    const int cpu = sched_getcpu();
    if (cpu < 0 || cpu == avoided_cpu_) return;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    CPU_CLR(static_cast<size_t>(cpu), &allowed);
    for (const auto helper : helpers_) pthread_setaffinity_np(helper, sizeof allowed, &allowed);
    avoided_cpu_ = cpu;
#endif
  }

  // The first exception, in whichever thread, stops all of them, and is rethrown to the caller.
  void Work() {
    inside_task = true;
    try {
      for (;;) {
        const size_t i = next_.fetch_add(1, std::memory_order_relaxed);
        if (i >= tasks_) break;
        (*task_)(i);
      }
    } catch (...) {
      next_.store(tasks_, std::memory_order_relaxed);
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    inside_task = false;
  }

  // Claims one of the places of the current call.
  bool Claim() {
    int wanted = wanted_.load(std::memory_order_acquire);
    while (wanted > 0) {
      if (wanted_.compare_exchange_weak(wanted, wanted - 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void Helper() {
    unsigned seen = 0;
    for (;;) {
      Await(seen);
      seen = generation_.load(std::memory_order_acquire);
      while (Claim()) {
        Work();
        running_.fetch_sub(1, std::memory_order_acq_rel);
      }
    }
  }

  // Waits for a generation after `seen`: spins first, then sleeps.
  void Await(unsigned seen) {
    spinning_.fetch_add(1, std::memory_order_relaxed);
    const auto until = Clock::now() + kSpin;
    bool arrived = false;
    while (!(arrived = generation_.load(std::memory_order_acquire) != seen) && Clock::now() < until) {
      for (int i = 0; i < 32; ++i) Pause();
    }
    spinning_.fetch_sub(1, std::memory_order_relaxed);
    if (arrived) return;
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
  }

  std::mutex owner_, mutex_;
  std::condition_variable wake_;
  const std::function<void(size_t)>* task_ = nullptr;
  size_t tasks_ = 0;
  std::exception_ptr failure_;
  std::vector<std::thread::native_handle_type> helpers_;
  int avoided_cpu_ = -1;
  std::atomic<size_t> next_{0};
  std::atomic<int> wanted_{0}, running_{0}, spinning_{0};
  std::atomic<unsigned> generation_{0};
};

// Never destroyed: its threads may outlive static destructors. A forked child has none of them, so it constructs a new
// pool in the same place; the parent's state is dropped without destruction. The pool is constructed at the start: if
// it were at the first use, a fork during that construction would leave the child waiting for a thread that it does not
// have.
alignas(Pool) unsigned char pool_storage[sizeof(Pool)];
Pool& the_pool = []() -> Pool& {
#if !defined(_WIN32)
  pthread_atfork(nullptr, nullptr, [] {
    new (pool_storage) Pool;
    inside_task = false;
  });
#endif
  return *new (pool_storage) Pool;
}();

std::atomic<int> num_threads{0};

}  // namespace

int NumThreads() {
  int n = num_threads.load(std::memory_order_relaxed);
  if (n == 0) {
    n = DefaultThreads();
    int unset = 0;
    if (!num_threads.compare_exchange_strong(unset, n)) n = unset;
  }
  return n;
}

const char* IgnoredNumThreads() {
  const char* text = std::getenv(kNumThreads);  // NOLINT(concurrency-mt-unsafe): the environment is not ours to guard
  return text != nullptr && *text != '\0' && FromEnvironment(kNumThreads) == 0 ? text : nullptr;
}

void SetNumThreads(int n) { num_threads.store(std::clamp(n, 1, kMostThreads), std::memory_order_relaxed); }

int UsableThreads(double cost) {
  if (inside_task || NumThreads() == 1 || !the_pool.Worthwhile(cost)) return 1;
  return NumThreads();
}

void ParallelFor(size_t tasks, double cost, const std::function<void(size_t)>& task) {
  const int threads = tasks > 1 ? UsableThreads(cost) : 1;
  if (threads > 1 && the_pool.Run(tasks, threads, task)) return;
  for (size_t i = 0; i < tasks; ++i) task(i);
}

void ParallelBlocks(size_t count, size_t least, double cost, const std::function<void(size_t, size_t)>& task) {
  const auto threads = static_cast<size_t>(UsableThreads(cost));
  if (threads == 1) return task(0, count);
  const size_t block = std::max(least, count / (8 * threads));
  ParallelFor((count + block - 1) / block, cost, [&](size_t i) { task(i * block, std::min(count, (i + 1) * block)); });
}

}  // namespace boltzmax

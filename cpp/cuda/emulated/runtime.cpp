#include <ucontext.h>

#include <algorithm>
#include <csetjmp>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "cuda_runtime.h"

dim3 blockDim;

namespace emulated {

dim3 thread_index, block_index;
int64_t comparisons = 0;

namespace {

constexpr size_t kStack = size_t{64} << 10, kWarp = 32, kAlignment = 128;

// How often a group of threads has met, and how many have arrived for the next meeting.
struct Meeting {
  size_t members = 0, arrived = 0, generation = 0;
};

// A fiber: entered by setcontext, and then by longjmp, which makes no system call.
struct Thread {
  std::unique_ptr<char[]> stack;
  jmp_buf place;
  dim3 index;
  bool is_new = true, is_done = false;
};

struct Block {
  Meeting meeting;
  std::vector<char> memory;
};

std::mutex device;  // one grid at a time
jmp_buf scheduler;
std::vector<Thread> threads;
std::vector<Meeting> warps;
std::vector<Block> blocks;  // of the cluster
Meeting cluster;
unsigned first_block;
std::vector<uint64_t> exchange;
size_t current, threads_of_block, warps_of_block;
const std::function<void()>* body;
// The offset of each key in a block's shared memory; the same for all blocks.
std::map<const void*, size_t> places;
size_t room;
constexpr size_t kShared = size_t{99} << 10;  // of a block whose kernel requests more than the default
std::set<const void*> allowed;
size_t limit;

size_t BlockOf(size_t thread) { return thread / threads_of_block; }
Meeting& WarpOf(size_t thread) { return warps[BlockOf(thread) * warps_of_block + thread % threads_of_block / kWarp]; }

void Yield() {
  if (_setjmp(threads[current].place) == 0) _longjmp(scheduler, 1);
}

// Threads that have returned are not awaited, as on current devices.
void Release(Meeting& meeting) {
  if (meeting.arrived < meeting.members) return;
  meeting.arrived = 0;
  ++meeting.generation;
}
void Wait(Meeting& meeting) {
  const size_t generation = meeting.generation;
  ++meeting.arrived;
  Release(meeting);
  while (meeting.generation == generation) Yield();
}
void Leave(Meeting& meeting) {
  --meeting.members;
  if (meeting.members > 0) Release(meeting);
}

void Enter() {
  (*body)();
  threads[current].is_done = true;
  Leave(WarpOf(current));
  Leave(blocks[BlockOf(current)].meeting);
  Leave(cluster);
  Yield();
}

// Runs the current thread until it yields.
void Continue() {
  if (_setjmp(scheduler) != 0) return;
  Thread& thread = threads[current];
  if (!thread.is_new) _longjmp(thread.place, 1);
  thread.is_new = false;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = thread.stack.get();
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  makecontext(&context, Enter, 0);
  setcontext(&context);
}

void RunCluster(dim3 size) {
  const size_t count = threads_of_block * blocks.size();
  warps.assign(warps_of_block * blocks.size(), {});
  exchange.assign(warps.size() * kWarp, 0);
  cluster = {count, 0, 0};
  for (Block& block : blocks) {
    block.meeting = {threads_of_block, 0, 0};
    std::fill(block.memory.begin(), block.memory.end(), '\xa5');
  }
  for (size_t t = 0; t < count; ++t) {
    Thread& thread = threads[t];
    ++WarpOf(t).members;
    thread.is_new = true;
    thread.is_done = false;
    const size_t i = t % threads_of_block;
    thread.index = dim3(static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
                        static_cast<unsigned>(i / size.x / size.y));
  }
  for (size_t left = count; left > 0;) {
    for (size_t t = 0; t < count; ++t) {
      if (threads[t].is_done) continue;
      current = t;
      thread_index = threads[t].index;
      block_index = dim3(first_block + static_cast<unsigned>(BlockOf(t)), 0, 0);
      Continue();
      if (threads[t].is_done) --left;
    }
  }
}

}  // namespace

cudaError_t RunGrid(const void* kernel, const cudaLaunchConfig_t& config, const std::function<void()>& thread) {
  const std::lock_guard<std::mutex> lock(device);
  const dim3 size = blockDim = config.blockDim;
  threads_of_block = size_t{size.x} * size.y * size.z;
  warps_of_block = (threads_of_block + kWarp - 1) / kWarp;
  const unsigned of_cluster = config.numAttrs == 0 ? 1 : config.attrs->val.clusterDim.x, grid = config.gridDim.x;
  constexpr size_t kUsual = size_t{48} << 10;
  limit = allowed.contains(kernel) ? kShared : kUsual;
  if (threads_of_block == 0 || threads_of_block > 1024 || grid == 0 || of_cluster > 16 || grid % of_cluster != 0 ||
      config.dynamicSmemBytes > limit) {
    return cudaErrorInvalidValue;
  }
  body = &thread;
  places.clear();
  room = current = 0;
  blocks.resize(of_cluster);
  for (Block& block : blocks) block.memory.resize(kShared + kAlignment);
  if (config.dynamicSmemBytes > 0) SharedMemory(nullptr, config.dynamicSmemBytes);
  while (threads.size() < threads_of_block * of_cluster) threads.emplace_back().stack.reset(new char[kStack]);
  for (first_block = 0; first_block < grid; first_block += of_cluster) RunCluster(size);
  return cudaSuccess;
}

void WaitForCluster() { Wait(cluster); }
void WaitForBlock() { Wait(blocks[BlockOf(current)].meeting); }
void WaitForWarp() { Wait(WarpOf(current)); }
int ClusterSize() { return static_cast<int>(blocks.size()); }
int ClusterRank() { return static_cast<int>(BlockOf(current)); }
int Lane() { return static_cast<int>(current % threads_of_block % kWarp); }
void* ExchangeOf(int lane) {
  return &exchange[static_cast<size_t>(&WarpOf(current) - warps.data()) * kWarp + static_cast<size_t>(lane)];
}

namespace {

char* MemoryOf(size_t block) {
  char* const memory = blocks[block].memory.data();
  return memory + (kAlignment - reinterpret_cast<uintptr_t>(memory) % kAlignment) % kAlignment;
}

}  // namespace

void Allow(const void* kernel, size_t bytes) {
  const std::lock_guard<std::mutex> lock(device);
  if (bytes <= kShared) allowed.insert(kernel);
}
void* SharedMemory(const void* key, size_t bytes) {
  const auto [place, is_new] = places.emplace(key, room);
  if (is_new) room += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (room > limit) abort();  // the device would have refused the launch
  return MemoryOf(BlockOf(current)) + place->second;
}
void* SharedMemoryOf(const void* own, int rank) {
  return MemoryOf(static_cast<size_t>(rank)) + (static_cast<const char*>(own) - MemoryOf(BlockOf(current)));
}

}  // namespace emulated

// ---- the device and its memory: BOLTZMAX_EMULATED_DEVICES is the number of devices (2), BOLTZMAX_EMULATED_MEMORY how
// many GiB each can allocate at a time (1), BOLTZMAX_EMULATED_CLUSTERS whether it has clusters (1) ----

namespace {

std::mutex memory_mutex;
std::map<const char*, std::pair<size_t, int>> blocks;
thread_local int current_device = 0;

int Setting(const char* name, int standard) {
  const char* text = getenv(name);
  return text == nullptr ? standard : static_cast<int>(strtol(text, nullptr, 10));
}
int CountDevices() { return Setting("BOLTZMAX_EMULATED_DEVICES", 2); }
size_t Memory() { return static_cast<size_t>(Setting("BOLTZMAX_EMULATED_MEMORY", 1)) << 30; }

}  // namespace

const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = CountDevices();
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= CountDevices()) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
// The attributes of no real device: small, so that little work exercises every way of dividing it.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = 0;  // of what does not change the division of work
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 99 << 10; break;
    case cudaDevAttrClusterLaunch: *value = Setting("BOLTZMAX_EMULATED_CLUSTERS", 1); break;
    default: break;
  }
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) emulated::Allow(function, static_cast<size_t>(value));
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {4 << 10, 0, 0, 90};
  return cudaSuccess;
}
cudaError_t cudaFuncGetName(const char** name, const void*) {
  *name = "emulated";  // kernels are functions without a symbol
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t) {
  *blocks = 2048 / threads;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  *attributes = {cudaMemoryTypeUnregistered, 0};
  auto after = blocks.upper_bound(static_cast<const char*>(memory));
  if (after == blocks.begin()) return cudaSuccess;
  const auto& [start, block] = *--after;
  if (static_cast<const char*>(memory) < start + block.first) *attributes = {cudaMemoryTypeDevice, block.second};
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  static char any;
  *pool = reinterpret_cast<cudaMemPool_t>(&any);
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t bytes, cudaMemPool_t, cudaStream_t) {
  if (bytes > Memory()) return cudaErrorMemoryAllocation;
  *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  memset(*memory, 0xa5, bytes);  // junk, as on a device
  const std::lock_guard<std::mutex> lock(memory_mutex);
  blocks[static_cast<const char*>(*memory)] = {bytes, current_device};
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  const auto block = blocks.find(static_cast<const char*>(memory));
  // A device would order this by another device's stream.
  if (block == blocks.end() || block->second.second != current_device) return cudaErrorInvalidValue;
  blocks.erase(block);
  free(memory);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) { return cudaFreeAsync(memory, nullptr); }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t) {
  memset(memory, byte, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }

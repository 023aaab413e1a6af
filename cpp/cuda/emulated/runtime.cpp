#include <ucontext.h>

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda_runtime.h"

namespace emulated {

dim3 thread_index, block_index;

namespace {

constexpr size_t kStack = size_t{64} << 10, kWarp = 32;

// How often a group of threads has come together, and how many have come since.
struct Meeting {
  size_t members = 0, arrived = 0, generation = 0;
};

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  dim3 index;
  bool is_done = false;
};

std::mutex device;  // one grid at a time
ucontext_t scheduler;
std::vector<Thread> threads;
std::vector<Meeting> warps;
Meeting block;
std::vector<uint64_t> exchange;
size_t current;
const std::function<void()>* body;

void Yield() { swapcontext(&threads[current].context, &scheduler); }

// Those that have returned are not waited for, as on a device of today.
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
  Leave(warps[current / kWarp]);
  Leave(block);
  Yield();
}

void RunBlock(dim3 size) {
  const size_t count = size_t{size.x} * size.y * size.z;
  block = {count, 0, 0};
  warps.assign((count + kWarp - 1) / kWarp, {});
  exchange.assign(warps.size() * kWarp, 0);
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = threads[i];
    ++warps[i / kWarp].members;
    thread.is_done = false;
    thread.index = dim3(static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
                        static_cast<unsigned>(i / size.x / size.y));
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStack;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, Enter, 0);
  }
  for (size_t left = count; left > 0;) {
    for (size_t i = 0; i < count; ++i) {
      if (threads[i].is_done) continue;
      current = i;
      thread_index = threads[i].index;
      swapcontext(&scheduler, &threads[i].context);
      if (threads[i].is_done) --left;
    }
  }
}

}  // namespace

cudaError_t RunGrid(dim3 grid, dim3 block_size, const std::function<void()>& thread) {
  const std::lock_guard<std::mutex> lock(device);
  const size_t count = size_t{block_size.x} * block_size.y * block_size.z;
  if (count == 0 || count > 1024 || grid.x == 0) return cudaErrorInvalidValue;
  body = &thread;
  while (threads.size() < count) threads.emplace_back().stack.reset(new char[kStack]);
  for (unsigned b = 0; b < grid.x; ++b) {
    block_index = dim3(b, 0, 0);
    RunBlock(block_size);
  }
  return cudaSuccess;
}

void WaitForBlock() { Wait(block); }
void WaitForWarp() { Wait(warps[current / kWarp]); }
int Lane() { return static_cast<int>(current % kWarp); }
void* ExchangeOf(int lane) { return &exchange[current / kWarp * kWarp + static_cast<size_t>(lane)]; }

}  // namespace emulated

// ---- the device and its memory: BOLTZMAX_EMULATED_DEVICES says how many there are, two if it does not ----

namespace {

std::mutex memory_mutex;
std::map<const char*, std::pair<size_t, int>> blocks;
thread_local int current_device = 0;
constexpr size_t kMemory = size_t{1} << 30;  // of a device

int CountDevices() {
  const char* text = getenv("BOLTZMAX_EMULATED_DEVICES");
  return text == nullptr ? 2 : static_cast<int>(strtol(text, nullptr, 10));
}

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
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  *attributes = {cudaMemoryTypeUnregistered, 0};
  auto after = blocks.upper_bound(static_cast<const char*>(memory));
  if (after == blocks.begin()) return cudaSuccess;
  const auto& [start, block] = *--after;
  if (static_cast<const char*>(memory) < start + block.first) *attributes = {cudaMemoryTypeDevice, block.second};
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  if (bytes > kMemory) return cudaErrorMemoryAllocation;
  *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  memset(*memory, 0xa5, bytes);  // as full of something as a device's
  const std::lock_guard<std::mutex> lock(memory_mutex);
  blocks[static_cast<const char*>(*memory)] = {bytes, current_device};
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  const auto block = blocks.find(static_cast<const char*>(memory));
  // A device would order this by another one's stream.
  if (block == blocks.end() || block->second.second != current_device) return cudaErrorInvalidValue;
  blocks.erase(block);
  free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  memcpy(to, from, bytes);
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

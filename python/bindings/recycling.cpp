#include "recycling.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#define BOLTZMAX_HAS_MMAP
#endif

#if defined(__SANITIZE_ADDRESS__)
#define BOLTZMAX_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BOLTZMAX_ASAN
#endif
#endif
#if defined(BOLTZMAX_ASAN)
#include <sanitizer/asan_interface.h>
#endif

namespace boltzmax {

namespace {

// The size of its block is stored before the data; the data are aligned to a cache line.
constexpr size_t kHeader = 64;
constexpr size_t kHugePage = size_t{2} << 20;

struct Block {
  void* base;
  size_t bytes;
};

std::mutex mutex;
std::vector<Block>& kept = *new std::vector<Block>;  // never destroyed: arrays may die after static objects do
size_t kept_bytes = 0, kept_limit = size_t{256} << 20;

#if defined(BOLTZMAX_HAS_MMAP)
// A forked child has one thread. If another thread held the mutex during the fork, nobody would ever release it.
[[maybe_unused]] const int forks_wait =
    pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
#endif

void* Obtain(size_t bytes) {
#if defined(BOLTZMAX_HAS_MMAP)
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
#if defined(MADV_HUGEPAGE)
  madvise(base, bytes, MADV_HUGEPAGE);
#endif
  return base;
#else
  return ::operator new(bytes, std::align_val_t{kHeader}, std::nothrow);
#endif
}

// AddressSanitizer does not know memory from mmap: it is told which bytes must not be touched.

void Forbid([[maybe_unused]] const void* from, [[maybe_unused]] size_t bytes) {
#if defined(BOLTZMAX_ASAN)
  __asan_poison_memory_region(from, bytes);
#endif
}

void Permit([[maybe_unused]] const void* from, [[maybe_unused]] size_t bytes) {
#if defined(BOLTZMAX_ASAN)
  __asan_unpoison_memory_region(from, bytes);
#endif
}

void Return(Block block) {
  Permit(block.base, block.bytes);
#if defined(BOLTZMAX_HAS_MMAP)
  munmap(block.base, block.bytes);
#else
  ::operator delete(block.base, std::align_val_t{kHeader});
#endif
}

// Opens `size` bytes of a block.
void* DataOf(Block block, size_t size) {
  Permit(block.base, kHeader + size);
  std::memcpy(block.base, &block.bytes, sizeof block.bytes);
  char* data = static_cast<char*>(block.base) + kHeader;
  Forbid(block.base, kHeader);
  Forbid(data + size, block.bytes - kHeader - size);
  return data;
}

Block BlockOf(void* data) {
  Block block = {static_cast<char*>(data) - kHeader, 0};
  Permit(block.base, kHeader);
  std::memcpy(&block.bytes, block.base, sizeof block.bytes);
  Forbid(block.base, kHeader);
  return block;
}

// Finds the smallest kept block that fits without wasting a quarter of it.
bool TakeKept(size_t bytes, Block* found) {
  const std::lock_guard<std::mutex> lock(mutex);
  size_t best = kept.size();
  for (size_t i = 0; i < kept.size(); ++i) {
    const size_t size = kept[i].bytes;
    if (size >= bytes && size - bytes <= size / 4 && (best == kept.size() || size < kept[best].bytes)) best = i;
  }
  if (best == kept.size()) return false;
  *found = kept[best];
  kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(best));
  kept_bytes -= found->bytes;
  return true;
}

void* Allocate(void*, size_t size) {
  const size_t bytes = (size + kHeader + kHugePage - 1) / kHugePage * kHugePage;
  Block block = {nullptr, bytes};
  if (bytes < size) return nullptr;
  if (!TakeKept(bytes, &block)) block.base = Obtain(bytes);
  return block.base == nullptr ? nullptr : DataOf(block, size);
}

void Free(void*, void* data, size_t) {
  if (data == nullptr) return;
  const Block block = BlockOf(data);
  Forbid(block.base, block.bytes);
  std::vector<Block> surplus;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (block.bytes > kept_limit) {
      surplus.push_back(block);
    } else {
      kept.push_back(block);
      kept_bytes += block.bytes;
    }
    while (kept_bytes > kept_limit) {  // the oldest first
      kept_bytes -= kept.front().bytes;
      surplus.push_back(kept.front());
      kept.erase(kept.begin());
    }
  }
  for (const Block& old : surplus) Return(old);
}

void* AllocateZeroed(void* context, size_t count, size_t item) {
  void* data = Allocate(context, count * item);
  if (data != nullptr) std::memset(data, 0, count * item);
  return data;
}

void* Reallocate(void* context, void* data, size_t size) {
  if (data == nullptr) return Allocate(context, size);
  const size_t room = BlockOf(data).bytes - kHeader;
  if (size <= room) return DataOf(BlockOf(data), size);
  void* moved = Allocate(context, size);
  if (moved == nullptr) return nullptr;
  Permit(data, room);  // all of it, since the requested size is unknown
  std::memcpy(moved, data, room);
  Free(context, data, room);
  return moved;
}

PyDataMem_Handler handler = {"boltzmax_recycling", 1, {nullptr, Allocate, AllocateZeroed, Reallocate, Free}};
PyObject* handler_capsule = nullptr;

}  // namespace

bool InitRecycling() {
  if (handler_capsule != nullptr) return true;  // of an earlier interpreter
  if (const char* text = std::getenv("BOLTZMAX_CACHE_MB"); text != nullptr && *text != '\0') {
    char* end;
    const unsigned long long megabytes = std::strtoull(text, &end, 10);
    constexpr unsigned long long kMost = 1ull << 30;
    if (*end != '\0' || *text == '-' || megabytes > kMost) {
      PyErr_Format(PyExc_ValueError, "BOLTZMAX_CACHE_MB must be a whole number of megabytes from 0 to %llu, got '%s'",
                   kMost, text);
      return false;
    }
    kept_limit = static_cast<size_t>(megabytes) << 20;
  }
  handler_capsule = PyCapsule_New(&handler, "mem_handler", nullptr);
  return handler_capsule != nullptr;
}

RecyclingScope::RecyclingScope(bool active) {
  if (active) before_ = PyDataMem_SetHandler(handler_capsule);
  if (active && before_ == nullptr) PyErr_Clear();  // then NumPy's own memory is used
}

RecyclingScope::~RecyclingScope() {
  if (before_ == nullptr) return;
  PyObject *type, *value, *traceback;  // an array that failed must stay failed
  PyErr_Fetch(&type, &value, &traceback);
  Py_XDECREF(PyDataMem_SetHandler(before_));
  Py_DECREF(before_);
  PyErr_Restore(type, value, traceback);
}

}  // namespace boltzmax

// The host's side: turns a task into kernels on a stream. Functions do not wait for the device unless they say so.
#pragma once

#include <stddef.h>

#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "task.hpp"

struct CUstream_st;

namespace boltzmax::cuda {

using Stream = CUstream_st*;

// CUDA's error; the device remains usable unless CUDA says otherwise.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct OutOfMemory : std::bad_alloc {
  explicit OutOfMemory(const std::string& what) : text("out of device memory, " + what) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

// Why there is no device to use; empty if there is one.
std::string WhyUnavailable();

// Whether the device is that of emulated/.
bool IsEmulated();
// The comparisons of candidates so far, which only that device counts.
int64_t CountComparisons();

// The CUDA version that this was compiled with, such as 13000; and the current device.
int CudaVersion();
int CurrentDevice();

// The device that memory belongs to; -1 for host memory.
int DeviceOf(const void* memory);

// Makes a device current for the lifetime of this object.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int device_, before_ = 0;
};

// Everything launched on `later` from now on waits for everything launched on `earlier` so far; both are streams of the
// current device.
void Order(Stream earlier, Stream later);

// Memory of the current device, ordered by a stream, from our own pool, which keeps some of it for the next call.
void* Allocate(size_t bytes, Stream stream);
void Free(void* memory, Stream stream) noexcept;
// Frees memory that unknown streams may still use: waits for the current device.
void FreeWhenIdle(void* memory) noexcept;

void Clear(void* memory, size_t bytes, Stream stream);
// Between arrays of one device.
void Copy(void* to, const void* from, size_t bytes, Stream stream);

// These wait for the copy.
void CopyIn(void* device, const void* host, size_t bytes, Stream stream);
void WaitFor(Stream stream);
void CopyOut(void* host, const void* device, size_t bytes, Stream stream);

// Every operation except losses of several rows.
void Run(const Task& task, Stream stream);

void RunLayer(const LayerTask& task, Stream stream);
void RunTopClasses(const LayerTask& task, const TopTask& top, Stream stream);
void RunLinear(const LinearTask& task, Stream stream);
void RunStatistics(const Task& task, const Statistics& out, Stream stream);

// Converts class numbers from 32 to 64 bits.
void WidenTargets(const int32_t* from, int64_t* to, int64_t count, Stream stream);

// Joins the losses of rows: their sum, or their mean. `scale` is a double on the device, for gradients.
void PrepareMean(const int64_t* target, int64_t rows, bool zero_if_empty, double* scale, Stream stream);
struct Losses {
  Storage storage;  // of the logits
  const void* losses;
  int64_t rows;
};
void JoinLosses(const Losses& losses, const double* scale, void* result, Stream stream);

// ---- facts for benchmarks ----

// Numbers of the current device, by name.
std::vector<std::pair<const char*, int>> DeviceAttributes();

// A launch, and what its kernel takes: registers of a thread, local (spilled) bytes of a thread, shared bytes of a
// block, and how many blocks are resident on a multiprocessor at a time.
struct LaunchRecord {
  std::string kernel;
  int registers;
  size_t local_bytes, shared_bytes;
  int64_t blocks;
  int threads, cluster, resident_blocks;
};
// From now on every launch is recorded, or none.
void RecordLaunches(bool is_on);
// The records since the last call.
std::vector<LaunchRecord> TakeRecords();

}  // namespace boltzmax::cuda

#include "products.hpp"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <map>
#include <mutex>

namespace boltzmax::cuda {

namespace {

// The part of cuBLAS that is used (https://docs.nvidia.com/cuda/cublas/), so that its header is not needed for
// compiling. These declarations have not changed since version 11.
struct CuBlas {
  using Handle = void*;
  int (*create)(Handle*);
  int (*destroy)(Handle);
  int (*set_stream)(Handle, Stream);
  int (*set_workspace)(Handle, void*, size_t);
  int (*set_pointer_mode)(Handle, int);
  int (*gemm)(Handle, int, int, int, int, int, const void*, const void*, cudaDataType, int, const void*, cudaDataType,
              int, const void*, void*, cudaDataType, int, int, int);
  const char* (*status_string)(int);
};
constexpr int kPointersOnDevice = 1, kPlain = 0, kTransposed = 1, kCompute32 = 68, kCompute64 = 70, kAnyAlgorithm = -1;
constexpr size_t kWorkspace = size_t{32} << 20;  // NVIDIA's advice for the largest devices

std::mutex mutex;
const CuBlas* library = nullptr;
std::map<int, std::vector<CuBlas::Handle>> idle;  // per device; creating a handle takes milliseconds

template <class F>
bool Find(void* file, const char* name, F* function) {
  *function = reinterpret_cast<F>(dlsym(file, name));
  return *function != nullptr;
}

void CheckStatus(int status, const char* what) {
  constexpr int kOutOfMemory = 3;
  if (status == 0) return;
  if (status == kOutOfMemory) throw OutOfMemory(what);
  throw Error(std::string(what) + ": " + library->status_string(status));
}

cudaDataType TypeOf(Storage storage) {
  switch (storage) {
    case Storage::kFloat64: return CUDA_R_64F;
    case Storage::kFloat16: return CUDA_R_16F;
    case Storage::kBFloat16: return CUDA_R_16BF;
    default: return CUDA_R_32F;
  }
}

int TransposeOf(const Matrix& matrix) { return matrix.is_transposed ? kTransposed : kPlain; }

}  // namespace

std::string LoadProducts(const std::vector<std::string>& files) {
  const std::lock_guard<std::mutex> lock(mutex);
  std::string reason = "no file to load";
  // Prefers a library that is already loaded, such as PyTorch's: it fits the driver.
  for (size_t i = 0; i < 2 * files.size() && library == nullptr; ++i) {
    const std::string& name = files[i % files.size()];
    void* file = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | (i < files.size() ? RTLD_NOLOAD : 0));
    if (file == nullptr) {
      if (i >= files.size()) reason = dlerror();
      continue;
    }
    auto* found = new CuBlas;
    if (Find(file, "cublasCreate_v2", &found->create) && Find(file, "cublasDestroy_v2", &found->destroy) &&
        Find(file, "cublasSetStream_v2", &found->set_stream) &&
        Find(file, "cublasSetWorkspace_v2", &found->set_workspace) &&
        Find(file, "cublasSetPointerMode_v2", &found->set_pointer_mode) && Find(file, "cublasGemmEx", &found->gemm) &&
        Find(file, "cublasGetStatusString", &found->status_string)) {
      library = found;
    } else {
      delete found;
      reason = name + " is not cuBLAS 11.4 or newer";
    }
  }
  return library == nullptr ? reason : "";
}

// Workspace in the order of this stream: the handle's own might still be in use by the last stream that used the
// handle.
Products::Products(Stream stream) : workspace_(kWorkspace, stream), handle_(nullptr) {
  if (library == nullptr) throw Error("cuBLAS has not been loaded");
  {
    const std::lock_guard<std::mutex> lock(mutex);
    auto& handles = idle[CurrentDevice()];
    if (!handles.empty()) {
      handle_ = handles.back();
      handles.pop_back();
    }
  }
  if (handle_ == nullptr) CheckStatus(library->create(&handle_), "cublasCreate");
  try {
    CheckStatus(library->set_pointer_mode(handle_, kPointersOnDevice), "cublasSetPointerMode");
    CheckStatus(library->set_stream(handle_, stream), "cublasSetStream");
    CheckStatus(library->set_workspace(handle_, workspace_.memory, kWorkspace), "cublasSetWorkspace");
  } catch (...) {
    library->destroy(handle_);
    throw;
  }
}

Products::~Products() {
  const std::lock_guard<std::mutex> lock(mutex);
  int device = 0;
  if (cudaGetDevice(&device) == cudaSuccess) idle[device].push_back(handle_);
}

// cuBLAS is column-major: it sees a row-major matrix as its transpose, and c' = b' a'.
void Products::Run(const MatrixProduct& p) {
  const cudaDataType in = TypeOf(p.storage), out = p.storage == Storage::kFloat64 ? CUDA_R_64F : CUDA_R_32F;
  const int status = library->gemm(
      handle_, TransposeOf(p.b), TransposeOf(p.a), static_cast<int>(p.n), static_cast<int>(p.m), static_cast<int>(p.k),
      p.factor, p.b.data, in, static_cast<int>(p.b.step), p.a.data, in, static_cast<int>(p.a.step), p.kept, p.c, out,
      static_cast<int>(p.c_step), p.storage == Storage::kFloat64 ? kCompute64 : kCompute32, kAnyAlgorithm);
  CheckStatus(status, "cublasGemmEx");
}

}  // namespace boltzmax::cuda

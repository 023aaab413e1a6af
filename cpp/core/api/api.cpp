#include "api.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "../losses/cross_entropy.hpp"
#include "../rows/gradients.hpp"
#include "../rows/softmax.hpp"
#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

// ---- arguments ----

// Memory that a caller passes.
struct Memory {
  uintptr_t begin;
  size_t bytes;
  size_t alignment;

  bool Overlaps(const Memory& other) const {
    return bytes > 0 && other.bytes > 0 && begin < other.begin + other.bytes && other.begin < begin + bytes;
  }
  bool Is(const Memory& other) const { return begin == other.begin; }
};

template <class T>
Memory Elements(const T* data, ptrdiff_t count) {
  return {reinterpret_cast<uintptr_t>(data), static_cast<size_t>(count) * sizeof(T), alignof(T)};
}

// Whether an array of this shape could fit into memory, whatever its type.
bool IsSize(ptrdiff_t rows, ptrdiff_t n) {
  ptrdiff_t count;
  return rows >= 0 && n >= 0 && !__builtin_mul_overflow(rows, std::max<ptrdiff_t>(n, 1), &count) &&
         count <= std::numeric_limits<ptrdiff_t>::max() / ptrdiff_t{sizeof(double)};
}

int Check(const Memory& memory) {
  if (memory.bytes == 0) return BOLTZMAX_OK;
  if (memory.begin == 0) return BOLTZMAX_NULL_POINTER;
  return memory.begin % memory.alignment == 0 ? BOLTZMAX_OK : BOLTZMAX_MISALIGNED;
}

// The status of the first argument that fails its check, or BOLTZMAX_OK.
template <class... M>
int Check(const Memory& first, const M&... others) {
  const int status = Check(first);
  return status != BOLTZMAX_OK ? status : Check(others...);
}

char* Bytes(const void* p) { return static_cast<char*>(const_cast<void*>(p)); }

// ---- rows ----

template <DType kType, Op kOp, class T>
int RunAt(const T* x, ptrdiff_t rows, ptrdiff_t n, double temperature, T* y) noexcept {
  constexpr bool kReduces = Reduces(kOp);
  if (!IsSize(rows, n)) return BOLTZMAX_BAD_SIZE;
  const Memory in = Elements(x, rows * n), out = Elements(y, kReduces ? rows : rows * n);
  if (const int status = Check(in, out)) return status;
  if (in.Overlaps(out) && (kReduces || !in.Is(out))) return BOLTZMAX_OVERLAP;
  if (!IsTemperature(temperature)) return BOLTZMAX_BAD_TEMPERATURE;
  return Guarded([&] {
    Problem problem = {kOp, kType, kType, Bytes(x), Bytes(y), nullptr, nullptr, {}, {}};
    if (temperature != 1.0) problem.temperature = Bytes(&temperature);
    RunContiguous(problem, static_cast<size_t>(rows), static_cast<size_t>(n));
  });
}

template <DType kType, Op kOp, class T>
int RunPlain(const T* x, ptrdiff_t rows, ptrdiff_t n, T* y) noexcept {
  return RunAt<kType, kOp>(x, rows, n, 1.0, y);
}

template <DType kType, Op kOp, class T>
int RunBackward(const T* dy, const T* y, ptrdiff_t rows, ptrdiff_t n, T* dx) noexcept {
  if (!IsSize(rows, n)) return BOLTZMAX_BAD_SIZE;
  const Memory a = Elements(dy, rows * n), b = Elements(y, rows * n), out = Elements(dx, rows * n);
  if (const int status = Check(a, b, out)) return status;
  if ((out.Overlaps(a) && !out.Is(a)) || (out.Overlaps(b) && !out.Is(b))) return BOLTZMAX_OVERLAP;
  return Guarded([&] {
    const GradProblem problem = {kOp, kType, Bytes(dy), Bytes(y), Bytes(dx), {}, {}};
    RunContiguous(problem, static_cast<size_t>(rows), static_cast<size_t>(n));
  });
}

template <DType kType, class T>
int RunCrossEntropy(const T* logits, const int64_t* target, ptrdiff_t rows, ptrdiff_t n, double scale, double* loss,
                    T* d_logits) noexcept {
  if (!IsSize(rows, n)) return BOLTZMAX_BAD_SIZE;
  const Memory in = Elements(logits, rows * n), targets = Elements(target, rows), losses = Elements(loss, rows);
  const Memory gradient = Elements(d_logits, d_logits == nullptr ? 0 : rows * n);
  if (const int status = Check(in, targets, losses, gradient)) return status;
  const bool in_place = gradient.Is(in) || !gradient.Overlaps(in);
  if (!in_place || losses.Overlaps(in) || losses.Overlaps(gradient)) return BOLTZMAX_OVERLAP;
  if (losses.Overlaps(targets) || gradient.Overlaps(targets)) return BOLTZMAX_OVERLAP;
  for (ptrdiff_t r = 0; r < rows; ++r) {
    if (target[r] >= n) return BOLTZMAX_BAD_TARGET;
  }
  return Guarded([&] {
    const auto count = static_cast<size_t>(rows);
    const double nothing = 0.0;
    std::vector<double> lse(count);
    const ptrdiff_t row = n * ptrdiff_t{sizeof(T)};
    // `loss` first receives log p[target]. With n = 0 there are no classes: every target must be negative.
    std::fill_n(loss, count, 0.0);
    Run(CrossEntropyProblem{kType, Bytes(logits), row, count, static_cast<size_t>(n), target, 1.0, lse.data(), loss,
                            nullptr, Bytes(d_logits), row, &scale, &nothing, &nothing, &scale, 0, count});
    for (size_t r = 0; r < count; ++r) loss[r] = 0.0 - loss[r];
  });
}

// ---- state ----

const char* StatusText(int status) noexcept {
  switch (status) {
    case BOLTZMAX_OK: return "success";
    case BOLTZMAX_NULL_POINTER: return "a pointer to elements is NULL";
    case BOLTZMAX_BAD_SIZE: return "a size is negative, or more than memory can hold";
    case BOLTZMAX_MISALIGNED: return "a pointer is not aligned to its elements";
    case BOLTZMAX_OVERLAP: return "a result overlaps an operand without being it";
    case BOLTZMAX_BAD_TEMPERATURE: return "a temperature is not from 1e-30 to 1e30";
    case BOLTZMAX_BAD_TARGET: return "a target is not less than the number of classes";
    case BOLTZMAX_BAD_OPTION: return "an operation, type, axis, instruction set or number of threads is not known";
    case BOLTZMAX_NO_MEMORY: return "out of memory";
    case BOLTZMAX_FAILED: return "another request to the system failed";
    default: return "this is not a status";
  }
}

int ThreadsInUse() noexcept {
  int n = 1;
  Guarded([&] { n = NumThreads(); });
  return n;
}

int UseThreads(int n) noexcept {
  if (n < 1 || n > kMostThreads) return BOLTZMAX_BAD_OPTION;
  SetNumThreads(n);
  return BOLTZMAX_OK;
}

const char* IsaInUse() noexcept { return ActiveKernels().isa; }

int UseIsa(const char* name) noexcept {
  if (name == nullptr) return BOLTZMAX_NULL_POINTER;
  bool known = false;
  const int status = Guarded([&] {
    const auto names = AvailableIsas();
    known = std::find(names.begin(), names.end(), std::string(name)) != names.end();
    if (known) SelectIsa(name);
  });
  return known || status != BOLTZMAX_OK ? status : BOLTZMAX_BAD_OPTION;
}

const char* AvailableIsa(int i) noexcept {
  const char* name = nullptr;
  Guarded([&] {
    const auto names = AvailableIsas();
    if (i >= 0 && static_cast<size_t>(i) < names.size()) name = names[static_cast<size_t>(i)];
  });
  return name;
}

// ---- the table ----

// The header's order of members is the history of the interface; here it does not matter.
constexpr boltzmax_api MakeApi() {
  boltzmax_api api = {};
  api.abi_version = BOLTZMAX_ABI_VERSION;
  api.size = sizeof(boltzmax_api);
  api.version = BOLTZMAX_VERSION_STRING;
  api.status_text = StatusText;
  api.get_num_threads = ThreadsInUse;
  api.set_num_threads = UseThreads;
  api.isa = IsaInUse;
  api.select_isa = UseIsa;
  api.available_isa = AvailableIsa;
#define BOLTZMAX_ENTRIES(suffix, Storage, kDType, name, Name) \
  api.name##_##suffix = RunPlain<DType::kDType, Op::k##Name>; \
  api.name##_at_##suffix = RunAt<DType::kDType, Op::k##Name>;
#define BOLTZMAX_ENTRIES_OF_OPERATION(name, Name, ...) BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_ENTRIES, name, Name)
  BOLTZMAX_FOR_EACH_OPERATION(BOLTZMAX_ENTRIES_OF_OPERATION)
#define BOLTZMAX_BACKWARD_ENTRY(suffix, Storage, kDType, name, Name) \
  api.name##_backward_##suffix = RunBackward<DType::kDType, Op::k##Name>;
#define BOLTZMAX_ENTRIES_OF_GRADIENT(name, Name) BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_BACKWARD_ENTRY, name, Name)
  BOLTZMAX_FOR_EACH_GRADIENT(BOLTZMAX_ENTRIES_OF_GRADIENT)
#define BOLTZMAX_CROSS_ENTROPY_ENTRY(suffix, Storage, kDType, ...) \
  api.cross_entropy_##suffix = RunCrossEntropy<DType::kDType>;
  BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_CROSS_ENTROPY_ENTRY)
  api.run_strided = RunStrided;
  api.run_strided_backward = RunStridedBackward;
  return api;
}

constexpr boltzmax_api kApi = MakeApi();

}  // namespace

}  // namespace boltzmax

const boltzmax_api* boltzmax_get_api(uint32_t abi_version) {
  static const bool ready = boltzmax::Guarded(boltzmax::SelectIsaFromEnvironment) == BOLTZMAX_OK;
  return ready && abi_version == BOLTZMAX_ABI_VERSION ? &boltzmax::kApi : nullptr;
}

#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu_features.hpp"

namespace boltzmax {

namespace {

std::vector<const KernelTable*> UsableTables() {
  std::vector<const KernelTable*> tables;
#if defined(BOLTZMAX_HAS_AVX512)
  if (CpuHasAvx512()) tables.push_back(&avx512::kKernels);
#endif
#if defined(BOLTZMAX_HAS_AVX2)
  if (CpuHasAvx2()) tables.push_back(&avx2::kKernels);
#endif
#if defined(BOLTZMAX_HAS_NEON)
  tables.push_back(&neon::kKernels);
#endif
  tables.push_back(&scalar::kKernels);
  return tables;
}

// NOLINTNEXTLINE(bugprone-throwing-static-initialization): without memory for four pointers nobody is there to catch
std::atomic<const KernelTable*> active{UsableTables().front()};

}  // namespace

size_t ItemSize(DType dtype) {
  switch (dtype) {
    case DType::kBool:
    case DType::kInt8:
    case DType::kUInt8: return 1;
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kInt16:
    case DType::kUInt16: return 2;
    case DType::kFloat32:
    case DType::kInt32:
    case DType::kUInt32: return 4;
    default: return 8;
  }
}

std::vector<const char*> AvailableIsas() {
  std::vector<const char*> names;
  for (const KernelTable* table : UsableTables()) names.push_back(table->isa);
  return names;
}

const KernelTable& ActiveKernels() { return *active.load(std::memory_order_relaxed); }

namespace {

#define BOLTZMAX_CASE(suffix, Storage, kDType, ...) \
  case DType::kDType: return table.suffix;

// The member of a table for one storage type.
template <class Table>
const auto& OfStorage(const Table& table, DType storage) {
  switch (storage) {
    BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_CASE)
    default: throw std::logic_error("no kernels for this storage type");
  }
}
#undef BOLTZMAX_CASE

}  // namespace

const StorageKernels& KernelsFor(DType storage) { return OfStorage(ActiveKernels(), storage); }
const LossKernels& LossKernelsFor(DType storage) { return OfStorage(*ActiveKernels().losses, storage); }

void SelectIsa(const std::string& name) {
  std::string valid;
  for (const KernelTable* table : UsableTables()) {
    if (name == table->isa) {
      active.store(table, std::memory_order_relaxed);
      return;
    }
    valid += (valid.empty() ? "" : ", ") + std::string(table->isa);
  }
  throw std::invalid_argument("ISA '" + name + "' is unknown or not supported here; valid names: " + valid);
}

void SelectIsaFromEnvironment() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): at import, before there are threads of ours
  const char* name = std::getenv("BOLTZMAX_ISA");
  if (name != nullptr && *name != '\0') {
    try {
      SelectIsa(name);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string("BOLTZMAX_ISA: ") + error.what());
    }
  }
}

}  // namespace boltzmax

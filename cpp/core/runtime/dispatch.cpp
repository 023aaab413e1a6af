#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "bin_table.hpp"
#include "candidate_table.hpp"
#include "cpu_features.hpp"
#include "exact_total_table.hpp"
#include "quantised_table.hpp"
#include "sampling_table.hpp"

namespace boltzmax {

namespace {

// What one ISA has.
struct IsaTables {
  const KernelTable* kernels;
  const BinTable* bins;
  const CandidateTable* candidates;
  const ConversionTable* conversions;
  const DrawTable* draws;
  const ExactTotalTable* totals;
  const MomentTable* moments;
  const QuantisedTable* quantised;
  const QuantisedTable* dot_products;  // the same with dot products of bytes, or null
  const SamplingTable* sampling;
  const SetTable* sets;
  std::vector<const RowFamily*> families;
};

#define BOLTZMAX_FAMILY_OF(Name, isa) &isa::k##Name,
#define BOLTZMAX_TABLES_OF(isa, dot_products)                                                             \
  {                                                                                                       \
    &isa::kKernels, &isa::kBins, &isa::kCandidates, &isa::kConversions, &isa::kDraws, &isa::kExactTotals, \
        &isa::kMoments, &isa::kQuantised, dot_products, &isa::kSampling, &isa::kSets, {                   \
      BOLTZMAX_FOR_EACH_ROW_FAMILY(BOLTZMAX_FAMILY_OF, isa)                                               \
    }                                                                                                     \
  }
std::vector<IsaTables> UsableTables() {
  std::vector<IsaTables> tables;
#if defined(BOLTZMAX_HAS_AVX512)
  if (CpuHasAvx512())
    tables.push_back(BOLTZMAX_TABLES_OF(avx512, CpuHasAvx512Vnni() ? &avx512_vnni::kQuantised : nullptr));
#endif
#if defined(BOLTZMAX_HAS_AVX2)
  if (CpuHasAvx2()) tables.push_back(BOLTZMAX_TABLES_OF(avx2, CpuHasAvxVnni() ? &avx2_vnni::kQuantised : nullptr));
#endif
#if defined(BOLTZMAX_HAS_NEON)
  tables.push_back(BOLTZMAX_TABLES_OF(neon, CpuHasNeonDot() ? &neon_dot::kQuantised : nullptr));
#endif
  tables.push_back(BOLTZMAX_TABLES_OF(scalar, nullptr));
  return tables;
}
#undef BOLTZMAX_FAMILY_OF
#undef BOLTZMAX_TABLES_OF

// NOLINTBEGIN(bugprone-throwing-static-initialization): without memory for a few pointers nobody is there to catch
const std::vector<IsaTables> usable = UsableTables();
std::atomic<const IsaTables*> active{&usable.front()};
std::atomic<bool> dot_products{true};
// NOLINTEND(bugprone-throwing-static-initialization)

const IsaTables& Active() { return *active.load(std::memory_order_relaxed); }

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
  names.reserve(usable.size());
  for (const IsaTables& tables : usable) names.push_back(tables.kernels->isa);
  return names;
}

const KernelTable& ActiveKernels() { return *Active().kernels; }
const BinTable& ActiveBins() { return *Active().bins; }
const CandidateTable& ActiveCandidates() { return *Active().candidates; }
const ConversionTable& ActiveConversions() { return *Active().conversions; }
const DrawTable& ActiveDraws() { return *Active().draws; }
const ExactTotalTable& ActiveExactTotals() { return *Active().totals; }
const MomentTable& ActiveMoments() { return *Active().moments; }
const SetTable& ActiveSets() { return *Active().sets; }
const SamplingTable& ActiveSampling() { return *Active().sampling; }
const QuantisedTable& ActiveQuantised() {
  const IsaTables& tables = Active();
  return UsesDotProducts() && tables.dot_products != nullptr ? *tables.dot_products : *tables.quantised;
}
void UseDotProducts(bool use) { dot_products.store(use, std::memory_order_relaxed); }
bool UsesDotProducts() { return dot_products.load(std::memory_order_relaxed); }

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

namespace {

const RowFunction& FunctionOf(const IsaTables& tables, const std::string& name) {
  for (const RowFamily* family : tables.families) {
    for (size_t i = 0; i < family->count; ++i) {
      if (name == family->functions[i].name) return family->functions[i];
    }
  }
  throw std::invalid_argument("no function of rows is called " + name);
}

}  // namespace

const RowFunction& RowFunctionNamed(const std::string& name) { return FunctionOf(Active(), name); }
const RowFunction& PortableRowFunctionNamed(const std::string& name) { return FunctionOf(usable.back(), name); }
DType ComputeType(DType storage) { return storage == DType::kFloat64 ? storage : DType::kFloat32; }
RowKernel KernelOf(const RowFunction& function, DType compute) {
  return compute == DType::kFloat64 ? function.f64 : function.f32;
}

void SelectIsa(const std::string& name) {
  std::string valid;
  for (const IsaTables& tables : usable) {
    if (name == tables.kernels->isa) {
      active.store(&tables, std::memory_order_relaxed);
      return;
    }
    valid += (valid.empty() ? "" : ", ") + std::string(tables.kernels->isa);
  }
  throw std::invalid_argument("ISA '" + name + "' is unknown or not supported here; valid names: " + valid);
}

void SelectIsaFromEnvironment() {
  // NOLINTBEGIN(concurrency-mt-unsafe): at import, before there are threads of ours
  const char* use = std::getenv("BOLTZMAX_DOT_PRODUCTS");
  if (use != nullptr && std::string(use) == "0") UseDotProducts(false);
  const char* name = std::getenv("BOLTZMAX_ISA");
  // NOLINTEND(concurrency-mt-unsafe)
  if (name != nullptr && *name != '\0') {
    try {
      SelectIsa(name);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string("BOLTZMAX_ISA: ") + error.what());
    }
  }
}

}  // namespace boltzmax

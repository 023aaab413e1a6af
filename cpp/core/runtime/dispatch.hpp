// The choice of the ISA whose kernels run. The best is chosen once; BOLTZMAX_ISA or SelectIsa choose another.
#pragma once

#include <string>
#include <vector>

#include "../../kernels/conversion_types.hpp"
#include "../../kernels/draw_types.hpp"
#include "../../kernels/loss_types.hpp"
#include "../../kernels/moment_types.hpp"
#include "../../kernels/row_functions.hpp"
#include "../../kernels/set_types.hpp"
#include "../../kernels/types.hpp"

namespace boltzmax {

// The element types of arrays. The first ones have kernels; the others are converted as they are read.
#define BOLTZMAX_ENUMERATOR(suffix, Storage, kDType, ...) kDType,
enum class DType {
  BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_ENUMERATOR) kBool,
  kInt8,
  kUInt8,
  kInt16,
  kUInt16,
  kInt32,
  kUInt32,
  kInt64,
  kUInt64
};
#undef BOLTZMAX_ENUMERATOR

size_t ItemSize(DType dtype);

// The ISAs in this build that this processor supports, best first.
std::vector<const char*> AvailableIsas();

// The active tables.
const KernelTable& ActiveKernels();
const ConversionTable& ActiveConversions();
const DrawTable& ActiveDraws();
const MomentTable& ActiveMoments();
const SetTable& ActiveSets();
const StorageKernels& KernelsFor(DType storage);
const LossKernels& LossKernelsFor(DType storage);

// Throws std::invalid_argument for an unknown name.
const RowFunction& RowFunctionNamed(const std::string& name);
// That of the portable kernels, whose results have the same bits whatever the active ISA.
const RowFunction& PortableRowFunctionNamed(const std::string& name);
// The type of the numbers that functions of rows work on: float for 16 bits.
DType ComputeType(DType storage);
RowKernel KernelOf(const RowFunction& function, DType compute);

// Throws std::invalid_argument, which lists the valid names, for any other.
void SelectIsa(const std::string& name);

// Reads BOLTZMAX_ISA and BOLTZMAX_DOT_PRODUCTS; called once at import.
void SelectIsaFromEnvironment();

}  // namespace boltzmax

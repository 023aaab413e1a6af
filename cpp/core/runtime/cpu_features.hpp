// What the processor and the operating system together allow. CPUID says what the silicon has; XCR0 says which registers
// the system saves: both must agree before an instruction may be used.
#pragma once

#include <string>

namespace boltzmax {

bool CpuHasAvx2();    // AVX2, FMA, F16C
bool CpuHasAvx512();  // AVX2's, and AVX-512 F, BW, VL, DQ

// The processor's own name for itself, or its architecture.
std::string CpuName();

}  // namespace boltzmax

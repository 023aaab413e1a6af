// What the processor and the operating system together support. CPUID lists the processor's instructions, XCR0 the
// registers that the system saves; an instruction is usable only if both have it.
#pragma once

#include <string>

namespace boltzmax {

bool CpuHasAvx2();    // AVX2, FMA, F16C
bool CpuHasAvx512();  // those, and AVX-512 F, BW, VL, DQ

// Dot products of bytes.
bool CpuHasAvxVnni();
bool CpuHasAvx512Vnni();
bool CpuHasNeonDot();

// The processor's name for itself, or its architecture.
std::string CpuName();

}  // namespace boltzmax

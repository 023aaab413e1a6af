#include "cpu_features.hpp"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace boltzmax {

#if defined(__x86_64__) || defined(_M_X64)

namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers Cpuid(uint32_t leaf, uint32_t part = 0) {
  Registers r;
  if (leaf <= __get_cpuid_max(leaf & 0x80000000u, nullptr)) __cpuid_count(leaf, part, r.eax, r.ebx, r.ecx, r.edx);
  return r;
}

constexpr bool Bit(uint32_t word, int bit) { return ((word >> bit) & 1u) != 0; }

// The register state that the system saves and restores; 0 where it is not reported.
uint64_t SavedState() {
  if (!Bit(Cpuid(1).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

constexpr uint64_t kAvxState = 0x6;      // XMM and YMM
constexpr uint64_t kAvx512State = 0xe6;  // and masks, ZMM0-15 high halves, ZMM16-31

}  // namespace

bool CpuHasAvx2() {
  const Registers basic = Cpuid(1), extended = Cpuid(7);
  const bool silicon = Bit(basic.ecx, 12) && Bit(basic.ecx, 28) && Bit(basic.ecx, 29) && Bit(extended.ebx, 5);
  return silicon && (SavedState() & kAvxState) == kAvxState;
}

bool CpuHasAvx512() {
  const uint32_t ebx = Cpuid(7).ebx;
  const bool silicon = Bit(ebx, 16) && Bit(ebx, 17) && Bit(ebx, 30) && Bit(ebx, 31);
  return CpuHasAvx2() && silicon && (SavedState() & kAvx512State) == kAvx512State;
}

bool CpuHasAvxVnni() { return CpuHasAvx2() && Cpuid(7).eax >= 1 && Bit(Cpuid(7, 1).eax, 4); }
bool CpuHasAvx512Vnni() { return CpuHasAvx512() && Bit(Cpuid(7).ecx, 11); }
bool CpuHasNeonDot() { return false; }

std::string CpuName() {
  char name[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = Cpuid(0x80000002u + i);
    std::memcpy(name + size_t{16} * i, &r, sizeof r);
  }
  const std::string text = name;
  const auto first = text.find_first_not_of(' ');
  return first == std::string::npos ? "x86-64" : text.substr(first);
}

#else

bool CpuHasAvx2() { return false; }
bool CpuHasAvx512() { return false; }
bool CpuHasAvxVnni() { return false; }
bool CpuHasAvx512Vnni() { return false; }
bool CpuHasNeonDot() {
#if defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kDotProducts = 1UL << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProducts) != 0;
#elif defined(__aarch64__) && defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}
std::string CpuName() {
#if defined(__aarch64__) || defined(_M_ARM64)
  return "aarch64";
#else
  return "unknown";
#endif
}

#endif

}  // namespace boltzmax

// The CPU time that the control groups of this process leave it.
#pragma once

#include <string>

namespace boltzmax {

// CPUs' worth of time, rounded up, by the strictest limit of its own group and of those around it, of version 2 or 1; 0
// for no limit. `root` is the folder in which /proc and /sys are looked for: another one only in tests.
int CpuQuota(const std::string& root = "");

}  // namespace boltzmax

// The CPU time that control groups allow this process.
#pragma once

#include <string>

namespace boltzmax {

// The number of CPUs, rounded up, by the strictest limit of its own group and of the groups around it, of version 2 or
// 1; 0 for no limit. `root` is the folder that holds /proc and /sys, another one only in tests.
int CpuQuota(const std::string& root = "");

}  // namespace boltzmax

#include "cgroup.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace boltzmax {

namespace {

// The number of CPUs for a quota of microseconds per period, rounded up; a quota may be several CPUs or a fraction of
// one.
int Cpus(double quota, double period) {
  if (!(quota > 0 && period > 0)) return 0;
  const double cpus = std::min(std::ceil(quota / period), double{std::numeric_limits<int>::max()});
  return std::max(1, static_cast<int>(cpus));
}

// Version 2: "max 100000", or a number in place of "max".
int UnifiedLimit(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  std::string quota;
  double period = 0;
  file >> quota >> period;
  return Cpus(std::strtod(quota.c_str(), nullptr), period);
}

// Version 1: a quota of -1 means none.
int LegacyLimit(const std::string& group) {
  double quota = 0, period = 0;
  std::ifstream(group + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(group + "/cpu.cfs_period_us") >> period;
  return Cpus(quota, period);
}

int SmallerLimit(int a, int b) { return a == 0 || b == 0 ? std::max(a, b) : std::min(a, b); }

// The smallest limit of the group `path` and of all its ancestors up to the mount. A container may see the path that
// its host sees, but only its own group, which is then the mount itself.
int SmallestLimit(const std::string& mount, std::string path, int (*limit)(const std::string&)) {
  int smallest = limit(mount);
  while (path.size() > 1 && path.front() == '/') {
    smallest = SmallerLimit(smallest, limit(mount + path));
    path.resize(path.rfind('/'));
  }
  return smallest;
}

bool Lists(const std::string& controllers, const std::string& name) {
  return ("," + controllers + ",").find("," + name + ",") != std::string::npos;
}

}  // namespace

int CpuQuota(const std::string& root) {
  const std::string mounts = root + "/sys/fs/cgroup";
  int smallest = SmallerLimit(UnifiedLimit(mounts), LegacyLimit(mounts + "/cpu"));
  // Lines are number:controllers:path; version 2 has no controllers in its line.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string number, controllers, path;
       std::getline(groups, number, ':') && std::getline(groups, controllers, ':') && std::getline(groups, path);) {
    if (controllers.empty()) smallest = SmallerLimit(smallest, SmallestLimit(mounts, path, UnifiedLimit));
    if (Lists(controllers, "cpu")) smallest = SmallerLimit(smallest, SmallestLimit(mounts + "/cpu", path, LegacyLimit));
  }
  return smallest;
}

}  // namespace boltzmax

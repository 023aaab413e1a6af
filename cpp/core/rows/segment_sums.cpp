#include "segment_sums.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../../kernels/row_sum.hpp"

namespace boltzmax {

namespace {

void AddTo(Sum* total, double hi, double lo) {
  double error;
  total->hi = TwoSum(total->hi, hi, &error);
  total->lo += lo + error;
}

RowSum Degenerate(double max, bool nan) {
  const double sum = nan ? std::numeric_limits<double>::quiet_NaN() : (max > 0 ? max : 0.0);
  return {max, 0.0, 0.0, 0.0, sum, 0.0};
}

}  // namespace

double UnitRatio(const RowSum& from, const RowSum& to, double temperature) {
  const double k = from.exponent - to.exponent;
  if (from.offset == to.offset) return std::ldexp(1.0, static_cast<int>(k));
  // Two large numbers that nearly cancel: k times the high part of ln 2 is exact.
  using C = ExpConstants<double>;
  return std::exp(((from.offset - to.offset) / temperature + k * C::kLn2Hi) + k * C::kLn2Lo);
}

LongSum Combine(const std::vector<RowSum>& segments, double temperature, bool want_log, const StorageKernels& kernels,
                const std::function<Sum(size_t)>& rest) {
  size_t largest = 0;
  bool nan = false;
  for (size_t s = 0; s < segments.size(); ++s) {
    if (segments[s].max > segments[largest].max) largest = s;
    nan = nan || segments[s].hi != segments[s].hi;
  }
  const RowSum& top = segments[largest];
  if (nan || !IsFinite(top.max)) return {Degenerate(top.max, nan), {0.0, 0.0}};

  Sum others = {0.0, 0.0};
  for (size_t s = 0; s < segments.size(); ++s) {
    if (s == largest || segments[s].hi == 0.0) continue;
    const double unit = UnitRatio(segments[s], top, temperature);
    AddTo(&others, segments[s].hi * unit, segments[s].lo * unit);
  }
  Sum total = others;
  AddTo(&total, top.hi, top.lo);
  total.hi = TwoSum(total.hi, total.lo, &total.lo);
  LongSum result = {{top.max, top.offset, top.exponent, top.top, total.hi, total.lo}, {0.0, 0.0}};
  if (!want_log) return result;
  if (!IsPeaked(result.total, kPeakedWithoutFma)) {
    result.log_sum = kernels.log_of_sum(result.total);
  } else {
    const Sum below = rest(largest);
    AddTo(&others, below.hi, below.lo);
    result.log_sum = kernels.log_of_peaked_sum(result.total, others);
  }
  return result;
}

}  // namespace boltzmax

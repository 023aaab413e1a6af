#include "strided.hpp"

namespace boltzmax {

size_t CountElements(const Axes& axes) {
  size_t n = 1;
  for (const Axis& axis : axes) n *= axis.size;
  return n;
}

Axes Coalesce(const Axes& axes) {
  Axes merged;
  for (const Axis& axis : axes) {
    if (axis.size == 1) continue;
    if (!merged.empty()) {
      Axis& outer = merged.back();
      bool continues = true;
      for (size_t k = 0; k < kOperands; ++k) {
        continues = continues && outer.stride[k] == axis.stride[k] * static_cast<ptrdiff_t>(axis.size);
      }
      if (continues) {
        outer.size *= axis.size;
        outer.stride = axis.stride;
        continue;
      }
    }
    merged.push_back(axis);
  }
  return merged;
}

Offsets OffsetsAt(const Axes& axes, size_t i) {
  Offsets offsets{};
  for (size_t d = axes.size(); d-- > 0;) {
    const auto index = static_cast<ptrdiff_t>(i % axes[d].size);
    i /= axes[d].size;
    for (size_t k = 0; k < kOperands; ++k) offsets[k] += index * axes[d].stride[k];
  }
  return offsets;
}

}  // namespace boltzmax

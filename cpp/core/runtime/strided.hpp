// Arrays as sets of strided lines: their axes, how axes merge, and how to walk them.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace boltzmax {

// The operands that an operation may have. Strides are in bytes; an operand that is absent has strides of 0.
enum Operand { kX, kY, kMask, kTemperature, kOther, kOperands };

struct Axis {
  size_t size;
  std::array<ptrdiff_t, kOperands> stride;
};

using Axes = std::vector<Axis>;
using Offsets = std::array<ptrdiff_t, kOperands>;

size_t CountElements(const Axes& axes);

// The same elements in the same order with as few axes as possible: without axes of size 1, and with neighbours joined
// where one continues the other for every operand.
Axes Coalesce(const Axes& axes);

// Byte offsets of element i, counted in C order.
Offsets OffsetsAt(const Axes& axes, size_t i);

// Calls f(offsets, run, stride, position) for elements [begin, end) in C order, in runs along the last axis: `run`
// elements from `offsets` on, with the strides of that axis; `position` counts them from begin.
template <class F>
void ForEachRun(const Axes& axes, size_t begin, size_t end, F f) {
  if (axes.empty()) {
    if (begin < end) f(Offsets{}, size_t{1}, Offsets{}, size_t{0});
    return;
  }
  const Axis& last = axes.back();
  for (size_t i = begin; i < end;) {
    const size_t room = last.size - i % last.size;
    const size_t run = room < end - i ? room : end - i;
    f(OffsetsAt(axes, i), run, last.stride, i - begin);
    i += run;
  }
}

}  // namespace boltzmax

// The gradients of operations on arrays of any layout.
#pragma once

#include "../runtime/dispatch.hpp"
#include "../runtime/strided.hpp"

namespace boltzmax {

// dx from dy and y, all of type `storage`. In the axes, dy is operand kX, y operand kMask and dx operand kY. dx may be
// dy or y itself, element for element, and must not overlap them otherwise.
struct GradProblem {
  Op op;  // one that has a gradient
  DType storage;
  const char* dy;
  const char* y;
  char* dx;
  Axes outer, inner;
};

void Run(const GradProblem& problem);

// The same for aligned, C-contiguous operands, `rows` times `n`; the axes of the problem are ignored. Small ones go
// straight to a kernel.
void RunContiguous(const GradProblem& problem, size_t rows, size_t n);

}  // namespace boltzmax

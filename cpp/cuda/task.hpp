// What the device is asked to do: plain structs, for the host's side and the device's.
#pragma once

#include <stdint.h>

namespace boltzmax::cuda {

enum class Operation : int32_t {
  kSoftmax,
  kLogSoftmax,
  kLogSumExp,
  kSoftmaxBackward,
  kLogSoftmaxBackward,
  kCrossEntropy,
};
enum class Storage : int32_t { kFloat32, kFloat64, kFloat16, kBFloat16 };

inline constexpr int kMaxAxes = 8, kMaxOperands = 3;

// Axes that are walked together, strides in bytes, one for each operand. The first varies slowest.
struct Axes {
  int32_t count;
  int64_t size[kMaxAxes];
  int64_t stride[kMaxOperands][kMaxAxes];
};

// Rows of n elements: the outer axes lead to a row, the inner ones along it. Operands: x (dy), y (dx), and a mask (the
// y that a gradient belongs to).
struct Task {
  Operation operation;
  Storage storage;
  const char* x;
  char* y;            // null where only a loss is wanted
  const char* third;  // bools, or null; of a gradient, y
  int64_t rows, n;
  Axes outer, inner;
  double temperature;

  // Cross-entropy: y is the gradient, scale[0] * gain (softmax - [j = target]), and the loss of a row goes to loss[row].
  // A negative target leaves its row out; one that is no class makes loss and gradient NaN.
  const int64_t* target;
  char* loss;
  const double* scale;  // null for 1
  double gain;
};

}  // namespace boltzmax::cuda

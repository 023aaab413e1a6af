// Tasks for the device: plain structs that host and device share.
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
  kStatistics,
};
constexpr bool IsGradient(Operation operation) {
  return operation == Operation::kSoftmaxBackward || operation == Operation::kLogSoftmaxBackward;
}

enum class Storage : int32_t { kFloat32, kFloat64, kFloat16, kBFloat16 };

inline constexpr int kMaxAxes = 8, kMaxOperands = 3;

// T, 1/T rounded, and its rounding error. Divided once, on the host, since many devices are slow at double precision.
struct TemperatureParts {
  double value, inverse, error;
};

// Axes that are walked together; strides in bytes, one per operand. The first axis varies slowest.
struct Axes {
  int32_t count;
  int64_t size[kMaxAxes];
  int64_t stride[kMaxOperands][kMaxAxes];
};

// Rows of n elements: the outer axes lead to a row, the inner ones along it. Operands: x (or dy), y (or dx), and a mask
// (or, for a gradient, y).
struct Task {
  Operation operation;
  Storage storage;
  const char* x;
  char* y;            // null if only a loss is wanted
  const char* third;  // bools, or null; for a gradient, y
  int64_t rows, n;
  Axes outer, inner;
  TemperatureParts temperature;

  // Cross-entropy: y is the gradient, scale[0] * gain (softmax - [j = target]); the loss of a row is stored in
  // loss[row]. A row with a negative target is ignored; a target that is not a class makes loss and gradient NaN.
  const int64_t* target;
  char* loss;
  const double* scale;  // or null, for 1
  double gain;
};

// The destinations of row statistics: one number of the arithmetic type per row, k for the top. Null for those not
// wanted; `target`s are the task's. A target that is not a class has rank 0.
struct Statistics {
  char *lse, *energy, *entropy;
  int64_t k;
  int64_t* top_ids;
  char* top_log_probs;
  char* target_log_prob;
  int64_t* target_rank;
};

// Cross-entropy of hidden weight' + bias, contiguous matrices of one storage type. A loss per row; gradients, if
// wanted, are those of the sum or mean of the losses. Losses and gradients are of the arithmetic type. At most about
// `tile` logits exist at a time.
struct LinearTask {
  Storage storage;
  const void *hidden, *weight, *bias;  // bias may be null
  int64_t rows, features, classes;
  const int64_t* target;
  TemperatureParts temperature;
  void *losses, *d_hidden, *d_weight, *d_bias;
  const double* scale;  // or null, for 1
  int64_t tile;
};

// The arrays of TreeView (core/trees/tree.hpp), on the device.
struct TreeOnDevice {
  const int32_t *parent, *slot, *child;
  const int64_t *child_begin, *unit_begin;
  int64_t classes, inner;
};

// The losses of rows along the paths to their targets; and, if d_hidden is not null, the gradients of scale[0] times
// their sum, those of the weights added to existing values. All arrays are contiguous; hidden, weight and bias have one
// storage type, the others its arithmetic type. No path has more units than `longest`.
struct LayerTask {
  Storage storage;
  TreeOnDevice tree;
  const void *weight, *bias, *hidden;  // bias may be null
  int64_t features, rows;
  const int64_t* target;
  int64_t longest;
  const double* scale;   // or null, for 1
  bool gives_log_probs;  // instead of losses
  void *losses, *d_hidden, *d_weight, *d_bias;
};

// The k likeliest classes of at least that log-probability; no node has more units than `widest`.
struct TopTask {
  int64_t k;
  double min_log_prob;
  int64_t widest;
  int64_t* ids;
  void* log_probs;
};

}  // namespace boltzmax::cuda

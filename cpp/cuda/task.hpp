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
  kStatistics,
};
constexpr bool IsGradient(Operation operation) {
  return operation == Operation::kSoftmaxBackward || operation == Operation::kLogSoftmaxBackward;
}

enum class Storage : int32_t { kFloat32, kFloat64, kFloat16, kBFloat16 };

inline constexpr int kMaxAxes = 8, kMaxOperands = 3;

// T, 1/T as it is rounded, and what that lacks: divided here once, as many devices have little double precision.
struct TemperatureParts {
  double value, inverse, error;
};

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
  TemperatureParts temperature;

  // Cross-entropy: y is the gradient, scale[0] * gain (softmax - [j = target]), and the loss of a row goes to loss[row].
  // A negative target leaves its row out; one that is no class makes loss and gradient NaN.
  const int64_t* target;
  char* loss;
  const double* scale;  // null for 1
  double gain;
};

// Where the statistics of rows go: a number of what is computed for each row, k for the top. Null for what is not wanted;
// `target`s are the task's. One that is no class has rank 0.
struct Statistics {
  char *lse, *energy, *entropy;
  int64_t k;
  int64_t* top_ids;
  char* top_log_probs;
  char* target_log_prob;
  int64_t* target_rank;
};

// Cross-entropy of hidden weight' + bias, contiguous matrices of one storage: a loss for each row; its sum or mean has the
// gradients, if they are wanted. Losses and gradients are of what is computed. No more than about `tile` logits are there
// at a time.
struct LinearTask {
  Storage storage;
  const void *hidden, *weight, *bias;  // no bias: null
  int64_t rows, features, classes;
  const int64_t* target;
  TemperatureParts temperature;
  void *losses, *d_hidden, *d_weight, *d_bias;
  const double* scale;  // null for 1
  int64_t tile;
};

// The arrays of core/trees/tree.hpp's TreeView, on the device.
struct TreeOnDevice {
  const int32_t *parent, *slot, *child;
  const int64_t *child_begin, *unit_begin;
  int64_t classes, inner;
};

// The paths of rows to their targets: their losses; and where d_hidden is not null, the gradients of scale[0] times their
// sum, those of the weights added to what is there. All contiguous; hidden, weight and bias of one storage, the rest of
// what is computed. No path has more units than `longest`.
struct LayerTask {
  Storage storage;
  TreeOnDevice tree;
  const void *weight, *bias, *hidden;  // no bias: null
  int64_t features, rows;
  const int64_t* target;
  int64_t longest;
  const double* scale;   // null for 1
  bool gives_log_probs;  // in the place of losses
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

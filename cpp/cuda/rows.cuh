// Rows: the addresses of their elements, and their results. A row is reduced to a RowSum, and mapped with it.
#pragma once

#include "row_sum.cuh"
#include "task.hpp"

namespace boltzmax::cuda {

// ---- addresses ----

enum Operand : int { kX = 0, kY = 1, kThird = 2 };

// 64-bit divisions take much code: one copy of them, for the slow path.
template <int kUnused = 0>
__device__ __noinline__ int64_t OffsetAlongAxes(const Axes& axes, int operand, int64_t index) {
  int64_t offset = 0;
  BOLTZMAX_NO_UNROLL
  for (int d = axes.count - 1; d > 0; --d) {
    offset += index % axes.size[d] * axes.stride[operand][d];
    index /= axes.size[d];
  }
  return offset + index * axes.stride[operand][0];
}
BOLTZMAX_DEVICE int64_t OffsetOf(const Axes& axes, int operand, int64_t index) {
  return axes.count <= 1 ? index * axes.stride[operand][0] : OffsetAlongAxes(axes, operand, index);
}

template <class S>
struct RowOf {
  const Task& task;
  const char* x;
  char* y;
  const char* third;

  BOLTZMAX_DEVICE RowOf(const Task& t, int64_t r)
      : task(t),
        x(t.x + OffsetOf(t.outer, kX, r)),
        y(t.y == nullptr ? nullptr : t.y + OffsetOf(t.outer, kY, r)),
        third(t.third == nullptr ? nullptr : t.third + OffsetOf(t.outer, kThird, r)) {}

  BOLTZMAX_DEVICE bool Counts(int64_t i) const {
    return third == nullptr || *(third + OffsetOf(task.inner, kThird, i)) != 0;
  }
  BOLTZMAX_DEVICE Compute<S> X(int64_t i) const {
    return Widen(*reinterpret_cast<const S*>(x + OffsetOf(task.inner, kX, i)));
  }
  BOLTZMAX_DEVICE Compute<S> Third(int64_t i) const {
    return Widen(*reinterpret_cast<const S*>(third + OffsetOf(task.inner, kThird, i)));
  }
  BOLTZMAX_DEVICE void SetY(int64_t i, Compute<S> value) const {
    *reinterpret_cast<S*>(y + OffsetOf(task.inner, kY, i)) = Narrow<S>(value);
  }
};

// ---- results of an element, and of a row ----

template <class T>
struct Result {
  const Task& task;
  RowTotals<T> totals;
  Temperature<T> temperature;
  int64_t target;  // -1 if there is none, or the row is ignored
  T gain;

  // `shared` has room for two numbers; null if the threads are those of one warp.
  BOLTZMAX_DEVICE Result(const Task& t, int64_t r, const RowSum<T>& sum, T* shared)
      : task(t), totals(sum), temperature(t.temperature), target(-1), gain(1) {
    if (task.operation != Operation::kSoftmax) FindLog(sum, shared);
    if (task.operation != Operation::kCrossEntropy) return;
    target = task.target[r];
    gain = static_cast<T>(task.gain * (task.scale == nullptr ? 1.0 : *task.scale));
    if (target >= task.n) gain = NotANumber<T>();
  }

  // One warp computes it, and passes it to the others of its block.
  BOLTZMAX_DEVICE void FindLog(const RowSum<T>& sum, T* shared) {
    if (shared == nullptr || threadIdx.x < 32) totals.FindLog(sum);
    if (shared == nullptr) return;
    if (threadIdx.x == 0) {
      shared[0] = totals.log_hi;
      shared[1] = totals.log_lo;
    }
    __syncthreads();
    totals.log_hi = shared[0];
    totals.log_lo = shared[1];
  }

  // softmax, given exp(x - max)
  BOLTZMAX_DEVICE T Share(T e) const { return MulAdd(e, totals.inverse_hi, e * totals.inverse_lo); }
  // (x - max) / T - log of the sum
  BOLTZMAX_DEVICE T LogShare(T x) const { return (temperature.Divide(x - totals.max) - totals.log_hi) - totals.log_lo; }

  // The result of an element that counts, from x for kLogSoftmax, else from exp(x - max). 16-bit results do not need
  // the low halves.
  template <Operation operation, class S>
  BOLTZMAX_DEVICE T Map(T kept, bool is_target) const {
    constexpr bool kRough = sizeof(S) < sizeof(T);
    if constexpr (operation == Operation::kLogSoftmax) {
      return kRough ? (kept - totals.max) * temperature.inverse_hi - totals.log_hi : LogShare(kept);
    } else {
      const T p = kRough ? kept * totals.inverse_hi : Share(kept);
      if constexpr (operation != Operation::kCrossEntropy) return p;
      return target < 0 ? T(0) : gain * (p - (is_target ? T(1) : T(0)));
    }
  }
  static constexpr BOLTZMAX_DEVICE T Uncounted(Operation operation) {
    return operation == Operation::kLogSoftmax ? -Infinity<T>() : T(0);
  }

  BOLTZMAX_DEVICE T LogSumExp() const {
    if (totals.is_empty) return -Infinity<T>();
    if (totals.log_hi != totals.log_hi) return totals.log_hi;
    if (totals.max - totals.max != T(0)) return totals.max;
    const double log = static_cast<double>(totals.log_hi) + static_cast<double>(totals.log_lo);
    return static_cast<T>(static_cast<double>(totals.max) / task.temperature.value + log);
  }
  // Stores the result of the whole row: its logarithm, or its loss.
  template <class S>
  BOLTZMAX_DEVICE void StoreOfRow(int64_t r, const RowOf<S>& row) const {
    if (task.operation == Operation::kLogSumExp) *reinterpret_cast<S*>(row.y) = Narrow<S>(LogSumExp());
    if (task.operation != Operation::kCrossEntropy) return;
    T loss = T(0);
    const bool is_finite = totals.max - totals.max == T(0);
    if (target >= task.n || (target >= 0 && !is_finite)) {
      loss = NotANumber<T>();
    } else if (target >= 0) {
      loss = T(0) - LogShare(row.X(target));
    }
    reinterpret_cast<T*>(task.loss)[r] = loss;
  }
  BOLTZMAX_DEVICE bool MapsElements() const { return task.operation != Operation::kLogSumExp && task.y != nullptr; }
};

}  // namespace boltzmax::cuda

#include "pointwise.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "../../kernels/pointwise_table.hpp"
#include "../rows/running_sum.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

// A kernel gets this many elements at a time: what must be converted for it, or back, stays in the nearest caches. A
// thread takes kBlock. Both are fixed, so that sums have the same bits.
constexpr size_t kPiece = 2048, kBlock = 16 * kPiece;

// Buffers for a piece: operands, losses, and the gradient before and after narrowing.
enum Slot { kXSlot, kTargetSlot, kWeightSlot, kPosWeightSlot, kLossSlot, kGradientSlot, kNarrowSlot, kSlots };
constexpr size_t kSlotBytes = kPiece * sizeof(double);
thread_local Scratch slots;

char* SlotAt(Slot slot) { return slots.Get(kSlots * kSlotBytes) + slot * kSlotBytes; }

// The type whose kernel runs.
DType KernelStorage(const PointProblem& p) {
  DType storage = p.x.dtype;
  for (const Elements* e : {&p.x, &p.target, &p.weight, &p.pos_weight}) {
    if (e->at == nullptr || e->dtype == storage) continue;
    storage = e->dtype == DType::kFloat64 || storage == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  }
  return storage;
}

using PointKernel = Sum (*)(const PointPiece&);

PointKernel KernelFor(PointLoss loss, DType storage) {
  const PointwiseTable& table = *ActiveKernels().pointwise;
  const PointKernels* kernels = nullptr;
  switch (storage) {
    case DType::kFloat32: kernels = &table.f32; break;
    case DType::kFloat64: kernels = &table.f64; break;
    case DType::kFloat16: kernels = &table.f16; break;
    case DType::kBFloat16: kernels = &table.bf16; break;
    default: throw std::logic_error("no kernels for this storage type");
  }
  switch (loss) {
    case PointLoss::kBinaryCrossEntropy: return kernels->binary_cross_entropy;
    case PointLoss::kDivergence: return kernels->divergence;
    case PointLoss::kDivergenceOfLogs: return kernels->divergence_of_logs;
  }
  throw std::logic_error("unknown loss");
}

bool IsFlat(const Axes& axes, size_t item) {
  return axes.empty() || (axes.size() == 1 && axes[0].stride[kX] == static_cast<ptrdiff_t>(item));
}

bool IsAligned(const char* p, size_t item) { return reinterpret_cast<uintptr_t>(p) % item == 0; }

// The axes of n contiguous elements.
Axes FlatAxes(size_t n, size_t item) { return {{n, {static_cast<ptrdiff_t>(item), 0, 0, 0}}}; }

DType LossType(DType x) { return x == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32; }

// Gives a kernel one operand: in place, or gathered and converted into a buffer.
class Reader {
 public:
  Reader(const Elements& elements, DType storage, size_t n, Slot slot)
      : at_(elements.at), item_(ItemSize(storage)), axes_(Coalesce(elements.axes)), slot_(slot) {
    if (at_ == nullptr) return;
    const size_t item = ItemSize(elements.dtype);
    const bool flat = IsFlat(axes_, item);
    if (flat && elements.dtype == storage && IsAligned(at_, item)) return;
    if (flat) axes_ = FlatAxes(n, item);
    gather_ = Gather(elements.dtype, storage);
  }

  const void* Read(size_t begin, size_t n) const {
    if (gather_ == nullptr) return at_ == nullptr ? nullptr : at_ + begin * item_;
    char* slot = SlotAt(slot_);
    GatherLine(gather_, axes_, kX, at_, begin, n, item_, slot);
    return slot;
  }

 private:
  const char* at_;
  size_t item_;
  Axes axes_;
  Slot slot_;
  GatherFn gather_ = nullptr;
};

// Gives a kernel memory for the losses, and moves them to their destination.
class LossWriter {
 public:
  LossWriter(char* at, DType dtype, DType storage) : at_(at), item_(ItemSize(dtype)) {
    if (LossType(storage) != dtype) narrow_ = Gather(LossType(storage), dtype);
  }

  void* Place(size_t begin) const {
    if (at_ == nullptr) return nullptr;
    return narrow_ == nullptr ? at_ + begin * item_ : SlotAt(kLossSlot);
  }
  void Deliver(size_t begin, size_t n) const {
    if (at_ != nullptr && narrow_ != nullptr) narrow_(SlotAt(kLossSlot), sizeof(double), n, at_ + begin * item_);
  }

 private:
  char* at_;
  size_t item_;
  GatherFn narrow_ = nullptr;
};

// The same for the gradient.
class GradientWriter {
 public:
  GradientWriter(const PointProblem& p, DType storage)
      : at_(p.gradient), item_(ItemSize(p.x.dtype)), wide_(ItemSize(storage)), axes_(Coalesce(p.gradient_axes)) {
    if (at_ == nullptr) return;
    const bool flat = IsFlat(axes_, item_);
    if (p.x.dtype != storage) narrow_ = Gather(storage, p.x.dtype);
    if (flat && narrow_ == nullptr && IsAligned(at_, item_)) return;
    if (flat) axes_ = FlatAxes(p.n, item_);
    scatter_ = Scatter(p.x.dtype);
  }

  void* Place(size_t begin) const {
    if (at_ == nullptr) return nullptr;
    return scatter_ == nullptr ? at_ + begin * item_ : SlotAt(kGradientSlot);
  }
  void Deliver(size_t begin, size_t n) const {
    if (scatter_ == nullptr) return;
    const char* from = SlotAt(kGradientSlot);
    if (narrow_ != nullptr) {
      narrow_(from, static_cast<ptrdiff_t>(wide_), n, SlotAt(kNarrowSlot));
      from = SlotAt(kNarrowSlot);
    }
    ScatterLine(scatter_, axes_, kX, at_, begin, n, item_, from);
  }

 private:
  char* at_;
  size_t item_, wide_;
  Axes axes_;
  GatherFn narrow_ = nullptr;
  ScatterFn scatter_ = nullptr;
};

class PointPlan {
 public:
  explicit PointPlan(const PointProblem& p)
      : storage_(KernelStorage(p)),
        kernel_(KernelFor(p.loss, storage_)),
        divisor_(p.divisor),
        n_(p.n),
        x_(p.x, storage_, p.n, kXSlot),
        target_(p.target, storage_, p.n, kTargetSlot),
        weight_(p.weight, storage_, p.n, kWeightSlot),
        pos_weight_(p.pos_weight, storage_, p.n, kPosWeightSlot),
        losses_(p.losses, LossType(p.x.dtype), storage_),
        gradient_(p, storage_) {}

  Sum RunBlock(size_t block) const {
    RunningSum sum;
    const size_t end = std::min(n_, (block + 1) * kBlock);
    for (size_t i = block * kBlock; i < end; i += kPiece) sum.Add(RunPiece(i, std::min(kPiece, end - i)));
    return sum.Parts();
  }

 private:
  Sum RunPiece(size_t begin, size_t n) const {
    const Sum sum = kernel_({x_.Read(begin, n), target_.Read(begin, n), weight_.Read(begin, n),
                             pos_weight_.Read(begin, n), losses_.Place(begin), gradient_.Place(begin), divisor_, n});
    losses_.Deliver(begin, n);
    gradient_.Deliver(begin, n);
    return sum;
  }

  DType storage_;
  PointKernel kernel_;
  double divisor_;
  size_t n_;
  Reader x_, target_, weight_, pos_weight_;
  LossWriter losses_;
  GradientWriter gradient_;
};

}  // namespace

double EstimateNanoseconds(const PointProblem& problem) {
  return 4.0 * EstimateNanoseconds(problem.n, KernelStorage(problem));
}

double Run(const PointProblem& problem) {
  const PointPlan plan(problem);
  RunningSum total;
  const size_t blocks = (problem.n + kBlock - 1) / kBlock;
  if (blocks == 1) {
    total.Add(plan.RunBlock(0));
  } else {
    std::vector<Sum> sums(blocks);
    ParallelFor(blocks, EstimateNanoseconds(problem), [&](size_t b) { sums[b] = plan.RunBlock(b); });
    for (const Sum& sum : sums) total.Add(sum);
  }
  return total.Total();
}

}  // namespace boltzmax
